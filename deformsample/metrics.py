"""Intersection over union, from counts over the whole data set."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchmetrics import Metric

from deformsample.geometry import ErrorCurves, budget_curve


def class_iou(confusion: Tensor) -> Tensor:
    """Intersection over union of every class (Everingham et al. 2010).

    Args:
        confusion: (k, k) counts, rows are true classes, columns predicted ones.

    Returns:
        (k,) float64 in [0, 1]; NaN for a class that is neither there nor predicted.
    """
    confusion = confusion.double()
    hit = confusion.diagonal()
    return hit / (confusion.sum(dim=0) + confusion.sum(dim=1) - hit)


def mean_iou(confusion: Tensor) -> Tensor:
    """Mean of :func:`class_iou` over the classes that are there or predicted, float64."""
    return class_iou(confusion).nanmean()


def merged_iou(confusion: Tensor, members: Sequence[int]) -> Tensor:
    """Intersection over union of several classes taken as one, float64."""
    confusion = confusion.double()
    chosen = torch.zeros(len(confusion), dtype=torch.bool, device=confusion.device)
    chosen[list(members)] = True
    hit = confusion[chosen][:, chosen].sum()
    return hit / (confusion[chosen].sum() + confusion[:, chosen].sum() - hit)


def iou_report(
    confusion: Tensor, names: Sequence[str], merged: Mapping[str, Sequence[str]]
) -> dict[str, Tensor]:
    """Per-class and merged IoU by name; classes that never occur are left out.

    Args:
        confusion: (k, k) counts.
        names: of the k classes.
        merged: further names, each for a list of classes taken as one.
    """
    report = dict(zip(names, class_iou(confusion), strict=True))
    for name, members in merged.items():
        report[name] = merged_iou(confusion, [names.index(member) for member in members])
    return {name: value for name, value in report.items() if not bool(value.isnan())}


BUDGETS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Numbers of samples that :class:`BudgetCurve` predicts for, relative to those of training."""


class BudgetCurve(Metric):
    """What fitted error curves predict for other numbers of samples, over a whole split.

    Args:
        minimum: lower bound of the relative density, as of the sampler.
        maximum: upper bound of the relative density, as of the sampler.
    """

    errors: Tensor
    elasticity: Tensor

    def __init__(self, minimum: float, maximum: float) -> None:
        super().__init__()
        self.minimum = minimum
        self.maximum = maximum
        self.add_state("errors", torch.zeros(len(BUDGETS), 2), dist_reduce_fx="sum")
        self.add_state("elasticity", torch.zeros(2), dist_reduce_fx="sum")

    def update(self, curves: ErrorCurves) -> None:
        """Add the images of a batch."""
        bounds = {"minimum": self.minimum, "maximum": self.maximum}
        self.errors += budget_curve(curves, BUDGETS, **bounds).sum(dim=0)
        weights = curves.log_error.exp()
        self.elasticity += torch.stack(((weights * curves.elasticity).sum(), weights.sum()))

    def compute(self) -> dict[str, list[float] | float]:
        """The curve, as plain numbers.

        Returns:
            ``budgets``; the expected errors ``uniform`` and ``sampled`` at each, relative to
            uniform sampling with the samples of training; and ``elasticity``, by how many per cent
            the error falls with one per cent more samples, in the mean over the error.
        """
        at_training = self.errors[BUDGETS.index(1.0), 0]
        relative = self.errors / at_training.where(at_training > 0, 1.0)
        uniform, sampled = relative.unbind(dim=1)
        return {
            "budgets": list(BUDGETS),
            "uniform": uniform.tolist(),
            "sampled": sampled.tolist(),
            "elasticity": float(self.elasticity[0] / self.elasticity[1].clamp_min(1e-12)),
        }


def equivalent_budget(curve: Mapping[str, Sequence[float]]) -> float:
    """How many times as many uniform samples would have the error of the sampler's.

    Args:
        curve: as :class:`BudgetCurve` gives it.

    Returns:
        Interpolated in the logarithms; infinite beyond the largest budget of the curve.
    """
    error = math.log(curve["sampled"][list(curve["budgets"]).index(1.0)])
    budgets, uniform = np.log(curve["budgets"]), np.log(curve["uniform"])
    if error < uniform[-1]:
        return math.inf
    return float(np.exp(np.interp(error, uniform[::-1], budgets[::-1])))


def boundary_counts(
    predicted: npt.NDArray[np.uint8],
    true: npt.NDArray[np.uint8],
    *,
    num_classes: int,
    width: int,
    ignore_index: int,
) -> Tensor:
    """Intersection and union of the boundary bands of every class in one image.

    A class's band is the part of its mask that lies within ``width`` pixels of the mask's boundary;
    the image's own border is none (Cheng et al. 2021, "Boundary IoU"). Summed over the images of a
    data set, the first row over the second is the boundary IoU.

    Args:
        predicted: (h, w) class ids.
        true: (h, w) class ids.
        num_classes: how many classes there are.
        width: of the band, in pixels; the paper takes 2 % of the image's diagonal.
        ignore_index: true id of pixels that do not count.

    Returns:
        (2, num_classes) int64.
    """
    valid = true != ignore_index
    counts = torch.zeros(2, num_classes, dtype=torch.long)
    for number in range(num_classes):
        ours, theirs = (_band((ids == number) & valid, width) & valid for ids in (predicted, true))
        counts[0, number] = int(np.count_nonzero(ours & theirs))
        counts[1, number] = int(np.count_nonzero(ours | theirs))
    return counts


def _band(mask: npt.NDArray[np.bool_], width: int) -> npt.NDArray[np.bool_]:
    inside = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=width)
    band: npt.NDArray[np.bool_] = mask & (inside == 0)
    return band
