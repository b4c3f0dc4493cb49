"""More samples in the regions of the user."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from deformsample.errors import ArgumentError
from deformsample.geometry import identity_grid, to_pixels
from deformsample.networks import DeformationNet, EdgeRegressor, UNet
from deformsample.samplers import (
    DetailSampler,
    Downsampler,
    EdgeOptimalSampler,
    ErrorCurveSampler,
    Focus,
    FrozenSampler,
    LearnedSampler,
    Sampler,
    SeparableSampler,
    TransportGrid,
    UniformSampler,
)
from tests.helpers import naming, triangle_areas

BOX = (48, 24, 144, 72)
IMAGE = torch.rand(2, 3, 120, 200, generator=torch.Generator().manual_seed(0))

with torch.random.fork_rng():
    torch.manual_seed(0)
    DENSITY_SAMPLERS = [
        UniformSampler(),
        DetailSampler(),
        LearnedSampler(DeformationNet([8])),
        FrozenSampler(LearnedSampler(DeformationNet([8])), None),
        ErrorCurveSampler(UNet(2, [4, 8])),
    ]


def downsampler(sampler: Sampler) -> Downsampler:
    return Downsampler(sampler, sampled_size=(36, 60)).eval()


def inside(grid: Tensor) -> Tensor:
    """The share of the samples of each grid in the box."""
    x, y = to_pixels(grid, (120, 200)).unbind(-1)
    x0, y0, x1, y1 = (edge - 0.5 for edge in BOX)
    return ((x >= x0) & (x < x1) & (y >= y0) & (y < y1)).float().mean(dim=(1, 2))


@pytest.mark.parametrize("sampler", DENSITY_SAMPLERS, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("factor", [0.5, 4.0])
@torch.no_grad()
def test_samples_in_a_box_grow_by_the_factor(sampler: Sampler, factor: float) -> None:
    before = downsampler(sampler)(IMAGE)
    after = downsampler(sampler)(IMAGE, focus=Focus([BOX], factor))
    share = inside(before.grid)
    expected = factor * share / (1 + (factor - 1) * share)
    torch.testing.assert_close(inside(after.grid), expected, atol=0.03, rtol=0.05)
    torch.testing.assert_close(after.density.sum(dim=(1, 2, 3)), torch.ones(2))


@torch.no_grad()
def test_a_factor_of_one_changes_nothing() -> None:
    sampling = downsampler(DetailSampler())
    before, after = sampling(IMAGE), sampling(IMAGE, focus=Focus([BOX], 1.0))
    assert torch.equal(before.grid, after.grid)
    assert torch.equal(before.image, after.image)
    uniform = downsampler(UniformSampler())(IMAGE, focus=Focus([BOX], 1.0)).grid
    torch.testing.assert_close(uniform, identity_grid((36, 60), IMAGE))


@torch.no_grad()
def test_boxes_points_and_masks_mean_the_same() -> None:
    sampling = downsampler(DetailSampler())
    mask = np.zeros((120, 200), bool)
    mask[24:72, 48:144] = True
    by_box = sampling(IMAGE, focus=Focus([BOX])).density
    for regions in (
        mask,
        torch.from_numpy(mask),
        [BOX, BOX],
        [(*BOX[:2], 96, 72), (60, 24, 144, 72)],
    ):
        torch.testing.assert_close(sampling(IMAGE, focus=Focus(regions)).density, by_box)
    point = sampling(IMAGE, focus=Focus([(59.5, 39.5)], radius=0.1)).density
    square = sampling(IMAGE, focus=Focus([(48, 28, 72, 52)])).density
    torch.testing.assert_close(point, square)


@torch.no_grad()
def test_the_minimum_density_of_the_grid_holds() -> None:
    sampling = downsampler(DetailSampler(TransportGrid(minimum=0.3)))
    grid = sampling(IMAGE, focus=Focus([(90, 50, 110, 70)], 1e6)).grid
    cell = 2 / 35 * 2 / 59
    assert float(triangle_areas(grid).max()) <= 1.001 * cell / 0.3
    assert float(triangle_areas(grid).min()) > 0


@pytest.mark.parametrize(
    "sampler",
    [SeparableSampler(DeformationNet([8])), EdgeOptimalSampler(EdgeRegressor((4, 5), [8, 8]))],
    ids=lambda s: s.display_name,
)
def test_a_sampler_without_a_density_is_named(sampler: Sampler) -> None:
    with pytest.raises(ArgumentError, match=naming(type(sampler).__name__)):
        downsampler(sampler)(IMAGE, focus=Focus([BOX]))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"regions": []}, ["regions"]),
        ({"regions": [(1, 2, 3)]}, ["3", "(1, 2, 3)"]),
        ({"regions": [BOX, (5, 5, 5, 9)]}, ["(5, 5, 5, 9)"]),
        ({"regions": [(math.nan, 2)]}, ["(nan, 2)"]),
        ({"regions": [BOX], "factor": 0}, ["factor", "0"]),
        ({"regions": [BOX], "factor": math.inf}, ["factor", "inf"]),
        ({"regions": [(3, 4)], "radius": -1}, ["radius", "-1"]),
        ({"regions": np.zeros((2, 4))}, ["(2, 4)", "float64"]),
        ({"regions": torch.zeros(1, 5, 5, dtype=torch.bool)}, ["(1, 5, 5)"]),
    ],
)
def test_wrong_regions_are_named(arguments: dict[str, Any], named: list[str]) -> None:
    with pytest.raises(ArgumentError) as raised:
        Focus(**arguments)
    assert all(part in str(raised.value) for part in named)


@pytest.mark.parametrize(
    ("regions", "named"),
    [
        ([(200, 0, 220, 20)], ["200 x 120", "(200, 0, 220, 20)"]),
        ([(-20, 0, 0, 20)], ["(-20, 0, 0, 20)"]),
        ([BOX, (30, 120)], ["(30, 120)"]),
        (np.ones((200, 120), bool), ["(120, 200)", "(200, 120)"]),
    ],
)
def test_regions_outside_of_the_image_are_named(regions: Any, named: list[str]) -> None:
    with pytest.raises(ArgumentError) as raised:
        downsampler(UniformSampler())(IMAGE, focus=Focus(regions))
    assert all(part in str(raised.value) for part in named)


def test_a_box_may_extend_beyond_the_image() -> None:
    sampling = downsampler(UniformSampler())
    beyond = sampling(IMAGE, focus=Focus([(150, -40, 300, 60)])).grid
    torch.testing.assert_close(beyond, sampling(IMAGE, focus=Focus([(150, 0, 200, 60)])).grid)
