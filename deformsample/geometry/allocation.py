"""Error curves: error as a function of sampling density, and the optimal density.

The model is e(p) = a(p) rho(p)^(-b(p)): a is the error at uniform sampling, the elasticity b is the
rate at which it falls, and rho is the sampling density relative to uniform sampling.
For a fixed number of samples, the density that minimises the total error is known in closed form
(the derivative of the error by rho is the same everywhere):

    rho = clamp((a b / lambda)^(1 / (1 + b)), minimum, maximum),   lambda so that mean rho = 1.

This is Lagrangian rate allocation (Shoham and Gersho 1988, "Efficient Bit Allocation for an
Arbitrary Set of Quantizers") with error curves instead of rate-distortion curves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from deformsample.errors import ArgumentError
from deformsample.geometry.transport import area_mean

_ITERATIONS = 24


class ErrorCurves(NamedTuple):
    """An error curve e = a rho^-b for each cell of a density map."""

    log_error: Tensor
    """(b, 1, h, w), log a of the error at uniform sampling; its unit is arbitrary."""

    elasticity: Tensor
    """(b, 1, h, w), the exponent b > 0."""

    field: Tensor | None = None
    """(b, 1, h, w), the random perturbation of the log density in training."""


def expected_error(curves: ErrorCurves, density: Tensor) -> Tensor:
    """The error a rho^-b of each cell.

    Args:
        curves: curves of the cells.
        density: (b, 1, h, w), relative to uniform sampling.

    Returns:
        (b, 1, h, w).
    """
    return torch.exp(curves.log_error - curves.elasticity * density.log())


@torch.no_grad()
def best_density(
    curves: ErrorCurves, *, minimum: float, maximum: float, budget: float = 1.0
) -> Tensor:
    """The density that minimises the total expected error.

    Args:
        curves: curves of the cells.
        minimum: lower bound of the density relative to its mean, in (0, 1).
        maximum: upper bound of the density relative to its mean, above 1.
        budget: mean density: the number of samples relative to that of the fitted curves.

    Returns:
        (b, 1, h, w), with mean ``budget`` over the image area.

    Raises:
        ArgumentError: bounds that do not enclose 1, or a budget that is not positive.

    Example:
        >>> log_error = torch.tensor([0.01, 0.01, 1.0, 0.01, 0.01]).log().expand(1, 1, 2, 5)
        >>> curves = ErrorCurves(log_error, torch.full_like(log_error, 0.5))
        >>> density = best_density(curves, minimum=0.1, maximum=20.0)
        >>> [round(value, 2) for value in density[0, 0, 0].tolist()]  # most where the error is
        [0.16, 0.16, 3.51, 0.16, 0.16]
    """
    check_bounds(minimum, maximum)
    if not budget > 0:
        raise ArgumentError(f"Expected `budget` above 0, but got {budget}.")
    elasticity = curves.elasticity
    inverse = 1 / (1 + elasticity)
    # log rho before the clamp is gain - price * inverse, where price is log lambda.
    gain = (curves.log_error + elasticity.log()) * inverse
    low_rho, high_rho = math.log(minimum * budget), math.log(maximum * budget)
    dims = (1, 2, 3)
    price_low = ((gain - high_rho) / inverse).amin(dim=dims, keepdim=True)
    price_high = ((gain - low_rho) / inverse).amax(dim=dims, keepdim=True)

    def density_at(price: Tensor) -> Tensor:
        return (gain - price * inverse).clamp(low_rho, high_rho).exp()

    for _ in range(_ITERATIONS):
        price = (price_low + price_high) / 2
        above = area_mean(density_at(price)) > budget
        price_low = torch.where(above, price, price_low)
        price_high = torch.where(above, price_high, price)
    density = density_at((price_low + price_high) / 2)
    return density * (budget / area_mean(density))


@torch.no_grad()
def budget_curve(
    curves: ErrorCurves, budgets: Sequence[float], *, minimum: float, maximum: float
) -> Tensor:
    """The mean expected error of uniform and of optimal sampling at other numbers of samples.

    Args:
        curves: curves of the cells.
        budgets: numbers of samples relative to that at which the curves were fitted.
        minimum: as in :func:`best_density`.
        maximum: as in :func:`best_density`.

    Returns:
        (b, len(budgets), 2) of uniform and optimal sampling, in the unit of the curves.

    Example:
        >>> curves = ErrorCurves(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.5))
        >>> budget_curve(curves, [1.0, 4.0], minimum=0.1, maximum=20.0)[0, :, 0].tolist()
        [1.0, 0.5]
    """
    means = []
    for budget in budgets:
        best = best_density(curves, minimum=minimum, maximum=maximum, budget=budget)
        for density in (torch.full_like(best, budget), best):
            means.append(area_mean(expected_error(curves, density)).flatten())
    both = torch.stack(means, dim=1)
    return both.view(len(both), len(budgets), 2)


def check_bounds(minimum: float, maximum: float) -> None:
    """Raise ``ArgumentError`` unless bounds of a relative density enclose uniform sampling."""
    if not 0 < minimum < 1 < maximum:
        raise ArgumentError(
            f"Expected bounds of the density with 0 < `minimum` < 1 < `maximum`, but got {minimum} "
            f"and {maximum}."
        )
