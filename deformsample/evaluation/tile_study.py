"""Accuracy and cost of tiling: one network on whole images and on tiles of several sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter

import torch
from torch import Tensor
from tqdm import tqdm

from deformsample.conventions import Size
from deformsample.data import SegmentationSplit
from deformsample.errors import ArgumentError
from deformsample.evaluation.cost import memory_in_use, peak_memory
from deformsample.metrics.iou import confusion
from deformsample.segmenters import TiledSegmenter

SMOOTHING = 1.0
"""Added above and below the line of Dice and IoU, so that empty images have a value."""


@dataclass(frozen=True)
class Setting:
    """How a network is applied to an image."""

    tile: Size | None
    """(height, width) of a tile; ``None`` for the whole image at once."""

    overlap: float = 0.0

    @property
    def name(self) -> str:
        """For tables and figures."""
        if self.tile is None:
            return "whole"
        return f"{self.tile[0]} x {self.tile[1]}, overlap {self.overlap:g}"

    def segmenter(self, like: TiledSegmenter, size: Size) -> TiledSegmenter:
        """The network of another segmenter, applied in this way to an image of a size (H, W)."""
        height, width = (-(-side // like.downscale) * like.downscale for side in size)
        return TiledSegmenter(
            like.network,
            self.tile or (height, width),
            self.overlap,
            like.blending,
            like.downscale,
            like.network_multiple,
        ).eval()


@dataclass(frozen=True)
class Outcome:
    """One image with one setting."""

    image: str
    setting: Setting
    confusion: Tensor
    """Pixels (k, k) by true and predicted class."""

    foreground: Sequence[int]
    """Ids of the classes that count as found or missed."""

    pixels: int
    """That the network saw, with those that it saw again."""

    seconds: float

    @property
    def counts(self) -> tuple[int, int, int]:
        """Pixels of the foreground, whichever of its classes: right, false, and missed."""
        chosen = torch.zeros(len(self.confusion), dtype=torch.bool)
        chosen[list(self.foreground)] = True
        parts = (self.confusion[chosen][:, chosen], self.confusion[~chosen][:, chosen])
        return (
            int(parts[0].sum()),
            int(parts[1].sum()),
            int(self.confusion[chosen][:, ~chosen].sum()),
        )

    @property
    def dice(self) -> float:
        """Of the foreground, smoothed (Reina and Panchumarthy 2018, equation 1)."""
        right, false, missed = self.counts
        return (2 * right + SMOOTHING) / (2 * right + false + missed + SMOOTHING)

    @property
    def iou(self) -> float:
        """Of the foreground, smoothed alike."""
        right, false, missed = self.counts
        return (right + SMOOTHING) / (right + false + missed + SMOOTHING)


@dataclass(frozen=True)
class Comparison:
    """The Dice of a reference less that of a setting, image by image."""

    differences: Sequence[float]

    @property
    def mean(self) -> float:
        """Mean over the images."""
        return math.fsum(self.differences) / len(self.differences)

    def share(self, least: float, *, above: bool = False) -> float:
        """Share of the images whose difference is at least, or ``above``, a value."""
        chosen = [d > least if above else d >= least for d in self.differences]
        return sum(chosen) / len(chosen)

    def share_below(self, most: float) -> float:
        """Share of the images whose difference is below a value."""
        return sum(d < most for d in self.differences) / len(self.differences)


@torch.inference_mode()
def measure(
    segmenter: TiledSegmenter,
    part: SegmentationSplit,
    settings: Sequence[Setting],
    foreground: Sequence[int],
) -> list[Outcome]:
    """Segment every image with every setting.

    Args:
        segmenter: whose network it is, in eval mode.
        part: images and labels.
        settings: how to apply it.
        foreground: ids of the classes that count as found or missed.
    """
    device, count = segmenter.device, len(part.dataset.classes)
    outcomes = []
    for index in tqdm(range(len(part)), unit="image", leave=False, disable=None):
        item = part[index]
        image, labels = item["image"].to(device)[None], item["labels"]
        size = (labels.shape[0], labels.shape[1])
        for setting in settings:
            tiled = setting.segmenter(segmenter, size).to(device)
            start = perf_counter()
            predicted = tiled.segment(image)[0].cpu()
            seconds = perf_counter() - start
            counts = confusion(predicted, labels, count)
            name = part.samples[index].name
            outcome = Outcome(name, setting, counts, foreground, tiled.pixels(size), seconds)
            outcomes.append(outcome)
    return outcomes


@torch.inference_mode()
def memory(
    segmenter: TiledSegmenter, part: SegmentationSplit, settings: Sequence[Setting]
) -> dict[Setting, float]:
    """Megabytes above those at rest that the first image needs at most, by setting.

    From the smallest tile to the largest, so that what a process keeps of its earlier work does not
    hide what it needs. Empty if the system does not report memory.
    """
    device = segmenter.device
    image = part[0]["image"].to(device)[None]
    size = (image.shape[2], image.shape[3])
    rest = memory_in_use(device)
    megabytes: dict[Setting, float] = {}
    for setting in sorted(settings, key=lambda s: math.prod(s.tile or size)):
        tiled = setting.segmenter(segmenter, size).to(device)
        measured = peak_memory(partial(tiled.segment, image), device, rest)
        if "megabytes" in measured:
            megabytes[setting] = measured["megabytes"]
    return megabytes


def compare(outcomes: Sequence[Outcome], reference: Setting, setting: Setting) -> Comparison:
    """Two settings, by the Dice of each image.

    Raises:
        ArgumentError: no image was measured with both.
    """
    dice = {
        wanted: {o.image: o.dice for o in outcomes if o.setting == wanted}
        for wanted in (reference, setting)
    }
    both = [name for name in dice[reference] if name in dice[setting]]
    if not both:
        raise ArgumentError(f"Expected images that {reference.name} and {setting.name} share.")
    return Comparison([dice[reference][name] - dice[setting][name] for name in both])
