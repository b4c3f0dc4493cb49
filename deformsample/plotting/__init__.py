"""Figures of sampling and of predictions."""

from deformsample.plotting.budget import MeasuredPoint, budget_figure
from deformsample.plotting.figures import (
    OKABE_ITO,
    comparison_figure,
    error_figure,
    iou_figure,
    sampling_figure,
    zoom_figure,
)
from deformsample.plotting.page import comparison_page
from deformsample.plotting.panels import (
    class_legend,
    draw_density,
    draw_errors,
    draw_image,
    draw_labels,
    draw_mesh,
    draw_overlay,
    draw_samples,
)
from deformsample.plotting.pictures import Picture
from deformsample.plotting.regions import Region, differing_regions

__all__ = [
    "OKABE_ITO",
    "MeasuredPoint",
    "Picture",
    "Region",
    "budget_figure",
    "class_legend",
    "comparison_figure",
    "comparison_page",
    "differing_regions",
    "draw_density",
    "draw_errors",
    "draw_image",
    "draw_labels",
    "draw_mesh",
    "draw_overlay",
    "draw_samples",
    "error_figure",
    "iou_figure",
    "sampling_figure",
    "zoom_figure",
]
