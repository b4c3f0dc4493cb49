"""Pictures of what the sampling does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from deformsample.data.labels import Colour, colours_from_ids, palette
from deformsample.geometry import Size, to_pixels
from deformsample.segmenters import Prediction, SampledSegmenter

_MOST_DOTS = 45  # a side; more would merge into a surface
_PANEL = 3.4  # inches a side of a panel's longer side


@dataclass(frozen=True)
class SampledPicture:
    """One image as one method sampled and segmented it; tensors of a single image."""

    title: str
    grid: Tensor
    """(h, w, 2)."""

    density: Tensor
    """(h', w'), sum 1."""

    small: Tensor
    """(3, h, w) in [0, 1]."""

    labels: Tensor
    """(H, W) uint8, full resolution."""


@torch.no_grad()
def picture_of(
    segmenter: SampledSegmenter, image: Tensor, title: str, labels: Tensor | None = None
) -> SampledPicture:
    """Sample and segment one image (1, 3, H, W), for a figure; oracles see the labels (1, H, W)."""
    height, width = image.shape[2:]
    prediction: Prediction = segmenter(image, labels)
    return SampledPicture(
        title,
        prediction.grid[0],
        prediction.density[0, 0],
        prediction.image[0],
        prediction.labels((height, width))[0],
    )


def comparison_figure(
    image: Tensor,
    truth: Tensor | None,
    pictures: Sequence[SampledPicture],
    classes: Mapping[str, Colour],
) -> Figure:
    """One row for each method: samples over the image, density, warped image, labels, truth.

    Args:
        image: (3, H, W) uint8.
        truth: (H, W) class ids, or ``None``.
        pictures: one for each method.
        classes: name and colour of every class.
    """
    height, width = image.shape[1:]
    columns = 5 if truth is not None else 4
    panel_width = _PANEL * min(1.0, width / height)
    panel_height = panel_width * height / width
    figure = Figure(
        figsize=(columns * (panel_width + 0.1) + 0.9, len(pictures) * (panel_height + 0.35) + 0.5),
        layout="constrained",
    )
    axes = figure.subplots(len(pictures), columns, squeeze=False)
    densest = max(float(p.density.max()) * p.density.numel() for p in pictures)
    pixels = image.cpu().numpy().transpose(1, 2, 0)
    for row, picture in zip(axes, pictures, strict=True):
        draw_samples(row[0], pixels, picture.grid)
        row[0].set_title("sampling locations")
        row[0].set_ylabel(picture.title, fontsize="large")
        draw_density(row[1], picture.density, (height, width), densest)
        row[1].set_title("density (x mean)")
        row[2].imshow(picture.small.cpu().clamp(0, 1).numpy().transpose(1, 2, 0))
        row[2].set_title("warped image, {} x {}".format(*picture.small.shape[1:]))
        draw_labels(row[3], picture.labels, classes)
        row[3].set_title("prediction")
        if truth is not None:
            draw_labels(row[4], truth, classes)
            row[4].set_title("truth")
        for panel in row:
            panel.set_xticks([])
            panel.set_yticks([])
    swatches = [
        Patch(facecolor="#{:02x}{:02x}{:02x}".format(*colour), edgecolor="0.5", label=name)
        for name, colour in classes.items()
    ]
    figure.legend(handles=swatches, loc="outside lower center", ncols=min(len(swatches), 7))
    return figure


def draw_samples(axes: Axes, pixels: npt.NDArray[np.uint8], grid: Tensor) -> None:
    """The image with a dot at every sample, or at every n-th per side where they are many."""
    height, width = pixels.shape[:2]
    step = max(1, -(-max(grid.shape[:2]) // _MOST_DOTS))
    points = to_pixels(grid.cpu().float(), (height, width))[::step, ::step].reshape(-1, 2).numpy()
    axes.imshow(pixels)
    axes.scatter(points[:, 0], points[:, 1], s=3.5, c="white", edgecolors="black", linewidths=0.4)
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)


def draw_density(axes: Axes, density: Tensor, size: Size, densest: float) -> None:
    """The density relative to its mean, on a scale up to ``densest``, in the image's aspect."""
    relative = (density * density.numel()).cpu().float().numpy()
    height, width = size
    drawn = axes.imshow(
        relative,
        cmap="viridis",
        norm=PowerNorm(0.5, vmin=0, vmax=densest),  # a single peak must not hide the rest
        extent=(0, width, height, 0),
        aspect="equal",
    )
    # Inside the panel's own width, so that all panels of a row are of one size.
    scale = axes.inset_axes((1.02, 0.0, 0.05, 1.0))
    axes.figure.colorbar(drawn, cax=scale)
    scale.tick_params(labelsize="small")


def draw_labels(axes: Axes, labels: Tensor, classes: Mapping[str, Colour]) -> None:
    """Class ids (H, W) in the classes' colours; ignored pixels are black."""
    ids = labels.cpu().numpy().astype(np.uint8)
    axes.imshow(colours_from_ids(ids, palette(classes)), interpolation="nearest")
