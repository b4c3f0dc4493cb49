import sys

import numpy as np
import pytest
import torch
from scipy.interpolate import LinearNDInterpolator
from torch import Tensor

from deformsample.errors import ArgumentError
from deformsample.geometry import (
    identity_grid,
    label_bands,
    sampling_grid,
    softmax_density,
    to_pixels,
    unwarp,
    unwarp_labels,
    warp,
)
from deformsample.geometry.coordinates import axis
from deformsample.geometry.mesh import locate, locate_anywhere, scan_axis, triangulate
from deformsample.geometry.unwarp import _labels, _prepared
from tests.helpers import naming


def random_grid(b: int, h: int, w: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return sampling_grid(softmax_density(torch.randn(b, 1, h, w, dtype=dtype) * 2), (h, w), 1.5)


def test_uniform_grid_of_a_linear_image() -> None:
    values = torch.tensor([[[[0.0, 2.0], [4.0, 6.0]]]])
    full = unwarp(values, identity_grid((2, 2), values), (3, 5))
    expected = torch.tensor([[0, 0.5, 1, 1.5, 2], [2, 2.5, 3, 3.5, 4], [4, 4.5, 5, 5.5, 6]])
    torch.testing.assert_close(full[0, 0], expected)


def test_values_at_the_samples_come_back() -> None:
    grid = identity_grid((5, 7), torch.zeros(2, 1))
    values = torch.randn(2, 3, 5, 7)
    full = unwarp(values, grid, (9, 13))
    torch.testing.assert_close(full[:, :, ::2, ::2], values)


def test_against_an_independent_interpolation() -> None:
    # Delaunay's triangles are others than the mesh's, but a linear function has one interpolation.
    grid = random_grid(1, 6, 8, torch.float64)
    points = to_pixels(grid, (40, 60))[0].reshape(-1, 2).numpy()
    function = points[:, 0] * 2 - points[:, 1]
    y, x = np.mgrid[:40, :60]
    expected = LinearNDInterpolator(points, function)(x, y)
    values = torch.from_numpy(function).view(1, 1, 6, 8)
    inside = ~np.isnan(expected)
    result = unwarp(values, grid, (40, 60))[0, 0].numpy()
    np.testing.assert_allclose(result[inside], expected[inside], atol=1e-6)
    assert inside.mean() > 0.95


def test_warp_and_back_is_near_a_smooth_image() -> None:
    y, x = torch.meshgrid(torch.linspace(0, 3, 200), torch.linspace(0, 4, 300), indexing="ij")
    image = torch.stack((x.sin() * y.cos(), (x + y).sin()))[None]
    for sharpness in (0.0, 1.0, 3.0):
        density = softmax_density(torch.randn(1, 1, 40, 60) * sharpness)
        grid = sampling_grid(density, (40, 60), 2.0)
        back = unwarp(warp(image, grid), grid, (200, 300))
        assert float((back - image).abs().max()) < 0.05


def test_labels_are_the_largest_value_of_a_wide_batch() -> None:
    grid = random_grid(2, 9, 14)
    logits = torch.nn.functional.avg_pool2d(torch.randn(2, 5, 11, 16), 3, 1)
    labels = unwarp_labels(logits, grid, (70, 110))
    assert labels.dtype == torch.uint8
    assert torch.equal(labels.long(), unwarp(logits, grid, (70, 110)).argmax(dim=1))


def test_blocks_of_rows_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    grid, values = random_grid(1, 9, 14), torch.randn(1, 3, 9, 14)
    whole, labels = unwarp(values, grid, (50, 60)), unwarp_labels(values, grid, (50, 60))
    seven_rows = 7 * 60 * (3 + 16)
    monkeypatch.setattr(sys.modules[unwarp.__module__], "_BLOCK_VALUES", seven_rows)
    assert torch.equal(unwarp(values, grid, (50, 60)), whole)
    assert torch.equal(unwarp_labels(values, grid, (50, 60)), labels)


def test_gradient_to_the_values() -> None:
    grid = random_grid(1, 4, 5, torch.float64)
    values = torch.randn(1, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: unwarp(v, grid, (7, 9)), (values,))


def test_gradient_to_the_grid() -> None:
    base = random_grid(2, 4, 5, torch.float64)
    inner = torch.zeros_like(base)
    inner[:, 1:-1, 1:-1] = 1
    values = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    change = torch.zeros_like(base, requires_grad=True)

    def full(values: Tensor, change: Tensor) -> Tensor:
        return unwarp(values, base + change * inner, (8, 6))

    assert torch.autograd.gradcheck(full, (values, change), eps=1e-7, atol=1e-5)
    torch.testing.assert_close(full(values, change), full(values, change.detach()))


def test_wrong_values_are_named() -> None:
    grid = identity_grid((4, 5), torch.zeros(1))
    with pytest.raises(ArgumentError, match=naming("values", (1, 2, 5, 4))):
        unwarp(torch.zeros(1, 2, 5, 4), grid, (8, 8))
    with pytest.raises(ArgumentError, match=naming(254, 300)):
        unwarp_labels(torch.zeros(1, 300, 4, 5), grid, (8, 8))


@pytest.mark.parametrize("sharpness", [1.0, 6.0])
@pytest.mark.parametrize("threads", [1, 2])
def test_compiled_scan_is_the_scan_of_other_devices(threads: int, sharpness: float) -> None:
    scores = torch.randn(2, 1, 9, 14, dtype=torch.float64) * sharpness
    grid = sampling_grid(softmax_density(scores), (9, 14), 2.0)
    logits = torch.randn(2, 5, 9, 14, dtype=torch.float64)
    logits[:, 0] += 1  # so that many triangles agree
    mesh = triangulate(grid)
    rows, columns = (scan_axis(mesh, axis(n, grid), "an axis") for n in (83, 131))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = locate(mesh, rows, columns)
        labels = unwarp_labels(logits, grid, (83, 131))
    finally:
        torch.set_num_threads(before)
    expected = locate_anywhere(mesh, rows, columns)
    assert torch.equal(found.triangle, expected.triangle)
    torch.testing.assert_close(found.weights, expected.weights)
    reference = unwarp(logits, grid, (83, 131))
    first, second = reference.topk(2, dim=1).values.unbind(dim=1)
    clear = first - second > 1e-5
    assert torch.equal(labels[clear], reference.argmax(dim=1).byte()[clear])
    assert float(clear.float().mean()) > 0.99


def test_labels_of_other_devices_are_those_of_the_cpu_but_for_ties(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    grid = sampling_grid(softmax_density(torch.randn(2, 1, 9, 14) * 3), (9, 14), 2.0)
    logits = torch.randn(2, 5, 9, 14)
    labels = unwarp_labels(logits, grid, (183, 131))
    monkeypatch.setattr(sys.modules[_labels.__module__], "locate", locate_anywhere)
    elsewhere = _labels(*_prepared(logits, grid, (183, 131)), (183, 131))
    best = unwarp(logits.double(), grid, (183, 131)).topk(2, dim=1).values
    ties = best[:, 0] - best[:, 1] < 1e-5
    assert not ((labels != elsewhere) & ~ties).any()
    assert ties.float().mean() < 1e-3


@pytest.mark.parametrize("threads", [1, 2])
def test_compiled_values_are_those_that_learn(threads: int) -> None:
    grid = sampling_grid(softmax_density(torch.randn(2, 1, 9, 14) * 6), (9, 14), 2.0)
    values = torch.randn(2, 3, 9, 14)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        compiled = unwarp(values, grid, (583, 131))
    finally:
        torch.set_num_threads(before)
    learning = unwarp(values.requires_grad_(), grid, (583, 131))
    assert learning.requires_grad
    torch.testing.assert_close(compiled, learning.detach())


def test_classes_that_win_nowhere_at_the_samples_can_win_between_them() -> None:
    logits = torch.tensor([[[[5.0, 0.0], [0.0, 0.0]], [[0.0, 5.0], [5.0, 5.0]], [[4.0] * 2] * 2]])
    grid = identity_grid((2, 2), logits)
    labels = unwarp_labels(logits, grid, (21, 21))
    assert torch.equal(labels[0], unwarp(logits.double(), grid, (21, 21))[0].argmax(dim=0).byte())
    assert set(labels.unique().tolist()) == {0, 1, 2}


def test_a_folded_mesh_leaves_no_pixel_out() -> None:
    grid = identity_grid((6, 7), torch.zeros(1, 1)).clone()
    grid[0, 2, 3] = grid[0, 4, 5] + 0.1
    colours = torch.full((1, 1, 6, 7), 7.0)
    assert torch.equal(unwarp(colours, grid, (90, 80)), torch.full((1, 1, 90, 80), 7.0))


@pytest.mark.parametrize("rows", [1, 7, 256])
def test_bands_of_labels_are_the_labels(rows: int) -> None:
    grid = sampling_grid(softmax_density(torch.randn(1, 1, 9, 14) * 6), (9, 14), 2.0)
    logits = torch.randn(1, 5, 9, 14)
    bands = list(label_bands(logits, grid, (83, 131), rows))
    assert all(len(band) <= rows for band in bands)
    assert torch.equal(torch.cat(bands), unwarp_labels(logits, grid, (83, 131))[0])
