import pytest
import torch
from torch import Tensor

from deformsample.errors import ArgumentError
from deformsample.geometry import boundary_density, min_max, softmax_density, uniform_density
from deformsample.geometry.density import label_boundaries
from tests.helpers import naming

IGNORE = 255


def naive_boundaries(labels: Tensor, ignore: int) -> Tensor:
    b, h, w = labels.shape
    edge = torch.zeros(b, 1, h, w)
    for n in range(b):
        for i in range(h):
            for j in range(w):
                for di, dj in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                    y, x = i + di, j + dj
                    if not (0 <= y < h and 0 <= x < w):
                        continue
                    here, there = int(labels[n, i, j]), int(labels[n, y, x])
                    if here != there and ignore not in (here, there):
                        edge[n, 0, i, j] = 1
    return edge


def target(labels: Tensor, size: tuple[int, int], floor: float = 0.1) -> Tensor:
    return boundary_density(labels, size, blur=0.5, floor=floor, ignore_index=IGNORE)


def test_softmax_density_sums_to_one() -> None:
    density = softmax_density(torch.randn(2, 1, 5, 7) * 30)
    torch.testing.assert_close(density.sum(dim=(1, 2, 3)), torch.ones(2))
    assert density.shape == (2, 1, 5, 7)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_boundaries_against_a_naive_loop(dtype: torch.dtype) -> None:
    labels = torch.randint(0, 4, (2, 6, 9), dtype=dtype)
    labels[labels == 3] = IGNORE
    assert torch.equal(label_boundaries(labels, IGNORE), naive_boundaries(labels, IGNORE))


def test_the_distance_between_ids_does_not_count() -> None:
    near = torch.zeros(1, 8, 8, dtype=torch.long)
    near[:, :, 4:] = 1
    far = near * 18
    assert torch.equal(target(near, (4, 4)), target(far, (4, 4)))


@pytest.mark.parametrize("value", [0, 7, IGNORE])
def test_constant_labels_give_the_uniform_density(value: int) -> None:
    labels = torch.full((2, 20, 30), value)
    torch.testing.assert_close(target(labels, (4, 5)), uniform_density((4, 5), torch.zeros(2, 1)))


def test_density_is_highest_on_the_boundary_and_sums_to_one() -> None:
    labels = torch.zeros(1, 33, 65, dtype=torch.long)
    labels[:, :, 48:] = 1
    density = target(labels, (5, 9))
    assert int(density[0, 0].sum(dim=0).argmax()) == 6  # cell 6 is centred on pixel 48
    torch.testing.assert_close(density.sum(), torch.tensor(1.0))
    torch.testing.assert_close(density.min(), torch.tensor(0.1 / 45), rtol=1e-3, atol=0)


def test_a_floor_of_zero_is_refused() -> None:
    with pytest.raises(ArgumentError, match=naming("floor", 0.0)):
        target(torch.zeros(1, 8, 8, dtype=torch.long), (2, 2), floor=0.0)


def test_float_labels_are_refused() -> None:
    with pytest.raises(ArgumentError, match=naming("labels", torch.float32)):
        target(torch.zeros(1, 8, 8), (2, 2))


def test_min_max_stretches_each_map_and_keeps_constants_finite() -> None:
    maps = torch.stack((torch.tensor([[1.0, 2.0], [3.0, 5.0]]), torch.full((2, 2), 7.0)))[:, None]
    maps.requires_grad_()
    stretched = min_max(maps)
    expected = torch.tensor([[[0, 0.25], [0.5, 1]], [[0, 0], [0, 0]]])[:, None]
    torch.testing.assert_close(stretched, expected)
    stretched.sum().backward()
    assert maps.grad is not None
    assert bool(maps.grad.isfinite().all())
