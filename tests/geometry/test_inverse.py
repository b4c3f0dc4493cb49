import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from deformsample.conventions import Size
from deformsample.errors import ArgumentError
from deformsample.geometry import (
    identity_grid,
    interpolate_mesh,
    inverse_coordinates,
    resize_grid,
    sampling_grid,
    softmax_density,
    transport_grid,
)
from deformsample.geometry.inverse import _inverse_anywhere
from deformsample.geometry.mesh import locate, triangulate
from tests.geometry.test_transport import KINDS
from tests.helpers import compute_as_on_a_gpu, naming


def peaked_grid(seed: int, h: int, w: int, sharpness: float = 3.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(1, 1, h, w, generator=generator, dtype=torch.float64) * sharpness
    return sampling_grid(softmax_density(scores), (h, w), 1.5)


def lattice(n: int, m: int) -> tuple[Tensor, Tensor]:
    rows = torch.linspace(-1, 1, n, dtype=torch.float64)
    columns = torch.linspace(-1, 1, m, dtype=torch.float64)
    return rows, columns


def test_the_identity_is_its_own_inverse() -> None:
    rows, columns = lattice(13, 21)
    coordinates = inverse_coordinates(identity_grid((4, 6), rows[None]), rows, columns)
    expected = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)
    torch.testing.assert_close(coordinates[0], expected)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    h=st.integers(2, 12),
    w=st.integers(2, 12),
    sharpness=st.floats(0, 6),
)
def test_the_grid_maps_the_inverse_back_to_every_point(
    seed: int, h: int, w: int, sharpness: float
) -> None:
    grid = peaked_grid(seed, h, w, sharpness)
    rows, columns = lattice(37, 53)
    coordinates = inverse_coordinates(grid, rows, columns)
    back = interpolate_mesh(grid.movedim(-1, 1), coordinates)
    expected = torch.stack(torch.meshgrid(columns, rows, indexing="xy"))
    torch.testing.assert_close(back[0], expected, rtol=0, atol=1e-6)


def test_points_against_a_naive_search_of_all_triangles() -> None:
    grid = peaked_grid(3, 5, 6)
    rows, columns = lattice(9, 11)
    mesh = triangulate(grid)
    found = locate(mesh, rows, columns)
    vertices = grid.flatten(1, 2)[0]
    for i, y in enumerate(rows.tolist()):
        for j, x in enumerate(columns.tolist()):
            holding = []
            for number, corners in enumerate(mesh.corners):
                a, p, q = vertices[corners]
                matrix = torch.stack((p - a, q - a), dim=1)
                second, third = torch.linalg.solve(matrix, torch.tensor([x, y]).double() - a)
                if min(second, third, 1 - second - third) > -1e-9:
                    holding.append(number)
            assert int(found.triangle[0, i, j]) in holding


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_holes_for_two_million_points(dtype: torch.dtype) -> None:
    grid = peaked_grid(7, 64, 128, sharpness=4.0).to(dtype)
    rows, columns = lattice(1024, 2048)
    coordinates = inverse_coordinates(grid, rows, columns)
    back = interpolate_mesh(grid.movedim(-1, 1).double(), coordinates.double())
    expected = torch.stack(torch.meshgrid(columns, rows, indexing="xy"))
    assert float((back[0] - expected).abs().max()) < 1e-5


def test_gradient_to_the_grid_against_finite_differences() -> None:
    base = peaked_grid(1, 5, 6, sharpness=1.0)
    inner = torch.zeros_like(base)
    inner[:, 1:-1, 1:-1] = 1  # border samples stay on the border
    rows, columns = lattice(8, 9)
    rows, columns = rows * 0.93 + 0.011, columns * 0.91 + 0.017

    def inverse(change: Tensor) -> Tensor:
        return inverse_coordinates(base + change * inner, rows, columns)

    change = torch.zeros_like(base, requires_grad=True)
    assert torch.autograd.gradcheck(inverse, (change,), eps=1e-7, atol=1e-5)


def test_gradient_of_unwarped_values_reaches_grid_and_values() -> None:
    base = peaked_grid(2, 5, 6, sharpness=1.0)
    inner = torch.zeros_like(base)
    inner[:, 1:-1, 1:-1] = 1
    rows, columns = lattice(5, 7)
    rows, columns = rows * 0.9 + 0.013, columns * 0.9 + 0.019

    def values_there(values: Tensor, change: Tensor) -> Tensor:
        grid = base + change * inner
        return interpolate_mesh(values, inverse_coordinates(grid, rows, columns))

    values = torch.randn(1, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    change = torch.zeros_like(base, requires_grad=True)
    assert torch.autograd.gradcheck(values_there, (values, change), eps=1e-7, atol=1e-5)


def test_a_collapsed_cell_has_finite_coordinates_and_gradients() -> None:
    grid = identity_grid((4, 4), torch.zeros(1, dtype=torch.float64)).clone()
    grid[:, 1, 1] = grid[:, 1, 2] = grid[:, 2, 1] = grid[:, 2, 2]
    grid.requires_grad_()
    rows, columns = lattice(31, 31)
    coordinates = inverse_coordinates(grid, rows, columns)
    coordinates.sum().backward()
    assert bool(coordinates.isfinite().all())
    assert grid.grad is not None
    assert bool(grid.grad.isfinite().all())


def test_batches_are_independent() -> None:
    grid = torch.cat((peaked_grid(1, 6, 7), peaked_grid(2, 6, 7)))
    rows, columns = lattice(9, 12)
    both = inverse_coordinates(grid, rows, columns)
    torch.testing.assert_close(both[1:], inverse_coordinates(grid[1:], rows, columns))


def test_a_grid_that_leaves_the_border_uncovered_is_refused() -> None:
    grid = identity_grid((4, 4), torch.zeros(1)) * 0.9
    with pytest.raises(ArgumentError, match=naming("grid", "0.1")):
        triangulate(grid)


def test_points_outside_the_image_are_refused() -> None:
    grid = identity_grid((4, 4), torch.zeros(1))
    with pytest.raises(ArgumentError, match=naming("columns", 0.0, 1.5)):
        inverse_coordinates(grid, torch.zeros(1), torch.tensor([0.0, 1.5]))
    with pytest.raises(ArgumentError, match=naming("rows", 0.0)):
        inverse_coordinates(grid, torch.tensor([0.0, 0.5, 0.2]), torch.zeros(1))
    with pytest.raises(ArgumentError, match=naming("rows", (0,))):
        inverse_coordinates(grid, torch.zeros(0), torch.zeros(1))


def test_compiled_inverse_is_the_inverse_of_other_devices() -> None:
    scores = torch.randn(2, 1, 9, 14, dtype=torch.float64)
    grid = sampling_grid(softmax_density(scores), (9, 14), 2.0).requires_grad_()
    rows, columns = lattice(31, 27)
    compiled = inverse_coordinates(grid, rows, columns)
    generic = _inverse_anywhere(grid, rows, columns)
    torch.testing.assert_close(compiled, generic)
    towards = torch.randn(2, 31, 27, 2, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(compiled, grid, towards)
    (expected,) = torch.autograd.grad(generic, grid, towards)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize(
    ("cells", "size", "points"),
    [
        ((20, 30), (16, 24), (64, 97)),
        ((20, 30), (40, 33), (21, 30)),
        ((10, 30), (16, 16), (32, 33)),
        ((60, 12), (24, 30), (33, 40)),
    ],
)
def test_the_inverse_of_other_devices_is_exact_for_grids_of_densities(
    kind: str, cells: Size, size: Size, points: Size
) -> None:
    density = torch.cat([KINDS[kind](cells, seed) for seed in range(4)])
    finer = (2 * size[0] - 1, 2 * size[1] - 1)
    for grid in (
        transport_grid(density, size, minimum=0.1),
        transport_grid(density.float(), size, minimum=0.01),
        resize_grid(transport_grid(density, size), finer),
        sampling_grid(density, size, 2.0),
    ):
        rows, columns = (axis.to(grid.dtype) for axis in lattice(*points))
        exact = inverse_coordinates(grid, rows, columns)
        apart = (_inverse_anywhere(grid, rows, columns) - exact) * torch.tensor(grid.shape[2:0:-1])
        assert float(apart.abs().max()) / 2 < 1e-4  # of the distance of two samples


@pytest.mark.parametrize("displacement", [0.1, 0.2])
def test_the_inverse_of_other_devices_is_exact_for_regressed_grids(displacement: float) -> None:
    coarse = identity_grid((8, 8), torch.zeros(20, dtype=torch.float64)).clone()
    coarse[:, 1:-1, 1:-1] += displacement * torch.randn(20, 6, 6, 2, dtype=torch.float64)
    grid = resize_grid(coarse.clamp(-1, 1), (32, 48))  # some of them fold
    rows, columns = lattice(64, 96)
    exact = inverse_coordinates(grid, rows, columns)
    back = interpolate_mesh(grid.movedim(-1, 1), _inverse_anywhere(grid, rows, columns))
    expected = interpolate_mesh(grid.movedim(-1, 1), exact)
    torch.testing.assert_close(back, expected, rtol=0, atol=1e-4 * 2 / 47)


def test_other_devices_give_nan_for_what_is_an_error_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compute_as_on_a_gpu(monkeypatch)
    rows, columns = lattice(5, 7)
    grid = identity_grid((4, 6), torch.zeros(3, dtype=torch.float64)).clone()
    assert bool(inverse_coordinates(grid, rows, columns).isfinite().all())
    grid[1] *= 0.9
    grid[2, 1, 1, 0] = torch.nan
    coordinates = inverse_coordinates(grid, rows, columns)
    assert bool(coordinates[0].isfinite().all())
    assert bool(coordinates[1:].isnan().all())
    # Nor does an index of such a point leave the image.
    values = interpolate_mesh(torch.ones(3, 2, 4, 6, dtype=torch.float64), coordinates)
    assert bool(values[1:].isnan().all())
    for wrong in (rows * 1.1, rows.flip(0)):
        assert bool(inverse_coordinates(grid, wrong, columns).isnan().all())


def test_a_gpu_never_waits() -> None:
    # A tensor that only pretends to be on a GPU has no values: asking for one is an error.
    with FakeTensorMode():
        grid = torch.empty(2, 6, 8, 2, device="cuda", requires_grad=True)
        rows, columns = (torch.empty(n, device="cuda") for n in (9, 11))
        coordinates = inverse_coordinates(grid, rows, columns)
    assert coordinates.shape == (2, 9, 11, 2)
    assert coordinates.device.type == "cuda"
