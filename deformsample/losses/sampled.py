"""What losses need of a prediction."""

from __future__ import annotations

from deformsample.errors import ArgumentError
from deformsample.segmenters import Predicted, Prediction


def through_a_grid(prediction: Predicted) -> Prediction:
    """Pass on a prediction of an image that was sampled through a grid.

    Raises:
        ArgumentError: it is one of another segmenter.
    """
    if not isinstance(prediction, Prediction):
        raise ArgumentError(
            "Expected a loss that needs no sampling grid, as a tiled segmenter has none: set "
            "`model.loss.class_path` to `deformsample.losses.TileLoss`."
        )
    return prediction
