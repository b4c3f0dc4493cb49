import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch import Tensor

from deformsample.errors import ArgumentError
from deformsample.geometry import ErrorCurves, area_mean, best_density, budget_curve, expected_error
from tests.helpers import naming


def random_curves(seed: int, size: tuple[int, int] = (6, 9), spread: float = 2.0) -> ErrorCurves:
    generator = torch.Generator().manual_seed(seed)
    both = torch.randn(2, 2, *size, generator=generator, dtype=torch.float64)
    log_error, logit = both.split(1, dim=1)
    return ErrorCurves(spread * log_error, 1.5 * logit.sigmoid() + 1e-3)


def total(curves: ErrorCurves, density: Tensor) -> Tensor:
    return area_mean(expected_error(curves, density)).flatten()


def test_a_literal_case() -> None:
    # Two halves of which one has four times the error: b = 1 gives densities of 2 to 1.
    log_error = torch.tensor([[4.0, 4.0, 1.0, 1.0]]).log().expand(2, 4)[None, None]
    curves = ErrorCurves(log_error, torch.ones_like(log_error))
    density = best_density(curves, minimum=0.01, maximum=100)
    # Border vertices count half: the mean of (2, 2, 1, 1) is (1 + 2 + 1 + 0.5) / 3 = 1.5.
    expected = torch.tensor([4 / 3, 4 / 3, 2 / 3, 2 / 3])
    torch.testing.assert_close(density[0, 0, 0], expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        expected_error(curves, density)[0, 0, 0], torch.tensor([3.0, 3.0, 1.5, 1.5])
    )


def test_no_other_density_has_a_smaller_error() -> None:
    both = random_curves(0, (4, 5))
    curves = ErrorCurves(both.log_error[:1], both.elasticity[:1])
    density = best_density(curves, minimum=0.1, maximum=4.0)
    weights = area_mean(torch.eye(20, dtype=torch.float64).view(20, 1, 4, 5)).flatten().numpy()
    a, b = curves.log_error.exp().flatten().numpy(), curves.elasticity.flatten().numpy()
    found = minimize(
        lambda rho: float((weights * a * rho**-b).sum()),
        torch.ones(20).numpy(),
        method="SLSQP",
        bounds=[(0.1, 4.0)] * 20,
        constraints={"type": "eq", "fun": lambda rho: float((weights * rho).sum() - 1)},
        options={"maxiter": 500, "ftol": 1e-12},
    )
    assert found.success
    assert float(total(curves, density)) == pytest.approx(found.fun, rel=1e-5)
    torch.testing.assert_close(
        density.flatten(), torch.from_numpy(found.x), atol=0.02, rtol=0.02, check_dtype=False
    )


@given(
    seed=st.integers(0, 2**20),
    spread=st.sampled_from([0.0, 1.0, 10.0, 80.0]),
    budget=st.sampled_from([0.1, 0.25, 1.0, 4.0]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_the_budget_and_the_bounds_are_kept(
    seed: int, spread: float, budget: float, dtype: torch.dtype
) -> None:
    drawn = random_curves(seed, spread=spread)
    curves = ErrorCurves(drawn.log_error.to(dtype), drawn.elasticity.to(dtype))
    density = best_density(curves, minimum=0.1, maximum=8.0, budget=budget)
    assert density.dtype == dtype
    torch.testing.assert_close(
        area_mean(density), torch.full((2, 1, 1, 1), budget, dtype=dtype), rtol=1e-5, atol=0
    )
    assert float(density.min()) >= 0.0999 * budget
    assert float(density.max()) <= 8.001 * budget


def test_equal_curves_give_the_uniform_density() -> None:
    flat = torch.full((1, 1, 5, 7), -3.0)
    density = best_density(ErrorCurves(flat, flat.exp()), minimum=0.1, maximum=10)
    torch.testing.assert_close(density, torch.ones(1, 1, 5, 7))


def test_the_curve_over_budgets() -> None:
    curves = random_curves(1)
    budgets = [0.25, 1.0, 4.0]
    curve = budget_curve(curves, budgets, minimum=0.1, maximum=10)
    assert curve.shape == (2, 3, 2)
    uniform, best = curve.unbind(dim=-1)
    assert bool((best < uniform).all())
    assert bool((curve.diff(dim=1) < 0).all())
    for k, budget in enumerate(budgets):
        same = torch.full_like(curves.elasticity, budget)
        torch.testing.assert_close(uniform[:, k], total(curves, same))


def test_wrong_arguments_are_named() -> None:
    curves = random_curves(2)
    with pytest.raises(ArgumentError, match=naming("minimum", 0.1, "maximum", 1)):
        best_density(curves, minimum=0.1, maximum=1)
    with pytest.raises(ArgumentError, match=naming("budget", 0)):
        best_density(curves, minimum=0.1, maximum=2, budget=0)
