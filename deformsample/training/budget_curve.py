"""Predicted errors for other numbers of samples."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from deformsample.geometry import ErrorCurves, budget_curve

BUDGETS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Numbers of samples of :class:`BudgetCurve`, relative to training."""


class BudgetCurve(Metric):
    """Errors that fitted error curves predict for other numbers of samples, over a whole split.

    Args:
        minimum: lower bound of the relative density of the sampler.
        maximum: upper bound of the relative density of the sampler.
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
            uniform sampling with the number of samples in training; and the error-weighted mean
            ``elasticity``, the decrease of the error in per cent for 1 % more samples.
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
