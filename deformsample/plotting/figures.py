"""Figures of sampling and of predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from deformsample.conventions import IGNORE_INDEX, Colour, Size
from deformsample.geometry import unwarp
from deformsample.plotting.panels import (
    class_legend,
    draw_density,
    draw_errors,
    draw_image,
    draw_labels,
    draw_mesh,
    draw_overlay,
    draw_samples,
    wrong_pixels,
)
from deformsample.plotting.pictures import Picture
from deformsample.plotting.regions import Region

_PANEL = 3.4  # longer side of a panel, in inches

OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
"""A palette for all types of colour vision (Okabe and Ito 2008)."""


def comparison_figure(
    image: Tensor,
    ground_truth: Tensor | None,
    pictures: Sequence[Picture],
    classes: Mapping[str, Colour],
) -> Figure:
    """One row per method: sampling locations, density, warped image, labels, ground truth.

    A method without labels shows the restored image instead.

    Args:
        image: (3, H, W) uint8.
        ground_truth: (H, W) class ids, or ``None``.
        pictures: one per method.
        classes: name and colour of every class.
    """
    height, width = image.shape[1:]
    columns = 5 if ground_truth is not None else 4
    panel_height, panel_width = _panel_size((height, width))
    figure = Figure(
        figsize=(columns * (panel_width + 0.1) + 0.9, len(pictures) * (panel_height + 0.35) + 0.5),
        layout="constrained",
    )
    axes = figure.subplots(len(pictures), columns, squeeze=False)
    densest = max(float(p.density.max()) * p.density.numel() for p in pictures)
    for row, picture in zip(axes, pictures, strict=True):
        draw_samples(row[0], image, picture.grid)
        row[0].set_title("sampling locations")
        row[0].set_ylabel(picture.title, fontsize="large")
        draw_density(row[1], picture.density, (height, width), densest)
        row[1].set_title("density (x mean)")
        draw_image(row[2], picture.small)
        row[2].set_title("warped image, {} x {}".format(*picture.small.shape[1:]))
        if picture.labels is not None:
            draw_labels(row[3], picture.labels, classes)
            row[3].set_title("prediction")
        else:
            draw_image(row[3], picture.restored((height, width)))
            row[3].set_title("restored image")
        if ground_truth is not None:
            draw_labels(row[4], ground_truth, classes)
            row[4].set_title("ground truth")
    if classes:
        class_legend(figure, classes)
    return figure


def sampling_figure(image: Tensor, small: Tensor, grid: Tensor, density: Tensor) -> Figure:
    """The steps of downsampling: density, sampling locations, mesh, warped and unwarped image.

    Args:
        image: (3, H, W), uint8 or float in [0, 1].
        small: (3, h, w) in [0, 1], sampled through the grid.
        grid: (h, w, 2).
        density: (h', w'), sum 1.
    """
    height, width = image.shape[1:]
    panel_height, panel_width = _panel_size((height, width))
    figure = Figure(
        figsize=(3 * (panel_width + 0.3), 2 * (panel_height + 0.4)), layout="constrained"
    )
    (first, second, third), (fourth, fifth, sixth) = figure.subplots(2, 3)
    draw_image(first, image)
    first.set_title(f"image, {height} x {width}")
    draw_density(second, density, (height, width))
    second.set_title("density (x mean)")
    draw_samples(third, image, grid)
    third.set_title("sampling locations")
    draw_mesh(fourth, image, grid)
    fourth.set_title("mesh")
    draw_image(fifth, small)
    fifth.set_title("warped image, {} x {}".format(*small.shape[1:]))
    draw_image(sixth, unwarp(small[None], grid[None], (height, width))[0])
    sixth.set_title("unwarped")
    return figure


def zoom_figure(
    image: Tensor,
    ground_truth: Tensor,
    predictions: Mapping[str, Tensor],
    classes: Mapping[str, Colour],
    regions: Sequence[Region],
) -> Figure:
    """Regions of an image at full resolution: image, labels of every method, ground truth.

    Args:
        image: (3, H, W) uint8.
        ground_truth: (H, W) class ids.
        predictions: (H, W) class ids by method.
        classes: name and colour of every class.
        regions: one row of panels each, framed in the whole image above.
    """
    height, width = image.shape[1:]
    titles = ["image", *predictions, "ground truth"]
    panel_height, panel_width = _panel_size((height, width))
    side = 2.3
    figure = Figure(
        figsize=(
            max(side * len(titles), 2 * panel_width) + 0.4,
            panel_height + 0.9 + (side + 0.1) * len(regions),
        ),
        layout="constrained",
    )
    heights = (panel_height, side * len(regions))
    top, bottom = figure.subfigures(2, 1, height_ratios=heights, squeeze=False)[:, 0]
    whole = top.subplots(1, 2)
    draw_image(whole[0], image)
    draw_overlay(whole[1], image, ground_truth, classes)
    whole[0].set_title("image and regions")
    whole[1].set_title("ground truth")
    axes = bottom.subplots(len(regions), len(titles), squeeze=False)
    for index, (row, region) in enumerate(zip(axes, regions, strict=True), start=1):
        _frame_region(whole[0], region, str(index))
        draw_image(row[0], image[:, region.rows, region.columns])
        row[0].set_ylabel(str(index), rotation=0, labelpad=10, fontsize="large")
        for panel, labels in zip(row[1:-1], predictions.values(), strict=True):
            draw_labels(panel, labels[region.rows, region.columns], classes)
        draw_labels(row[-1], ground_truth[region.rows, region.columns], classes)
    for panel, title in zip(axes[0], titles, strict=True):
        panel.set_title(title, fontsize="medium")
    class_legend(figure, classes)
    return figure


def error_figure(image: Tensor, ground_truth: Tensor, predictions: Mapping[str, Tensor]) -> Figure:
    """The wrong pixels of each method side by side, with their share.

    Args:
        image: (3, H, W) uint8.
        ground_truth: (H, W) class ids.
        predictions: (H, W) class ids by method.
    """
    height, width = image.shape[1:]
    panel_height, panel_width = _panel_size((height, width))
    figure = Figure(
        figsize=(len(predictions) * (1.4 * panel_width + 0.1), 1.4 * panel_height + 0.6),
        layout="constrained",
    )
    axes = figure.subplots(1, len(predictions), squeeze=False)
    known = (ground_truth != IGNORE_INDEX).sum().clamp_min(1)
    for panel, (title, labels) in zip(axes[0], predictions.items(), strict=True):
        draw_errors(panel, image, labels, ground_truth)
        share = float(wrong_pixels(labels, ground_truth).sum() / known)
        panel.set_title(f"{title}\n{share:.1%} of the pixels wrong", fontsize="medium")
    return figure


def iou_figure(scores: Mapping[str, Mapping[str, float]]) -> Figure:
    """Bars of the IoU of every class, one bar per method.

    Args:
        scores: by method, then by class; NaN where a class does not occur.
    """
    classes = list(next(iter(scores.values())))
    figure = Figure(figsize=(1.6 + 1.1 * len(classes), 3.2), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(scores)
    for index, (method, values) in enumerate(scores.items()):
        x = np.arange(len(classes)) + (index - (len(scores) - 1) / 2) * width
        heights = [values[name] for name in classes]
        bars = axes.bar(x, heights, width, label=method, color=OKABE_ITO[index % len(OKABE_ITO)])
        axes.bar_label(bars, fmt=lambda v: f"{v:.2f}".lstrip("0"), fontsize="small", padding=1)
    axes.set_xticks(range(len(classes)), classes)
    axes.set_ylabel("IoU")
    axes.set_ylim(0, 1.05)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=len(scores), frameon=False)
    return figure


def _panel_size(size: Size) -> tuple[float, float]:
    """Height and width of a panel in inches."""
    width = _PANEL * min(1.0, size[1] / size[0])
    return width * size[0] / size[1], width


def _frame_region(axes: Axes, region: Region, name: str) -> None:
    corner, side = (region.left - 0.5, region.top - 0.5), region.side
    for colour, width in (("black", 2.2), ("white", 1.0)):  # visible on any background
        frame = Rectangle(corner, side, side, fill=False, edgecolor=colour, linewidth=width)
        axes.add_patch(frame)
    at_top = region.top < side / 2  # the title is above the image
    axes.annotate(
        name,
        (corner[0], corner[1] + side) if at_top else corner,
        textcoords="offset points",
        xytext=(0, -2 if at_top else 2),
        verticalalignment="top" if at_top else "bottom",
        fontsize="small",
        bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "linewidth": 0.5},
    )
