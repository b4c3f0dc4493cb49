"""Pictures of what the sampling does."""

from deformsample.plotting.figures import (
    OKABE_ITO,
    SampledPicture,
    comparison_figure,
    error_figure,
    iou_figure,
    picture_of,
    sampling_figure,
    zoom_figure,
)
from deformsample.plotting.panels import (
    as_pixels,
    class_legend,
    draw_density,
    draw_errors,
    draw_image,
    draw_labels,
    draw_mesh,
    draw_overlay,
    draw_samples,
)
from deformsample.plotting.places import Place, differing_places

__all__ = [
    "OKABE_ITO",
    "Place",
    "SampledPicture",
    "as_pixels",
    "class_legend",
    "comparison_figure",
    "differing_places",
    "draw_density",
    "draw_errors",
    "draw_image",
    "draw_labels",
    "draw_mesh",
    "draw_overlay",
    "draw_samples",
    "error_figure",
    "iou_figure",
    "picture_of",
    "sampling_figure",
    "zoom_figure",
]
