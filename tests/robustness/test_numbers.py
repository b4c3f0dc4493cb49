"""Geometry and losses in every float dtype, at every size, and for densities of any kind.

Every test here is a property of drawn examples: some in the suite, as many as you like by
``pytest tests/robustness/test_numbers.py --hypothesis-profile=thorough``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from torch import Tensor, nn

from deformsample.conventions import IGNORE_INDEX, Size
from deformsample.geometry import (
    ErrorCurves,
    boundary_density,
    edge_optimal_grid,
    grid_density,
    identity_grid,
    image_pyramid,
    interpolate_mesh,
    inverse_coordinates,
    min_max,
    nearest_boundary,
    sample_areas,
    sampling_grid,
    softmax_density,
    unwarp,
    unwarp_labels,
    warp,
    warp_labels,
    warp_pyramid,
)
from deformsample.losses import (
    BoundaryKLLoss,
    BoundaryMSELoss,
    EdgeGridLoss,
    ErrorCurveLoss,
    FullResolutionLoss,
    LovaszLoss,
    NegativeLogDice,
    PixelLoss,
    WarpedLoss,
)
from deformsample.samplers.downsampler import Downsampled
from deformsample.segmenters import SampledPrediction
from tests.helpers import triangle_areas

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
DENSITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "flat": torch.ones_like,
    "zero": torch.zeros_like,
    "tiny": lambda r: torch.full_like(r, 1e-30) * (1 + r),
    "one cell": lambda r: torch.zeros_like(r).flatten(1).scatter(1, _any_cell(r), 1.0).view_as(r),
    "steps": lambda r: torch.where(r > 0.5, 1.0, 1e-30),
    "checkerboard": lambda r: _checkerboard(r) + 1e-12,
    "decades": lambda r: 10 ** (60 * r - 30),
    "softmax": lambda r: softmax_density((r - 0.5) * 2e4),
}
"""By name, from random numbers in [0, 1)."""


def _any_cell(random: Tensor) -> Tensor:
    return (random.flatten(1)[:, :1] * random[0].numel()).long()


def _checkerboard(random: Tensor) -> Tensor:
    h, w = random.shape[2:]
    return ((torch.arange(h)[:, None] + torch.arange(w)) % 2).to(random.dtype).expand_as(random)


@dataclass(frozen=True)
class Case:
    """A density with a grid, and images to go with it."""

    density: Tensor
    grid: Tensor
    size: Size
    dtype: torch.dtype
    seed: int

    def random(self, *shape: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        return torch.rand(*shape, generator=generator, dtype=torch.float64).to(self.dtype)


@st.composite
def cases(draw: DrawFn, largest: int = 24) -> Case:
    """Densities of a dtype and their grids; the kernel is as wide as no folds need."""
    side = st.integers(2, largest)
    cells, samples, size = draw(st.tuples(st.tuples(side, side), *2 * [st.tuples(side, side)]))
    seed = draw(st.integers(0, 2**31))
    generator = torch.Generator().manual_seed(seed)
    random = torch.rand(1, 1, *cells, generator=generator, dtype=torch.float64)
    dtype = draw(st.sampled_from(DTYPES))
    density = DENSITIES[draw(st.sampled_from(sorted(DENSITIES)))](random).double()
    density = density.clamp_max(torch.finfo(dtype).max).to(dtype)
    wide = max((c - 1) / (s - 1) for c, s in zip(cells, samples, strict=True))
    sigma = 2.0 * max(1.0, wide)
    return Case(density, sampling_grid(density, samples, sigma), size, dtype, seed)


def check_covers(grid: Tensor) -> None:
    """Finite, within the image, border on the border, and no cell turned over."""
    assert grid.isfinite().all()
    assert grid.abs().max() <= 1
    x, y = grid.unbind(-1)
    for side, value in ((x[:, :, 0], -1), (x[:, :, -1], 1), (y[:, 0], -1), (y[:, -1], 1)):
        assert torch.equal(side, torch.full_like(side, value))
    assert lowest_area(grid) >= -1e-9


def lowest_area(grid: Tensor) -> float:
    """Of the triangles of the mesh; below 0 where it folds."""
    return float(triangle_areas(grid).min())


@given(case=cases())
def test_grids_cover_the_image_without_folds(case: Case) -> None:
    assert case.grid.dtype == torch.promote_types(case.dtype, torch.float32)
    check_covers(case.grid)
    areas = sample_areas(case.grid)
    assert areas.min() >= -1e-6
    torch.testing.assert_close(areas.sum(), torch.ones_like(areas.sum()), atol=1e-4, rtol=0)


@given(case=cases(), h=st.integers(2, 24), w=st.integers(2, 24))
def test_grids_have_finite_gradients_to_any_density(case: Case, h: int, w: int) -> None:
    density = case.density.clone().requires_grad_()
    grid = sampling_grid(density, (h, w), 3.0)
    (grid * torch.linspace(-1, 1, grid.numel(), dtype=grid.dtype).view_as(grid)).sum().backward()
    assert density.grad is not None
    largest = density.detach().abs().max()
    if largest > torch.finfo(case.dtype).smallest_normal ** 0.5:  # else steeper than any dtype
        assert density.grad.isfinite().all()
    else:
        assert not density.grad.isnan().any()


@given(case=cases())
def test_flat_densities_give_the_identity(case: Case) -> None:
    flat = torch.full_like(case.density, 1 / case.density.numel())
    grid = sampling_grid(flat, (case.grid.shape[1], case.grid.shape[2]), 2.0)
    torch.testing.assert_close(
        grid, identity_grid((grid.shape[1], grid.shape[2]), grid), atol=2e-3, rtol=0
    )


@given(case=cases(), sharpness=st.sampled_from([0.0, 1.0, 1e4]))
def test_softmax_densities_have_sum_one(case: Case, sharpness: float) -> None:
    scores = (case.random(*case.density.shape) * sharpness).requires_grad_()
    density = softmax_density(scores)
    assert density.isfinite().all()
    assert density.double().sum().item() == pytest.approx(
        1, abs=max(2 * torch.finfo(case.dtype).eps, 1e-12)
    )
    density.square().sum().backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()
    stretched = min_max(density)
    assert stretched.min() >= 0
    assert stretched.max() <= 1


@given(case=cases())
def test_warped_values_are_those_of_the_image(case: Case) -> None:
    image = case.random(1, 2, *case.size).requires_grad_()
    for warped in (warp(image, case.grid), warp_pyramid(image_pyramid(image), case.grid, 0.0)):
        assert warped.dtype == case.dtype
        assert warped.shape == (1, 2, *case.grid.shape[1:3])
        slack = 4 * torch.finfo(case.dtype).eps
        assert warped.min() >= image.min() - slack
        assert warped.max() <= image.max() + slack
        image.grad = None
        warped.sum().backward()
        assert image.grad is not None
        assert image.grad.isfinite().all()


@given(case=cases())
def test_half_precision_images_are_sampled_where_others_are(case: Case) -> None:
    image = case.random(1, 1, *case.size)
    exact = warp(image.double(), case.grid)
    slack = 4 * torch.finfo(case.dtype).eps + 1e-4
    torch.testing.assert_close(warp(image, case.grid).double(), exact, atol=slack, rtol=0)
    exact = warp_pyramid(image_pyramid(image.double()), case.grid, 0.0)
    sampled = warp_pyramid(image_pyramid(image), case.grid, 0.0)
    torch.testing.assert_close(sampled.double(), exact, atol=slack, rtol=0)


@given(case=cases())
def test_unwarped_values_are_those_of_the_samples(case: Case) -> None:
    values = case.random(1, 3, *case.grid.shape[1:3]).requires_grad_()
    full = unwarp(values, case.grid, case.size)
    assert full.dtype == case.dtype
    slack = 4 * torch.finfo(case.dtype).eps
    assert full.min() >= values.min() - slack
    assert full.max() <= values.max() + slack
    full.sum().backward()
    assert values.grad is not None
    assert values.grad.isfinite().all()
    labels = unwarp_labels(values.detach(), case.grid, case.size)
    winning = full.detach().double().gather(1, labels[:, None].long())[:, 0]
    assert (winning >= full.detach().double().amax(dim=1) - 2 * slack).all()


@given(case=cases())
def test_the_inverse_of_a_grid_is_its_inverse(case: Case) -> None:
    grid = case.grid.clone().requires_grad_()
    rows, columns = (torch.linspace(-1, 1, n, dtype=grid.dtype) for n in case.size)
    places = inverse_coordinates(grid, rows, columns)
    assert places.isfinite().all()
    assert places.abs().max() <= 1 + 1e-6
    back = interpolate_mesh(grid.movedim(-1, 1), places).movedim(1, -1)
    expected = torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], dim=-1)[None]
    # A point within a mesh of tiny triangles is as exact as a number of the small image.
    assert (back - expected).abs().max() < 1e-3
    places.sum().backward()
    assert grid.grad is not None
    assert not grid.grad.isnan().any()


LOSSES: dict[str, Callable[[], nn.Module]] = {
    "full resolution": lambda: FullResolutionLoss(density=BoundaryKLLoss()),
    "full resolution, error curves": lambda: FullResolutionLoss(density=ErrorCurveLoss()),
    "full resolution, Lovasz": lambda: FullResolutionLoss(aux_loss=LovaszLoss()),
    "full resolution, Dice": lambda: FullResolutionLoss(aux_loss=NegativeLogDice()),
    "warped": lambda: WarpedLoss(density=BoundaryMSELoss()),
    "warped, class weights": lambda: WarpedLoss(class_weights=[1.0, 0.0, 3.0]),
    "edge grid": EdgeGridLoss,
}
LABELS: dict[str, Callable[[Tensor], Tensor]] = {
    "random": lambda r: (r * 3).long().clamp_max(2).to(torch.uint8),  # r is rounded
    "one class": lambda r: torch.zeros_like(r, dtype=torch.uint8),
    "no class": lambda r: torch.full_like(r, IGNORE_INDEX, dtype=torch.uint8),
    "some class": lambda r: torch.where(r > 0.9, 1, IGNORE_INDEX).to(torch.uint8),
}


@given(
    case=cases(16),
    loss=st.sampled_from(sorted(LOSSES)),
    labels=st.sampled_from(sorted(LABELS)),
    sharpness=st.sampled_from([0.0, 1.0, 1e4]),
)
def test_losses_and_their_gradients_are_finite(
    case: Case, loss: str, labels: str, sharpness: float
) -> None:
    h, w = case.grid.shape[1:3]
    logits = ((case.random(1, 3, h, w) - 0.5) * sharpness).requires_grad_()
    scores = ((case.random(1, 2, h, w) - 0.5) * sharpness).requires_grad_()
    density = softmax_density(scores[:, :1])
    grid = sampling_grid(density, (h, w), 2.0)
    image = case.random(1, 3, h, w)
    log_error, elasticity = scores.split(1, dim=1)
    curves = ErrorCurves(log_error, 1.5 * elasticity.sigmoid() + 1e-3)
    prediction = SampledPrediction(logits, grid, Downsampled(image, grid, density, curves))
    true = LABELS[labels](case.random(1, *case.size).double())
    terms = LOSSES[loss]()(prediction, true, 0.5)
    total = torch.stack([term.float() for term in terms.values()]).sum()
    assert total.isfinite()
    if total.requires_grad:
        total.backward()
    for tensor in (logits, scores):
        assert tensor.grad is None or tensor.grad.isfinite().all()
    assert warp_labels(true, grid).shape == (1, h, w)


@given(case=cases(), labels=st.sampled_from(sorted(LABELS)))
def test_densities_and_grids_of_labels(case: Case, labels: str) -> None:
    true = LABELS[labels](case.random(1, *case.size).double())
    h, w = case.grid.shape[1:3]
    density = boundary_density(true, (h, w), blur=0.5, floor=0.03, ignore_index=IGNORE_INDEX)
    assert density.min() > 0
    assert density.sum().item() == pytest.approx(1, abs=1e-4)
    grid = edge_optimal_grid(nearest_boundary(true, (h, w), IGNORE_INDEX), 1.0)
    assert grid.isfinite().all()
    assert float(grid_density(case.grid, (h, w)).sum()) == pytest.approx(1, abs=1e-3)


@given(case=cases(), labels=st.sampled_from(sorted(LABELS)))
def test_the_cross_entropy_of_any_logits(case: Case, labels: str) -> None:
    logits = ((case.random(1, 3, *case.size) - 0.5) * 6e4).requires_grad_()
    terms, errors = PixelLoss(aux_loss=NegativeLogDice())(
        logits.float(), LABELS[labels](case.random(1, *case.size).double())
    )
    loss = terms["segmentation"] + terms["auxiliary"]
    assert loss.isfinite()
    assert errors.isfinite().all()
    loss.backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


THOROUGH = settings.default is not None and settings.default.max_examples > 1000
SIZES = [(2, 2), (2, 1024), (1024, 2), (512, 700), *([(4096, 4096)] if THOROUGH else [])]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("kind", ["one cell", "steps", "softmax"])
def test_large_maps_do_not_fold(size: Size, kind: str) -> None:
    random = torch.rand(1, 1, *size, dtype=torch.float64)
    density = DENSITIES[kind](random).float().requires_grad_()
    grid = sampling_grid(density, size, 2.0)
    check_covers(grid.detach())
    grid[..., 0].square().sum().backward()
    assert density.grad is not None
    assert density.grad.isfinite().all()
