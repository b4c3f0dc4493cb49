"""Sampling grids of a video: predicted for each frame, or kept for some frames.

    python -m benchmarks.video CKPT --uniform CKPT --config camvid.yaml --root PATH

The frames of a split are one video, in the order of their names. All methods segment a frame before
any segments the next one, so that their times are of the same minutes. Times are medians of the
means over five frames, without reading, relative to a grid for each frame.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from statistics import fmean, median
from time import perf_counter

import torch
from torch import Tensor

from deformsample.conventions import IGNORE_INDEX
from deformsample.data import SegmentationSplit
from deformsample.data.from_config import build_data, read_config
from deformsample.inference.loading import load
from deformsample.inference.model import SegmentationModel
from deformsample.metrics.iou import boundary_counts, confusion, mean_iou

_KEPT = (1, 2, 5, 10**9)
_FRAMES = 5


class Run:
    """A method on a video, frame by frame."""

    def __init__(self, name: str, model: SegmentationModel, keep: int) -> None:
        count = len(model.classes)
        self.name = name
        self.frame: Tensor | None = None
        self.labels: Iterator[Tensor] = model.stream(self._frames(), keep)
        self.counts = torch.zeros(count, count, dtype=torch.long)
        self.bands = torch.zeros(2, count, dtype=torch.long)
        self.seconds: list[float] = []

    def _frames(self) -> Iterator[Tensor]:
        while self.frame is not None:
            yield self.frame

    def step(self, image: Tensor, true: Tensor, width: int) -> None:
        """Segment and count one frame."""
        self.frame = image
        start = perf_counter()
        labels = next(self.labels)
        self.seconds.append(perf_counter() - start)
        count = len(self.counts)
        self.counts += confusion(labels, true, count)
        self.bands += boundary_counts(
            labels.numpy(), true.numpy(), num_classes=count, width=width, ignore_index=IGNORE_INDEX
        )

    def time(self) -> float:
        """The median of the means over consecutive frames, after the first ones."""
        starts = range(_FRAMES, len(self.seconds) - _FRAMES + 1, _FRAMES)
        return median(fmean(self.seconds[start : start + _FRAMES]) for start in starts)


def main() -> None:
    """Print a Markdown table, one line per method."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("checkpoint")
    parser.add_argument("--uniform", required=True)
    parser.add_argument("--config", required=True)
    parser.add_argument("--root")
    parser.add_argument("--split", default="val", choices=("train", "val", "test"))
    parser.add_argument("--width", type=int, default=2, help="of boundary bands, in pixels")
    options = parser.parse_args()
    data = build_data(read_config(options.config), options.root, options.config)
    frames = SegmentationSplit(data.dataset, data.splits[options.split])
    model, uniform = (
        load(file, kind=SegmentationModel) for file in (options.checkpoint, options.uniform)
    )
    names = ("each frame", *(f"every {keep} frames" for keep in _KEPT[1:-1]), "the first frame")
    runs = [Run(name, model, keep) for name, keep in zip(names, _KEPT, strict=True)]
    runs.append(Run("uniform sampling", uniform, 1))
    for item in (frames[number] for number in range(len(frames))):
        for run in runs:
            run.step(item["image"], item["labels"], options.width)
    print("| a grid for | mean IoU | boundary IoU | time |")
    print("|---|---|---|---|")
    for run in runs:
        boundary = float((run.bands[0].double() / run.bands[1]).nanmean())
        scores = f"{float(mean_iou(run.counts)):.3f} | {boundary:.3f}"
        print(f"| {run.name} | {scores} | {run.time() / runs[0].time():.2f} |")


if __name__ == "__main__":
    main()
