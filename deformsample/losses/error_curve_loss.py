"""Fitting error curves to observed errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from deformsample.conventions import IGNORE_INDEX
from deformsample.errors import ArgumentError
from deformsample.geometry import ErrorCurves, relative_density
from deformsample.losses.density_losses import DensityLoss, Observed
from deformsample.samplers.downsampler import Downsampled

_MOMENTUM = 0.95


class ErrorCurveLoss(DensityLoss):
    """Poisson deviance of the errors of :class:`deformsample.samplers.ErrorCurveSampler`.

    The observed error of a cell is the mean over its labelled points at full resolution, divided by
    the running mean of all errors in training.

    Args:
        weight: as in :class:`DensityLoss`.
        final_weight: as in :class:`DensityLoss`.
        error: the error to fit. ``cross_entropy``: the weighted loss of the segmentation.
            ``probability``: 1 - p(true class), which single pixels cannot dominate.
        class_weights: as in :class:`DensityLoss`; factors of the errors, in addition to the class
            weights of the segmentation loss for ``cross_entropy``.
        important: as in :class:`DensityLoss`.
    """

    needs_errors = True

    mean_error: Tensor

    def __init__(
        self,
        weight: float = 1.0,
        final_weight: float | None = None,
        error: Literal["cross_entropy", "probability"] = "probability",
        class_weights: Sequence[float] | Literal["balanced"] | None = None,
        important: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(weight, final_weight, class_weights, important)
        self.error = error
        self.register_buffer("mean_error", torch.zeros(()))

    @override
    def loss(self, sampled: Downsampled, labels: Tensor, observed: Observed | None) -> Tensor:
        if sampled.curves is None or observed is None:
            raise ArgumentError(
                "Expected an ErrorCurveSampler and a FullResolutionLoss for ErrorCurveLoss, but "
                "got a sampler without error curves, or another loss."
            )
        density = relative_density(sampled.density)
        # Sums over the points of a cell need more precision than half.
        with torch.no_grad(), torch.autocast(density.device.type, enabled=False):
            errors, counted = self._cell_errors(observed, density)
            errors = errors / self._level(errors, counted)
        log_expected = _log_expected(sampled.curves, density)
        expected = log_expected.exp()
        deviance = (expected - errors * log_expected) * counted
        return deviance.sum() / counted.sum().clamp_min(1.0)

    def _cell_errors(self, observed: Observed, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean error of each cell (b, 1, h, w), and the share of its labelled points."""
        known = observed.labels != IGNORE_INDEX
        ids = observed.labels.where(known, 0).long()
        if self.error == "cross_entropy":
            errors = observed.losses.float()
        else:
            likely = observed.logits.float().softmax(dim=1)
            errors = 1 - likely.gather(1, ids.unsqueeze(1))[:, 0]
        if (factors := self.factors(errors.device)) is not None:
            errors = errors * factors[ids]
        rows = _membership(observed.rows, like.shape[2])
        columns = _membership(observed.columns, like.shape[3])
        counts = known.float()
        sums = rows.mT @ (errors * counts) @ columns
        totals = rows.mT @ counts @ columns
        full = rows.sum(dim=0)[:, None] * columns.sum(dim=0)
        return (
            (sums / totals.clamp_min(1.0)).unsqueeze(1),
            (totals / full.clamp_min(1.0)).unsqueeze(1),
        )

    def _level(self, errors: Tensor, counted: Tensor) -> Tensor:
        """The running mean of the errors."""
        if self.training:
            mean = (errors * counted).sum() / counted.sum().clamp_min(1.0)
            known = self.mean_error > 0
            self.mean_error.copy_(
                torch.where(known, self.mean_error.lerp(mean, 1 - _MOMENTUM), mean)
            )
        return self.mean_error.where(self.mean_error > 0, 1.0)


def _log_expected(curves: ErrorCurves, density: Tensor) -> Tensor:
    """The logarithm of a rho^-b, whose gradient to b depends only on the random field.

    Densities depend on the curves, so they are confounded with errors while the curves are not
    fitted. The random field is an independent instrument.
    """
    elasticity, fixed = curves.elasticity, curves.elasticity.detach()
    field = 0.0 if curves.field is None else curves.field
    return curves.log_error - fixed * density.log() - (elasticity - fixed) * field


def _membership(points: Tensor, count: int) -> Tensor:
    """(n, count), 1 where a normalised coordinate is nearest to a vertex of a map's axis.

    A repeated coordinate, which only pads, belongs to no vertex.
    """
    nearest = ((points.float() + 1) * ((count - 1) / 2)).round().long().clamp(0, count - 1)
    is_new = F.pad(points[1:] > points[:-1], (1, 0), value=True)
    return F.one_hot(nearest, count) * is_new.float()[:, None]
