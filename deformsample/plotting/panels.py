"""Panels of figures; every function draws on given axes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from deformsample.conventions import IGNORE_INDEX, Colour, Size
from deformsample.files.label_maps import colours_from_ids, overlay, palette
from deformsample.geometry import to_pixels
from deformsample.samplers.image_source import as_pixels

_MAX_LINES = 60  # per side

WRONG = (213, 94, 0)
"""Vermilion of the Okabe-Ito palette, for all types of colour vision."""


def draw_image(axes: Axes, image: Tensor) -> None:
    """An image (3, h, w), uint8 or float in [0, 1], without ticks."""
    axes.imshow(as_pixels(image), interpolation="nearest")
    _frame(axes)


def draw_samples(axes: Axes, image: Tensor, grid: Tensor) -> None:
    """The image with a dot at every sample, or at every n-th per side.

    Args:
        axes: axes to draw on.
        image: (3, H, W).
        grid: (h, w, 2).
    """
    height, width = image.shape[1:]
    points = shown_points(grid, (height, width)).reshape(-1, 2)
    axes.imshow(as_pixels(image))
    axes.scatter(points[:, 0], points[:, 1], s=3.5, c="white", edgecolors="black", linewidths=0.4)
    _frame(axes, (height, width))


def draw_mesh(axes: Axes, image: Tensor, grid: Tensor) -> None:
    """The dimmed image under the rows and columns of the grid, or under every n-th.

    Args:
        axes: axes to draw on.
        image: (3, H, W).
        grid: (h, w, 2).
    """
    height, width = image.shape[1:]
    points = shown_points(grid, (height, width), _MAX_LINES)
    axes.imshow(as_pixels(image), alpha=0.6)
    lines = [*points, *points.swapaxes(0, 1)]
    axes.add_collection(LineCollection(lines, colors="black", linewidths=0.5))
    _frame(axes, (height, width))


def draw_density(axes: Axes, density: Tensor, size: Size, densest: float | None = None) -> None:
    """The density relative to its mean, with a colour bar, in the aspect of the image.

    Args:
        axes: axes to draw on.
        density: (h', w'), sum 1.
        size: (H, W) of the image.
        densest: upper end of the scale, shared by comparable panels; ``None`` for this map's.
    """
    relative = _relative(density)
    height, width = size
    drawn = axes.imshow(
        relative,
        cmap="viridis",
        norm=_density_scale(float(relative.max()) if densest is None else densest),
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        aspect="equal",
    )
    # An inset, so that all panels of a row have the same size.
    scale = axes.inset_axes((1.02, 0.0, 0.05, 1.0))
    axes.figure.colorbar(drawn, cax=scale)
    scale.tick_params(labelsize="small")
    _frame(axes)


def density_pixels(density: Tensor, densest: float) -> npt.NDArray[np.uint8]:
    """The colours of :func:`draw_density`, (h', w', 3)."""
    colours = colormaps["viridis"](_density_scale(densest)(_relative(density)), bytes=True)
    return np.asarray(colours[..., :3], np.uint8)


def draw_labels(axes: Axes, labels: Tensor, classes: Mapping[str, Colour]) -> None:
    """Class ids (H, W) in the classes' colours; ignored pixels are black."""
    axes.imshow(_coloured(labels, classes), interpolation="nearest")
    _frame(axes)


def draw_overlay(
    axes: Axes, image: Tensor, labels: Tensor, classes: Mapping[str, Colour], opacity: float = 0.5
) -> None:
    """The classes' colours over the grey image; ignored pixels show the image only.

    Args:
        axes: axes to draw on.
        image: (3, H, W).
        labels: (H, W) class ids.
        classes: name and colour of every class.
        opacity: opacity of the colours, in [0, 1].
    """
    axes.imshow(overlay_pixels(image, labels, classes, opacity), interpolation="nearest")
    _frame(axes)


def draw_errors(axes: Axes, image: Tensor, labels: Tensor, ground_truth: Tensor) -> None:
    """The image in pale grey, with wrong pixels in vermilion.

    Args:
        axes: axes to draw on.
        image: (3, H, W).
        labels: (H, W) predicted class ids.
        ground_truth: (H, W) true class ids; ignored pixels are never wrong.
    """
    pale = 128 + _grey(image) / 2
    wrong = wrong_pixels(labels, ground_truth).cpu().numpy()[..., None]
    axes.imshow(np.where(wrong, np.array(WRONG), pale).astype(np.uint8), interpolation="nearest")
    _frame(axes)


def wrong_pixels(labels: Tensor, ground_truth: Tensor) -> Tensor:
    """Where labels (H, W) differ from the ground truth, bool; ignored pixels are never wrong."""
    return (labels != ground_truth) & (ground_truth != IGNORE_INDEX)


def overlay_pixels(
    image: Tensor, labels: Tensor, classes: Mapping[str, Colour], opacity: float = 0.5
) -> npt.NDArray[np.uint8]:
    """The pixels of :func:`draw_overlay`, (H, W, 3) uint8."""
    ids = labels.cpu().numpy().astype(np.uint8)
    return overlay(as_pixels(image), ids, palette(classes), opacity)


def shown_points(grid: Tensor, size: Size, most: int = 45) -> npt.NDArray[np.float32]:
    """Every n-th row and column of a grid (h, w, 2) and its border, as pixels (x, y).

    Args:
        grid: (h, w, 2).
        size: (H, W) of the image.
        most: approximate maximum per side; more dots would overlap.
    """
    step = max(1, -(-max(grid.shape[:2]) // most))
    rows, columns = ([*range(0, n - 1, step), n - 1] for n in grid.shape[:2])
    points: npt.NDArray[np.float32] = to_pixels(grid.cpu().float(), size).numpy()
    return points[np.ix_(rows, columns)]


def class_legend(figure: Figure, classes: Mapping[str, Colour]) -> None:
    """Add a legend of the classes' colours below the figure."""
    swatches = [
        Patch(facecolor="#{:02x}{:02x}{:02x}".format(*colour), edgecolor="0.5", label=name)
        for name, colour in classes.items()
    ]
    figure.legend(handles=swatches, loc="outside lower center", ncols=min(len(swatches), 7))


def _relative(density: Tensor) -> npt.NDArray[np.float32]:
    relative: npt.NDArray[np.float32] = (density * density.numel()).cpu().float().numpy()
    return relative


def _density_scale(densest: float) -> PowerNorm:
    return PowerNorm(0.5, vmin=0, vmax=densest)  # shows low densities beside a single peak


def _grey(image: Tensor) -> npt.NDArray[np.float64]:
    weights = np.array((0.299, 0.587, 0.114))  # ITU-R BT.601
    return np.asarray(as_pixels(image) @ weights)[..., None]


def _coloured(labels: Tensor, classes: Mapping[str, Colour]) -> npt.NDArray[np.uint8]:
    return colours_from_ids(labels.cpu().numpy().astype(np.uint8), palette(classes))


def _frame(axes: Axes, size: Size | None = None) -> None:
    """Remove ticks; with a size, set the limits to the image."""
    axes.set_xticks([])
    axes.set_yticks([])
    if size is not None:
        axes.set_xlim(-0.5, size[1] - 0.5)
        axes.set_ylim(size[0] - 0.5, -0.5)
