"""The sampler by error curves, and the loss that fits them."""

import pytest
import torch
from torch import Tensor, nn

from deformsample.conventions import IGNORE_INDEX, Size
from deformsample.errors import ArgumentError
from deformsample.geometry import (
    ErrorCurves,
    area_mean,
    best_density,
    expected_error,
    identity_grid,
    relative_density,
)
from deformsample.geometry.coordinates import axis
from deformsample.losses import ErrorCurveLoss, FullResolutionLoss, Observed, WarpedLoss
from deformsample.networks import FixedDensityLogits, UNet
from deformsample.samplers import Downsampler, ErrorCurveSampler, LearnedSampler
from deformsample.samplers.downsampler import Downsampled
from deformsample.samplers.error_curves import random_field
from deformsample.segmenters import SampledSegmenter
from deformsample.training.budget_curve import BUDGETS, BudgetCurve
from tests.helpers import naming

CELLS: Size = (6, 9)


def sampled(density: Tensor, curves: ErrorCurves) -> Downsampled:
    share = density / density.sum(dim=(2, 3), keepdim=True)
    return Downsampled(torch.zeros(1), torch.zeros(1), share, curves)


def observed(errors: Tensor, labels: Tensor | None = None) -> Observed:
    """Errors (b, n, m) that are the cross-entropy at a lattice over the whole image."""
    known = torch.zeros_like(errors, dtype=torch.uint8) if labels is None else labels
    rows, columns = (axis(n, errors) for n in errors.shape[1:])
    logits = torch.stack((torch.zeros_like(errors), errors.expm1().clamp_min(1e-9).log()), dim=1)
    return Observed(logits, known, errors.where(known != IGNORE_INDEX, 0.0), rows, columns)


def flat_curves(batch: int = 1, *, requires_grad: bool = False) -> ErrorCurves:
    values = [torch.zeros(batch, 1, *CELLS, requires_grad=requires_grad) for _ in range(2)]
    return ErrorCurves(values[0], 0.5 + values[1])


def test_the_sampler_gives_the_best_density_of_its_curves() -> None:
    sampler = ErrorCurveSampler(UNet(2, [4, 8]), minimum=0.2, maximum=5.0).eval()
    density, _, curves = sampler(torch.randn(2, 3, *CELLS), (12, 18))
    assert curves is not None
    assert curves.log_error.shape == (2, 1, *CELLS)
    assert bool((curves.elasticity > 0).all() and (curves.elasticity < 1.6).all())
    best = best_density(curves, minimum=0.2, maximum=5.0)
    torch.testing.assert_close(relative_density(density), best)
    torch.testing.assert_close(density.sum(dim=(1, 2, 3)), torch.ones(2))
    assert curves.log_error.requires_grad
    assert not density.requires_grad


def test_densities_are_perturbed_in_training_alone_and_follow_the_seed() -> None:
    sampler = ErrorCurveSampler(FixedDensityLogits((3, 4), 2), perturbation=0.5)
    thumbnail = torch.randn(2, 3, 30, 40)

    def density() -> Tensor:
        result: Tensor = sampler(thumbnail, (30, 40)).density
        return result

    first, second = density(), density()
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])
    torch.manual_seed(5)
    once = density()
    torch.manual_seed(5)
    assert torch.equal(once, density())
    sampler.eval()
    torch.testing.assert_close(density(), torch.full((2, 1, 30, 40), 1 / 1200))
    with pytest.raises(ArgumentError, match=naming("perturbation", -1.0)):
        ErrorCurveSampler(UNet(2, [4]), perturbation=-1.0)


def test_a_random_field_is_smooth_and_of_the_given_deviation() -> None:
    field = random_field(torch.zeros(400, 1, 49, 73), 0.5)
    corner = field[:, 0, 0, 0]  # a node of both fields
    assert float(corner.std()) == pytest.approx(0.5 * 2**0.5, rel=0.15)
    assert float(field.diff(dim=3).abs().max()) < 0.6


def test_networks_have_two_channels() -> None:
    with pytest.raises(ArgumentError, match=naming(2, "ErrorCurveSampler", 1)):
        ErrorCurveSampler(UNet(1, [4, 8]))(torch.randn(1, 3, *CELLS), (12, 18))


@pytest.mark.parametrize("error", ["cross_entropy", "probability"])
def test_the_fit_finds_the_curves_that_made_the_errors(error: str) -> None:
    torch.manual_seed(0)
    true = ErrorCurves(torch.randn(1, 1, *CELLS) - 3, 0.2 + torch.rand(1, 1, *CELLS))
    log_error, logit = (torch.zeros(1, 1, *CELLS, requires_grad=True) for _ in range(2))
    loss = ErrorCurveLoss(error=error)  # type: ignore[arg-type]
    optimizer = torch.optim.Adam([log_error, logit], lr=0.05)
    for _ in range(1500):
        density = relative_density(torch.randn(1, 1, *CELLS).mul(0.7).exp())
        with torch.no_grad():
            wrong = expected_error(true, density).clamp_max(0.99)[:, 0]
            seen = observed(-torch.log1p(-wrong) if error == "probability" else wrong)
        field = density.log() - density.log().mean()
        curves = ErrorCurves(log_error, 1.5 * logit.sigmoid(), field)
        optimizer.zero_grad()
        loss(sampled(density, curves), seen.labels, seen, 0.0).backward()
        optimizer.step()
    level = loss.mean_error.log()
    torch.testing.assert_close(log_error + level, true.log_error, atol=0.1, rtol=0)
    torch.testing.assert_close(1.5 * logit.sigmoid(), true.elasticity, atol=0.2, rtol=0)


def test_cells_average_the_points_that_have_a_class() -> None:
    errors = torch.zeros(1, 60, 90)
    errors[:, :, 45:] = 2.0
    labels = torch.zeros(1, 60, 90, dtype=torch.uint8)
    labels[:, ::2, 60:] = IGNORE_INDEX
    labels[:, 40:] = IGNORE_INDEX
    loss = ErrorCurveLoss(error="cross_entropy")
    mean, share = loss._cell_errors(observed(errors, labels), torch.zeros(1, 1, *CELLS))
    torch.testing.assert_close(mean[0, 0, 1, [0, 3, 5, 8]], torch.tensor([0.0, 0.0, 2.0, 2.0]))
    torch.testing.assert_close(share[0, 0, 1, [0, 3, 8]], torch.tensor([1.0, 1.0, 0.5]))
    assert float(share[0, 0, 5].max()) == 0


def test_important_and_weighted_classes_count_more() -> None:
    errors = torch.ones(1, 60, 90)
    labels = torch.zeros(1, 60, 90, dtype=torch.uint8)
    labels[:, :, 45:] = 1
    for options in ({"important": {"b": 4.0}}, {"class_weights": [1.0, 4.0]}):
        loss = ErrorCurveLoss(error="cross_entropy", **options)
        loss.prepare(["a", "b"], lambda: [0.5, 0.5])
        mean, _ = loss._cell_errors(observed(errors, labels), torch.zeros(1, 1, *CELLS))
        assert float(mean[0, 0, 2, 8] / mean[0, 0, 2, 0]) == pytest.approx(4)


@pytest.mark.parametrize("value", [0.0, 5.0])
@pytest.mark.parametrize("label", [0, IGNORE_INDEX])
def test_images_without_errors_or_labels_have_finite_gradients(value: float, label: int) -> None:
    labels = torch.full((2, 60, 90), label, dtype=torch.uint8)
    log_error = torch.zeros(2, 1, *CELLS, requires_grad=True)
    curves = ErrorCurves(log_error, torch.ones_like(log_error))
    seen = observed(torch.full((2, 60, 90), value), labels)
    loss = ErrorCurveLoss(error="cross_entropy")
    found = loss(sampled(torch.ones_like(log_error), curves), labels, seen, 0.0)
    found.backward()
    assert bool(found.isfinite())
    assert log_error.grad is not None
    assert bool(log_error.grad.isfinite().all())
    assert label != IGNORE_INDEX or not bool(log_error.grad.any())


def test_the_running_mean_is_kept_and_only_training_moves_it() -> None:
    loss = ErrorCurveLoss(error="cross_entropy")
    result = sampled(torch.ones(1, 1, *CELLS), flat_curves())
    for value, expected in ((2.0, 2.0), (4.0, 2.1)):
        seen = observed(torch.full((1, 60, 90), value))
        loss(result, seen.labels, seen, 0.0)
        assert float(loss.mean_error) == pytest.approx(expected)
    loss.eval()(result, seen.labels, seen, 0.0)
    assert float(loss.mean_error) == pytest.approx(2.1)
    assert "mean_error" in loss.state_dict()


def test_curves_and_errors_are_needed() -> None:
    labels = torch.zeros(1, 60, 90, dtype=torch.uint8)
    bare = Downsampled(torch.zeros(1), torch.zeros(1), torch.ones(1, 1, *CELLS) / 54)
    with pytest.raises(ArgumentError, match=naming("ErrorCurveSampler", "FullResolutionLoss")):
        ErrorCurveLoss()(bare, labels, observed(torch.ones(1, 60, 90)), 0.0)
    with pytest.raises(ArgumentError, match="ErrorCurveLoss"):
        WarpedLoss(density=ErrorCurveLoss())


def test_the_loss_trains_the_sampler_and_not_through_the_grid() -> None:
    sampler = ErrorCurveSampler(UNet(2, [4, 8]))
    segmenter = SampledSegmenter(
        Downsampler(sampler, (12, 18), sample_gradient=False), UNet(3, [4, 8])
    )
    loss = FullResolutionLoss(grid_gradient=False, density=ErrorCurveLoss())
    image = torch.randint(0, 256, (2, 3, 72, 108), dtype=torch.uint8)
    labels = torch.randint(0, 3, (2, 72, 108), dtype=torch.uint8)
    terms = loss(segmenter(image), labels, 0.0)
    parameters = list(sampler.parameters())
    alone = torch.autograd.grad(
        terms["segmentation"], parameters, retain_graph=True, allow_unused=True
    )
    assert all(gradient is None for gradient in alone)
    together = torch.autograd.grad(terms["density"], parameters)
    assert all(bool(gradient.isfinite().all()) for gradient in together)
    assert any(bool(gradient.any()) for gradient in together)


def test_half_precision_networks_have_exact_budgets_and_losses() -> None:
    sampler = ErrorCurveSampler(UNet(2, [4]), perturbation=0.0)
    segmenter = SampledSegmenter(
        Downsampler(sampler, (8, 12), sample_gradient=False), UNet(3, [4, 4])
    )
    loss = FullResolutionLoss(grid_gradient=False, density=ErrorCurveLoss())
    image = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    labels = torch.randint(0, 3, (1, 64, 96), dtype=torch.uint8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        prediction = segmenter(image)
        terms = loss(prediction, labels, 0.0)
    curves = prediction.sampled.curves
    expected = best_density(curves, minimum=sampler.minimum, maximum=sampler.maximum)
    torch.testing.assert_close(relative_density(prediction.sampled.density), expected)
    loss.density.mean_error.zero_()  # type: ignore[union-attr, operator]
    single = loss.density(  # type: ignore[misc]
        prediction.sampled,
        labels,
        observed(torch.ones(1, 64, 96)),
        0.0,
    )
    assert single.dtype == torch.float32
    assert all(bool(term.isfinite()) and term.dtype == torch.float32 for term in terms.values())


def test_budgets_that_a_split_predicts() -> None:
    metric = BudgetCurve(0.1, 10.0)
    parts = [ErrorCurves(torch.randn(2, 1, *CELLS), torch.rand(2, 1, *CELLS) + 0.1) for _ in "ab"]
    for curves in parts:
        metric.update(curves)
    found = metric.compute()
    ones = [area_mean(expected_error(c, torch.ones_like(c.elasticity))).sum() for c in parts]
    four = [area_mean(expected_error(c, 4 * torch.ones_like(c.elasticity))).sum() for c in parts]
    at = BUDGETS.index(4.0)
    assert found["budgets"] == list(BUDGETS)
    assert found["uniform"][BUDGETS.index(1.0)] == pytest.approx(1)  # type: ignore[index]
    assert found["uniform"][at] == pytest.approx(float(sum(four) / sum(ones)))  # type: ignore[index]
    assert found["sampled"][at] < found["uniform"][at]  # type: ignore[index]
    assert 0.1 < found["elasticity"] < 1.1  # type: ignore[operator]


def test_other_samplers_have_no_curves() -> None:
    assert LearnedSampler(nn.Conv2d(3, 1, 1))(torch.randn(1, 3, 5, 6), (5, 6)).curves is None
    assert identity_grid((2, 2), torch.zeros(1)).shape == (1, 2, 2, 2)
