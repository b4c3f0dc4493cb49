import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from deformsample.conventions import Size
from deformsample.errors import ArgumentError
from deformsample.geometry import (
    area_mean,
    grid_density,
    identity_grid,
    interpolate_mesh,
    relative_density,
    transport_grid,
)
from deformsample.geometry.coordinates import axis
from deformsample.geometry.transport import with_minimum
from deformsample.samplers import GaussianGrid, TransportGrid
from tests.helpers import naming, triangle_areas


def smooth(size: Size, seed: int, cells: int, contrast: float) -> Tensor:
    """A random density (1, 1, h, w) that varies over some cells, with a given contrast."""
    generator = torch.Generator().manual_seed(seed)
    nodes = [max(2, round(n / cells)) for n in size]
    field = torch.randn(1, 1, *nodes, generator=generator, dtype=torch.float64)
    field = F.interpolate(field, size, mode="bicubic", align_corners=True)
    field = (field - field.min()) / (field.max() - field.min())
    return (field * math.log(contrast)).exp()


def relative_areas(grid: Tensor) -> Tensor:
    """Areas of the triangles of a grid's mesh, relative to those of the uniform grid."""
    h, w = grid.shape[1:3]
    return triangle_areas(grid) * ((h - 1) * (w - 1) / 4)


def peak(size: Size, seed: int) -> Tensor:
    density = torch.zeros(size[0] * size[1], dtype=torch.float64)
    density[torch.randint(len(density), (), generator=torch.Generator().manual_seed(seed))] = 1
    return density.view(1, 1, *size)


def blurred_peak(size: Size, seed: int) -> Tensor:
    kernel = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64)
    kernel = (kernel[:, None] * kernel)[None, None]
    return F.conv2d(peak(size, seed), kernel, padding=1)


def checkerboard(size: Size, seed: int) -> Tensor:
    side = seed % 4 + 1
    rows, columns = (torch.arange(n) // side for n in size)
    return ((rows[:, None] + columns) % 2).double()[None, None]


def noise(size: Size, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    scale = 1 + seed % 20
    return (scale * torch.randn(1, 1, *size, generator=generator, dtype=torch.float64)).exp()


def steep(size: Size, seed: int) -> Tensor:
    return smooth(size, seed, 5, 1e12)


KINDS: dict[str, Callable[[Size, int], Tensor]] = {
    "peak": peak,
    "blurred peak": blurred_peak,
    "checkerboard": checkerboard,
    "noise": noise,
    "steep": steep,
    "smooth": lambda size, seed: smooth(size, seed, 5, 100.0),
}


@pytest.mark.parametrize(("contrast", "largest"), [(20.0, 0.05), (100.0, 0.1)])
@pytest.mark.parametrize("size", [(64, 128), (60, 81)])
def test_the_sampling_density_equals_the_density_map(
    size: Size, contrast: float, largest: float
) -> None:
    for seed in range(3):
        density = smooth(size, seed, 8, contrast)
        grid = transport_grid(density, size, minimum=1e-6)
        found = relative_density(grid_density(grid, size))
        error = (found / relative_density(density)).log().abs()
        assert float(error.median()) < largest


@pytest.mark.parametrize("size", [(9, 40), (40, 9)])
def test_a_density_of_one_coordinate_has_the_closed_form_of_one_dimension(size: Size) -> None:
    count = max(size)
    line = smooth((count, count), 3, 12, 10.0)[0, 0, 0]
    along_x = size[1] == count
    density = (line.expand(size) if along_x else line[:, None].expand(size))[None, None]
    grid = transport_grid(density, size, iterations=30)
    found = grid[0, size[0] // 2, :, 0] if along_x else grid[0, :, size[1] // 2, 1]
    # The cumulative distribution of the density sends a point to its place in the small image.
    rho = with_minimum(relative_density(density), 0.1)[0, 0]
    line = rho[0] if along_x else rho[:, 0]
    place = torch.cat((torch.zeros(1), ((line[1:] + line[:-1]) / 2).cumsum(0)))
    place = place / place[-1] * (count - 1)
    for sample in range(count):
        after = int(torch.searchsorted(place, sample).clamp(1, count - 1))
        share = (sample - place[after - 1]) / (place[after] - place[after - 1])
        point = after - 1 + share
        assert float(found[sample] + 1) / 2 * (count - 1) == pytest.approx(float(point), abs=0.1)


@given(
    kind=st.sampled_from(sorted(KINDS)),
    seed=st.integers(0, 2**20),
    cells=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    samples=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    minimum=st.sampled_from([0.01, 0.1, 0.3, 1.0]),
)
def test_no_density_folds_or_starves_the_grid(
    kind: str, seed: int, cells: Size, samples: Size, minimum: float
) -> None:
    grid = transport_grid(KINDS[kind](cells, seed), samples, minimum=minimum)
    areas = relative_areas(grid)
    assert float(areas.min()) > 0
    assert float(areas.max()) <= (1 + 1e-9) / minimum
    assert bool((grid[:, :, 0, 0] == -1).all() and (grid[:, :, -1, 0] == 1).all())
    assert bool((grid[:, 0, :, 1] == -1).all() and (grid[:, -1, :, 1] == 1).all())


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_many_densities_of_single_precision_do_not_fold(kind: str) -> None:
    density = torch.cat([KINDS[kind]((21, 30), seed) for seed in range(200)]).float()
    areas = relative_areas(transport_grid(density, (21, 30)))
    assert float(areas.min()) > 0
    assert float(areas.max()) < 10.01


def test_the_minimum_is_kept_and_used() -> None:
    density = torch.zeros(1, 1, 40, 60, dtype=torch.float64)
    density[..., 30:] = 1  # half of the image is empty
    for minimum in (0.1, 0.3):
        mixed = with_minimum(relative_density(density), minimum)
        assert float(mixed.min()) == pytest.approx(minimum)
        torch.testing.assert_close(area_mean(mixed), torch.ones(1, 1, 1, 1, dtype=torch.float64))
        largest = float(relative_areas(transport_grid(density, (40, 60), minimum=minimum)).max())
        assert 0.8 / minimum < largest <= 1 / minimum
    # What is above the minimum already stays as it is.
    positive = density + 0.5
    assert torch.equal(with_minimum(positive, 0.1), positive)


@pytest.mark.parametrize("value", [0.0, 1.0, 1e-30, 1e30])
def test_a_flat_density_gives_the_identity(value: float) -> None:
    grid = transport_grid(torch.full((2, 1, 9, 14), value), (20, 31))
    torch.testing.assert_close(grid, identity_grid((20, 31), grid), atol=1e-5, rtol=0)


def test_a_small_case() -> None:
    # A left half of three times the density: y maps x = -1/2 .. to the middle of the small image.
    density = torch.ones(1, 1, 2, 201, dtype=torch.float64)
    density[..., :101] = 3.0
    grid = transport_grid(density, (2, 5), minimum=0.01, iterations=40)
    # Half of the density, 3 x / 4 = 1/2 of the small image, lies left of 2/3 of the left half.
    torch.testing.assert_close(
        grid[0, 0, :, 0],
        torch.tensor([-1.0, -2 / 3, -1 / 3, 0.0, 1.0], dtype=torch.float64),
        atol=0.02,
        rtol=0,
    )


def test_symmetric_densities_give_symmetric_grids() -> None:
    density = smooth((24, 24), 1, 6, 30.0)
    # The diagonals of the mesh are symmetric under rotation by 180 degrees and transposition.
    turned = density + density.flip(2, 3)
    grid = transport_grid(turned, (24, 24))
    torch.testing.assert_close(grid.flip(1, 2), -grid, atol=1e-10, rtol=0)
    transposed = density + density.mT
    grid = transport_grid(transposed, (24, 24))
    torch.testing.assert_close(grid.transpose(1, 2).flip(3), grid, atol=1e-10, rtol=0)
    # Under reflection they change sides, which moves samples by less than a cell's curvature.
    mirrored = density + density.flip(3)
    grid = transport_grid(mirrored, (24, 24))
    reflected = grid.flip(2) * torch.tensor([-1.0, 1.0])
    torch.testing.assert_close(reflected, grid, atol=0.05 * 2 / 23, rtol=0)


def test_images_of_a_batch_do_not_know_each_other() -> None:
    density = torch.cat([smooth((12, 17), seed, 5, 50.0) for seed in range(3)])
    grid = transport_grid(density, (10, 15))
    torch.testing.assert_close(transport_grid(density.flip(0), (10, 15)), grid.flip(0))
    torch.testing.assert_close(transport_grid(density[1:2] * 1e3, (10, 15)), grid[1:2])


@pytest.mark.parametrize("kind", ["smooth", "noise"])
def test_the_gradient_is_exact(kind: str) -> None:
    density = KINDS[kind]((5, 6), 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda d: transport_grid(d, (4, 7)), (density,))


def fixed_steps(density: Tensor, size: Size) -> Tensor:
    """The grid of an exported graph."""
    program = torch.export.export(Grid(size), (density,), strict=False)
    grid: Tensor = program.module()(density)
    return grid


class Grid(torch.nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size

    def forward(self, density: Tensor) -> Tensor:
        return transport_grid(density, self.size)


@pytest.mark.slow
def test_an_exported_graph_takes_fixed_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    density = torch.cat([smooth((12, 18), 0, 6, 20.0), peak((12, 18), 1)]).float()
    with monkeypatch.context() as compiling:
        compiling.setattr(torch.compiler, "is_compiling", lambda: True)
        steps = transport_grid(density, (9, 14))
    torch.testing.assert_close(fixed_steps(density, (9, 14)), steps, atol=1e-6, rtol=0)
    assert not torch.equal(steps, transport_grid(density, (9, 14)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("samples", [(40, 60), (31, 83)])
def test_fixed_steps_end_at_the_exact_inverse(
    dtype: torch.dtype, samples: Size, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [KINDS[kind]((40, 60), seed) for kind in sorted(KINDS) for seed in range(4)]
    density = relative_density(torch.cat(parts))
    for _ in range(10):
        density = relative_density(density.clamp(0.1, 20))
    density = density.to(dtype)
    exact = transport_grid(density, samples)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    steps = transport_grid(density, samples)
    apart = (steps - exact) * torch.tensor(samples[::-1]) / 2
    assert not torch.equal(steps, exact)  # nor the same code
    assert float(apart.abs().max()) < (1e-3 if dtype == torch.float32 else 1e-9)


def test_fixed_steps_have_the_gradient_of_the_inverse(monkeypatch: pytest.MonkeyPatch) -> None:
    density = smooth((8, 11), 0, 4, 20.0).requires_grad_()
    weights = torch.randn(1, 9, 12, 2, dtype=torch.float64)
    gradients = []
    for compiling in (False, True):
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda answer=compiling: answer)
        grid = transport_grid(density, (9, 12))
        gradients.append(torch.autograd.grad((grid * weights).sum(), density)[0])
    torch.testing.assert_close(gradients[1], gradients[0])


def test_a_gpu_never_waits() -> None:
    # A tensor that only pretends to be on a GPU has no values: asking for one is an error.
    with FakeTensorMode(), torch.no_grad():
        density = torch.empty(2, 1, 20, 30, device="cuda")
        grid = transport_grid(density, (25, 40))
    assert grid.shape == (2, 25, 40, 2)
    assert grid.device.type == "cuda"


def test_the_grid_is_the_inverse_of_a_map_that_carries_the_density() -> None:
    density = smooth((40, 60), 0, 10, 30.0)
    grid = transport_grid(density, (40, 60))
    # Counting samples in boxes of the image gives the integral of the density there.
    fine = interpolate_mesh(
        grid.movedim(-1, 1),
        torch.stack(torch.meshgrid(axis(1200, grid), axis(1200, grid), indexing="xy"), -1)[None],
    )
    x, y = fine[0]
    boxes = ((y + 1) * 2).long().clamp_max(3) * 4 + ((x + 1) * 2).long().clamp_max(3)
    counted = torch.bincount(boxes.flatten(), minlength=16).double() / boxes.numel()
    cells = F.avg_pool2d(
        F.interpolate(density, (1201, 1201), mode="bilinear", align_corners=True), 2, 1
    )
    expected = F.adaptive_avg_pool2d(cells, 4).flatten()
    torch.testing.assert_close(counted, expected / expected.sum(), atol=2e-3, rtol=0.02)


@pytest.mark.slow
def test_it_can_be_compiled() -> None:
    density = smooth((16, 24), 0, 6, 20.0).float()
    compiled = torch.compile(transport_grid, backend="aot_eager")(density, (16, 24))
    plain = transport_grid(density, (16, 24))
    torch.testing.assert_close(compiled, plain, atol=1e-5, rtol=0)


def test_it_works_in_half_precision() -> None:
    density = smooth((16, 24), 0, 6, 20.0).float()
    plain = transport_grid(density, (16, 24))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(transport_grid(density, (16, 24)), plain)
    half = transport_grid(density.bfloat16(), (16, 24))
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, plain, atol=0.02, rtol=0)


def test_densities_that_are_not_finite_give_no_places() -> None:
    density = torch.ones(1, 1, 5, 6)
    density[0, 0, 2, 2] = math.nan
    assert not bool(transport_grid(density, (5, 6))[0, 1:-1, 1:-1].isfinite().any())


def test_wrong_arguments_are_named() -> None:
    density = torch.ones(1, 1, 5, 6)
    with pytest.raises(ArgumentError, match=naming("density", (1, 5, 6))):
        transport_grid(density[0], (5, 6))
    with pytest.raises(ArgumentError, match=naming("size", (1, 6))):
        transport_grid(density, (1, 6))
    with pytest.raises(ArgumentError, match=naming("density", (5, 1))):
        transport_grid(density[..., :1], (5, 6))
    with pytest.raises(ArgumentError, match=naming("minimum", 0.0)):
        transport_grid(density, (5, 6), minimum=0.0)
    with pytest.raises(ArgumentError, match=naming("iterations", 0)):
        transport_grid(density, (5, 6), iterations=0)


def test_parts_of_samplers_give_these_grids() -> None:
    density = smooth((9, 12), 0, 4, 20.0)
    expected = transport_grid(density, (7, 8), minimum=0.2, iterations=3)
    assert torch.equal(TransportGrid(0.2, 3)(density, (7, 8)), expected)
    with pytest.raises(ArgumentError, match=naming("sigma", 0.1)):
        GaussianGrid(0.1)
