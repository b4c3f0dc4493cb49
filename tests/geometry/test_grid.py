import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deformsample.errors import ArgumentError
from deformsample.geometry import (
    identity_grid,
    local_stretch,
    sample_areas,
    sampling_grid,
    softmax_density,
    uniform_density,
)
from tests.helpers import naming


def naive_grid(density: Tensor, size: tuple[int, int], sigma: float) -> Tensor:
    """The double sum over cells and their mirror images, one sample at a time."""
    mh, mw = density.shape
    mirrored = {}
    reach = math.ceil(12 * sigma)
    for y in range(-reach, mh + reach):
        for x in range(-reach, mw + reach):
            i, j = mirror(y, mh), mirror(x, mw)
            mirrored[y, x] = float(density[i, j])
    grid = torch.zeros(*size, 2, dtype=torch.float64)
    for r in range(size[0]):
        for c in range(size[1]):
            y0, x0 = r * (mh - 1) / (size[0] - 1), c * (mw - 1) / (size[1] - 1)
            mass = moment_x = moment_y = 0.0
            for (y, x), d in mirrored.items():
                weight = d * math.exp(-((y - y0) ** 2 + (x - x0) ** 2) / (2 * sigma**2))
                mass += weight
                moment_x += weight * x
                moment_y += weight * y
            grid[r, c, 0] = moment_x / mass * 2 / (mw - 1) - 1
            grid[r, c, 1] = moment_y / mass * 2 / (mh - 1) - 1
    return grid


def mirror(i: int, count: int) -> int:
    i %= 2 * (count - 1)
    return min(i, 2 * (count - 1) - i)


def triangle_areas(grid: Tensor) -> Tensor:
    """Signed areas of both triangles of each cell, in units of the uniform cell's."""
    a, b, c, d = grid[:, :-1, :-1], grid[:, :-1, 1:], grid[:, 1:, :-1], grid[:, 1:, 1:]

    def area(p: Tensor, q: Tensor, r: Tensor) -> Tensor:
        u, v = q - p, r - p
        return u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]

    cell = 4 / ((grid.shape[1] - 1) * (grid.shape[2] - 1))
    return torch.stack((area(a, b, c), area(d, c, b))) / cell


def test_grid_against_the_published_sum() -> None:
    density = torch.rand(1, 1, 4, 6, dtype=torch.float64) + 0.01
    for size in ((4, 6), (5, 3)):
        grid = sampling_grid(density, size, sigma=1.3)
        expected = naive_grid(density[0, 0] / density.max() + 1e-4, size, 1.3)
        torch.testing.assert_close(grid[0], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("size", "sigma"),
    [((9, 16), 0.5), ((9, 16), 2.0), ((12, 20), 1.0), ((12, 20), 6.4), ((5, 7), 50.0)],
)
def test_flat_density_gives_the_identity(size: tuple[int, int], sigma: float) -> None:
    flat = uniform_density((9, 16), torch.zeros(2, 1))
    grid = sampling_grid(flat, size, sigma)
    torch.testing.assert_close(grid, identity_grid(size, grid), rtol=0, atol=1e-6)


def test_all_zero_density_counts_as_flat() -> None:
    grid = sampling_grid(torch.zeros(1, 1, 8, 8), (8, 8), 2.0)
    torch.testing.assert_close(grid, identity_grid((8, 8), grid), rtol=0, atol=1e-6)


def test_samples_move_towards_the_density() -> None:
    density = torch.ones(1, 1, 9, 17)
    density[0, 0, 4, 12] = 50  # right of the centre
    grid = sampling_grid(density, (9, 17), 2.0)
    assert grid[0, 4, 10, 0] > identity_grid((9, 17), grid)[0, 4, 10, 0]
    assert grid[0, 4, 14, 0] < identity_grid((9, 17), grid)[0, 4, 14, 0]
    torch.testing.assert_close(grid[0, 4, :, 1], torch.zeros(17), rtol=0, atol=1e-6)


@settings(max_examples=1000, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    height=st.integers(2, 24),
    width=st.integers(2, 24),
    sharpness=st.floats(0, 8),
    sigma=st.sampled_from([2.0, 4.0, 6.4]),
)
def test_no_fold_and_exact_border(
    seed: int, height: int, width: int, sharpness: float, sigma: float
) -> None:
    scores = torch.randn(1, 1, height, width, generator=torch.Generator().manual_seed(seed))
    grid = sampling_grid(softmax_density(scores * sharpness), (height, width), sigma)
    assert bool((grid[:, :, 0, 0] == -1).all())
    assert bool((grid[:, :, -1, 0] == 1).all())
    assert bool((grid[:, 0, :, 1] == -1).all())
    assert bool((grid[:, -1, :, 1] == 1).all())
    assert bool((triangle_areas(grid.double()) > -1e-7).all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_one_hot_density_stays_finite_in_every_dtype(dtype: torch.dtype) -> None:
    density = torch.zeros(1, 1, 32, 48, dtype=dtype)
    density[0, 0, 3, 40] = 1
    grid = sampling_grid(density, (32, 48), 2.0)
    assert bool(grid.isfinite().all())
    assert grid.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_autocast_does_not_lower_the_precision() -> None:
    density = softmax_density(torch.randn(1, 1, 16, 16))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = sampling_grid(density, (16, 16), 2.0)
    assert torch.equal(inside, sampling_grid(density, (16, 16), 2.0))


def test_batch_order_does_not_matter() -> None:
    density = softmax_density(torch.randn(3, 1, 8, 12))
    grid = sampling_grid(density, (8, 12), 2.0)
    torch.testing.assert_close(sampling_grid(density.flip(0), (8, 12), 2.0), grid.flip(0))


def test_gradient_to_the_density() -> None:
    density = (torch.rand(1, 1, 4, 5, dtype=torch.float64) + 0.2).requires_grad_()
    assert torch.autograd.gradcheck(lambda d: sampling_grid(d, (3, 6), 1.0), (density,))


def test_kernels_made_in_inference_mode_serve_training() -> None:
    density = torch.rand(1, 1, 11, 13)
    with torch.inference_mode():
        sampling_grid(density, (11, 13), 1.7)
    sampling_grid(density.requires_grad_(), (11, 13), 1.7).sum().backward()
    assert density.grad is not None


def test_wrong_density_shape_and_kernel_are_named() -> None:
    with pytest.raises(ArgumentError, match=naming("density", (1, 2, 4, 4))):
        sampling_grid(torch.ones(1, 2, 4, 4), (4, 4), 2.0)
    with pytest.raises(ArgumentError, match=naming("sigma", 0.1)):
        sampling_grid(torch.ones(1, 1, 4, 4), (4, 4), 0.1)


def test_stretch_of_the_identity_is_the_pixel_distance() -> None:
    stretch = local_stretch(identity_grid((5, 9), torch.zeros(1)), (41, 65))
    torch.testing.assert_close(stretch, torch.full((1, 5, 9), math.sqrt(10 * 8)))


def test_areas_sum_to_the_image_and_shrink_where_the_density_is() -> None:
    density = torch.ones(1, 1, 16, 24)
    density[0, 0, 8, 6] = 100
    areas = sample_areas(sampling_grid(density, (16, 24), 2.0))
    torch.testing.assert_close(areas.sum(), torch.tensor(1.0))
    assert int(areas[0, 1:-1, 1:-1].argmin()) == 7 * 22 + 5
    uniform = sample_areas(identity_grid((3, 3), torch.zeros(1)))[0]
    expected = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    torch.testing.assert_close(uniform, expected)
