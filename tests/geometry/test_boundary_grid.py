import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import lil_matrix
from scipy.sparse.linalg import spsolve
from torch import Tensor

from deformsample.errors import ArgumentError
from deformsample.geometry import (
    edge_optimal_grid,
    grid_density,
    identity_grid,
    nearest_boundary,
    resize_grid,
    sampling_grid,
    softmax_density,
    to_pixels,
    uniform_density,
)
from deformsample.geometry.density import label_boundaries
from tests.helpers import compute_as_on_a_gpu, naming

EXACT = "donot_use_mm_for_euclid_dist"


def solved(target: Tensor, smoothness: float) -> Tensor:
    """One coordinate (h, w), -1 in the first column and 1 in the last, by a sparse solver."""
    h, w = target.shape
    matrix, right = lil_matrix((h * w, h * w)), np.zeros(h * w)
    for i in range(h):
        for j in range(w):
            number = i * w + j
            if j in (0, w - 1):
                matrix[number, number], right[number] = 1, -1 if j == 0 else 1
                continue
            matrix[number, number], right[number] = 1, float(target[i, j])
            for other_i, other_j in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
                if 0 <= other_i < h:
                    matrix[number, number] += smoothness
                    matrix[number, other_i * w + other_j] -= smoothness
    return torch.from_numpy(spsolve(matrix.tocsr(), right)).view(h, w)


@pytest.mark.parametrize("smoothness", [0.05, 1.0, 30.0])
@pytest.mark.parametrize("size", [(8, 8), (5, 9), (2, 3), (4, 2)])
def test_grid_is_that_of_a_sparse_solver(size: tuple[int, int], smoothness: float) -> None:
    boundary = torch.rand(1, *size, 2, dtype=torch.float64) * 2 - 1
    grid = edge_optimal_grid(boundary, smoothness)[0]
    torch.testing.assert_close(grid[..., 0], solved(boundary[0, ..., 0], smoothness))
    torch.testing.assert_close(grid[..., 1], solved(boundary[0, ..., 1].mT, smoothness).mT)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), h=st.integers(2, 9), w=st.integers(2, 9))
def test_border_samples_stay_on_the_border(seed: int, h: int, w: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    boundary = torch.rand(2, h, w, 2, generator=generator) * 2 - 1
    grid = edge_optimal_grid(boundary, 1.0)
    assert bool((grid[:, :, 0, 0] == -1).all() and (grid[:, :, -1, 0] == 1).all())
    assert bool((grid[:, 0, :, 1] == -1).all() and (grid[:, -1, :, 1] == 1).all())
    fine = resize_grid(grid, (2 * h + 1, 3 * w))
    assert bool((fine[:, :, 0, 0] == -1).all() and (fine[:, -1, :, 1] == 1).all())


def test_nearest_boundary_against_all_distances() -> None:
    labels = torch.zeros(2, 40, 50, dtype=torch.uint8)
    labels[0, 12:20, 30:41] = 1
    labels[1, 5:, 7] = 2
    labels[1, 30, 40] = 255
    found = to_pixels(nearest_boundary(labels, (7, 9), 255), (40, 50))
    uniform = to_pixels(identity_grid((7, 9), labels[:, :1].float()), (40, 50)).round()
    for n in range(2):
        y, x = np.nonzero(label_boundaries(labels, 255)[n, 0].numpy())
        edges = torch.from_numpy(np.stack((x, y), axis=1)).float()
        distances = torch.cdist(uniform[n].flatten(0, 1), edges, compute_mode=EXACT)
        ours = (found[n].flatten(0, 1) - uniform[n].flatten(0, 1)).norm(dim=1)
        # The chamfer mask's distances are within some percent of the true ones.
        assert bool((ours <= distances.amin(dim=1) * 1.05 + 0.01).all())
        gap = torch.cdist(found[n].flatten(0, 1), edges, compute_mode=EXACT).amin(dim=1)
        assert float(gap.max()) < 1e-3


def test_without_a_boundary_the_grid_is_uniform() -> None:
    labels = torch.full((1, 20, 30), 3, dtype=torch.uint8)
    grid = edge_optimal_grid(nearest_boundary(labels, (5, 6), 255), 1.0)
    # Not the identity: smoothness alone would be, and so would the locations alone.
    torch.testing.assert_close(grid, identity_grid((5, 6), torch.zeros(1)), rtol=0, atol=1e-5)


def test_density_of_a_grid() -> None:
    like = torch.zeros(1, dtype=torch.float64)
    even = grid_density(identity_grid((9, 13), like), (6, 7))
    torch.testing.assert_close(even, uniform_density((6, 7), like.view(1, 1, 1, 1)))
    scores = torch.zeros(1, 1, 20, 30, dtype=torch.float64)
    scores[..., 5:12, 8:20] = 2
    grid = sampling_grid(softmax_density(scores), (20, 30), 2.0)
    density = grid_density(grid, (20, 30))
    assert float(density.sum()) == pytest.approx(1)
    assert density[..., 7:10, 11:17].min() > 1.25 * density[..., 15:, :].max()


def test_wrong_smoothness_is_named() -> None:
    with pytest.raises(ArgumentError, match=naming("smoothness", 0)):
        edge_optimal_grid(torch.zeros(1, 4, 4, 2), 0)


def test_other_devices_find_the_nearest_boundary_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = torch.zeros(3, 31, 44, dtype=torch.uint8)  # the first image has no boundary
    labels[1:, 10:13, 30:] = 1
    labels[2, 25:, :3] = 2
    chamfer = nearest_boundary(labels, (5, 7), 255)
    compute_as_on_a_gpu(monkeypatch)
    found = nearest_boundary(labels, (5, 7), 255)
    uniform = identity_grid((5, 7), found)
    assert torch.equal(found[0], uniform[0])
    places = to_pixels(uniform, (31, 44)).round()
    for image in (1, 2):
        edges = label_boundaries(labels[image][None], 255)[0, 0].nonzero().flip(1).float()
        apart = torch.cdist(places[image].flatten(0, 1), edges, compute_mode=EXACT).amin(dim=1)
        reached = to_pixels(found[image], (31, 44))
        torch.testing.assert_close((reached - places[image]).norm(dim=-1).flatten(), apart)
        assert float(torch.cdist(reached.flatten(0, 1), edges).amin(dim=1).max()) < 1e-3
        other = (to_pixels(chamfer[image], (31, 44)) - places[image]).norm(dim=-1).flatten()
        assert bool((other <= apart * 1.05 + 1e-3).all())
