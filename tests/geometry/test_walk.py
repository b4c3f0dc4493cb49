from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from deformsample.conventions import Size
from deformsample.geometry import (
    identity_grid,
    inverse_coordinates,
    resize_grid,
    sampling_grid,
    softmax_density,
    to_pixels,
    transport_grid,
)
from deformsample.geometry.coordinates import axis
from deformsample.geometry.walk import inverse_lattice, located_points, walked

SIZE = (70, 111)


def spot(size: Size) -> Tensor:
    density = torch.zeros(1, 1, *size)
    density[..., 4:6, 3:6] = 1.0
    return density


GRIDS: dict[str, Callable[[], Tensor]] = {
    "uniform": lambda: identity_grid((2, 3), torch.zeros(2, 1)),
    "noise": lambda: transport_grid(torch.randn(4, 1, 17, 30).mul(3).exp(), (17, 30)),
    "finer map": lambda: transport_grid(torch.randn(4, 1, 33, 59).exp(), (17, 30), minimum=0.02),
    "spot": lambda: transport_grid(spot((17, 30)), (17, 30), minimum=0.02),
    "logit upsampling": lambda: resize_grid(transport_grid(spot((17, 30)), (17, 30)), (68, 120)),
    "Gaussian": lambda: sampling_grid(
        softmax_density(torch.randn(4, 1, 17, 30) * 6), (17, 30), 2.0
    ),
}


@pytest.mark.parametrize("kind", GRIDS)
def test_against_the_scan_conversion(kind: str) -> None:
    grid = GRIDS[kind]()
    rows, columns = (axis(n, grid) for n in SIZE)
    expected = inverse_coordinates(grid, rows, columns)
    found = torch.cat([located_points(*block) for block in walked(grid, SIZE, 3)], dim=1)
    size = (grid.shape[1], grid.shape[2])
    apart = (to_pixels(found, size) - to_pixels(expected, size)).norm(dim=-1)
    assert float(apart.max()) < 1e-3  # sample distances


def test_blocks_cover_the_image() -> None:
    grid = sampling_grid(softmax_density(torch.randn(1, 1, 9, 14)), (9, 14), 2.0)
    blocks = [located for _, located in walked(grid, (301, 23), 10**5)]
    assert len(blocks) > 2
    assert sum(block.triangle.shape[1] for block in blocks) == 301
    single = [located for _, located in walked(grid, (301, 23), 1)]
    assert len(single) == 1
    assert torch.equal(torch.cat([block.weights for block in blocks], 1), single[0].weights)


def test_the_inverse_has_the_gradient_of_the_compiled_one() -> None:
    density = torch.randn(2, 1, 9, 14, dtype=torch.float64)
    mesh = transport_grid(density.exp(), (9, 14)).requires_grad_()
    rows, columns = (axis(n, mesh) for n in (8, 11))
    # Corners of the image are corners of triangles, where the gradient is that of any of them.
    weights = F.pad(torch.randn(2, 6, 9, 2, dtype=torch.float64), (0, 0, 1, 1, 1, 1))
    found, expected = inverse_lattice(mesh, (8, 11)), inverse_coordinates(mesh, rows, columns)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad((p * weights).sum(), mesh)[0] for p in (found, expected)]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)


def test_non_finite_grids_stay_non_finite() -> None:
    grid = identity_grid((5, 7), torch.zeros(1)).clone()
    grid[0, 2, 3] = torch.nan
    assert not bool(inverse_lattice(grid, (5, 7)).isfinite().all())
