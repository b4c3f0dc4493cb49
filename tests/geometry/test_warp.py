import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from deformsample.errors import ArgumentError
from deformsample.geometry import (
    identity_grid,
    image_pyramid,
    sampling_grid,
    softmax_density,
    to_pixels,
    warp,
    warp_labels,
    warp_pyramid,
)
from deformsample.samplers.out_of_core import warp_blocks
from tests.helpers import naming


def random_grid(b: int, h: int, w: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return sampling_grid(softmax_density(torch.randn(b, 1, h, w, dtype=dtype) * 2), (h, w), 1.5)


def naive_bilinear(image: Tensor, grid: Tensor) -> Tensor:
    b, c, height, width = image.shape
    points = to_pixels(grid, (height, width))
    result = torch.zeros(b, c, *grid.shape[1:3], dtype=image.dtype)
    for n in range(b):
        for i in range(grid.shape[1]):
            for j in range(grid.shape[2]):
                x, y = float(points[n, i, j, 0]), float(points[n, i, j, 1])
                x0 = min(max(math.floor(x), 0), width - 2)
                y0 = min(max(math.floor(y), 0), height - 2)
                fx, fy = x - x0, y - y0
                top = image[n, :, y0, x0] * (1 - fx) + image[n, :, y0, x0 + 1] * fx
                bottom = image[n, :, y0 + 1, x0] * (1 - fx) + image[n, :, y0 + 1, x0 + 1] * fx
                result[n, :, i, j] = top * (1 - fy) + bottom * fy
    return result


def test_warp_against_a_naive_loop() -> None:
    image = torch.rand(2, 3, 11, 17, dtype=torch.float64)
    grid = random_grid(2, 5, 6, torch.float64)
    torch.testing.assert_close(warp(image, grid), naive_bilinear(image, grid))


def test_warp_at_the_pixels_returns_the_image() -> None:
    image = torch.rand(1, 2, 5, 8)
    torch.testing.assert_close(warp(image, identity_grid((5, 8), image)), image)


def test_warp_gradients() -> None:
    image = torch.rand(1, 2, 7, 9, dtype=torch.float64, requires_grad=True)
    grid = (random_grid(1, 3, 4, torch.float64) * 0.93 + 0.011).requires_grad_()
    assert torch.autograd.gradcheck(warp, (image, grid))


def test_labels_are_nearest_and_never_mixed() -> None:
    labels = torch.tensor([[[0, 18, 18], [18, 0, 255]]])
    grid = identity_grid((5, 9), torch.zeros(1))
    warped = warp_labels(labels, grid)
    assert set(warped.unique().tolist()) == {0, 18, 255}
    points = to_pixels(grid, (2, 3))[0]
    for i in range(5):
        for j in range(9):
            x, y = (round(float(v)) for v in points[i, j])
            assert warped[0, i, j] == labels[0, y, x]


def test_pyramid_levels_average_blocks_of_odd_sides() -> None:
    image = torch.arange(15.0).view(1, 1, 3, 5)
    level = image_pyramid(image)[1]
    expected = torch.tensor([[3.0, 5.0, 6.5], [10.5, 12.5, 14.0]])
    torch.testing.assert_close(level[0, 0], expected)


def test_pyramid_stops_before_one_sample() -> None:
    assert [tuple(x.shape[2:]) for x in image_pyramid(torch.zeros(1, 1, 8, 20))] == [
        (8, 20),
        (4, 10),
        (2, 5),
    ]


def test_pyramid_warp_of_a_linear_image_is_exact_inside() -> None:
    # Averages and interpolation keep a linear function, if all the half pixels are right.
    y, x = torch.meshgrid(torch.arange(192.0), torch.arange(320.0), indexing="ij")
    image = (3 * x + 5 * y)[None, None]
    grid = random_grid(1, 16, 24) * 0.5
    points = to_pixels(grid, (192, 320))
    expected = 3 * points[..., 0] + 5 * points[..., 1]
    for bias in (0.0, -1.0, -2.5):
        sampled = warp_pyramid(image_pyramid(image), grid, bias)
        torch.testing.assert_close(sampled[:, 0], expected, rtol=1e-4, atol=1e-2)


def test_pyramid_warp_without_stretch_is_the_bilinear_warp() -> None:
    image = torch.rand(1, 3, 12, 16)
    grid = identity_grid((12, 16), image)
    torch.testing.assert_close(warp_pyramid(image_pyramid(image), grid, 0.0), image)


def test_pyramid_warp_removes_what_the_samples_cannot_hold() -> None:
    stripes = (torch.arange(256) % 2).float().expand(1, 1, 256, 256)
    grid = identity_grid((16, 16), stripes)
    pyramid = image_pyramid(stripes)
    averaged = warp_pyramid(pyramid, grid, 0.0)
    torch.testing.assert_close(averaged, torch.full_like(averaged, 0.5), rtol=0, atol=0.05)
    assert float(warp_pyramid(pyramid, grid, -4.0).std()) > 0.3  # as sharp as the image: aliased


@pytest.mark.parametrize("size", [(2, 2), (37, 50), (64, 65), (131, 9)])
def test_compiled_pyramid_is_the_pyramid_that_learns(size: tuple[int, int]) -> None:
    image = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    compiled = image_pyramid(image)
    learning = image_pyramid(image.float().requires_grad_())
    for level, other in zip(compiled, learning, strict=True):
        assert level.dtype == (torch.uint8 if level is image else torch.float32)
        torch.testing.assert_close(level.float(), other.detach())
    channels_last = image_pyramid(image.contiguous(memory_format=torch.channels_last))
    for level, other in zip(compiled, channels_last, strict=True):
        assert torch.equal(level, other)


@pytest.mark.parametrize("bias", [0.0, -0.7, -3.0])
def test_compiled_warp_is_the_warp_that_learns(bias: float) -> None:
    image = torch.randint(0, 256, (2, 3, 75, 111), dtype=torch.uint8)
    grid = random_grid(2, 6, 7) * 1.1
    compiled = warp_pyramid(image_pyramid(image), grid, bias)
    learning = warp_pyramid(image_pyramid(image), grid.requires_grad_(), bias)
    assert learning.requires_grad
    torch.testing.assert_close(compiled, learning.detach(), rtol=1e-4, atol=1e-2)


def test_pyramid_warp_gradients() -> None:
    image = torch.rand(1, 1, 32, 32, dtype=torch.float64)
    base = random_grid(1, 3, 3, torch.float64) * 0.8 + 0.013

    def sampled(shift: Tensor) -> Tensor:
        # All samples move alike, so that the levels, which carry no gradient, stay what they are.
        return warp_pyramid(image_pyramid(image), base + shift, -1.0)

    shift = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(sampled, (shift,))


def test_wrong_shapes_are_named() -> None:
    grid = random_grid(2, 4, 4)
    with pytest.raises(ArgumentError, match=naming("image", (1, 3, 8, 8))):
        warp(torch.zeros(1, 3, 8, 8), grid)
    with pytest.raises(ArgumentError, match=naming("image", torch.int64)):
        warp(torch.zeros(2, 3, 8, 8, dtype=torch.long), grid)
    with pytest.raises(ArgumentError, match=naming("labels", (2, 1, 8, 8))):
        warp_labels(torch.zeros(2, 1, 8, 8, dtype=torch.long), grid)


@pytest.mark.parametrize("bias", [None, 0.0, -1.0])
@pytest.mark.parametrize("size", [(75, 111), (130, 64)])
def test_warp_of_blocks_is_the_warp_of_the_whole(size: tuple[int, int], bias: float | None) -> None:
    image = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)
    pyramid = image_pyramid(image)
    largest = 0

    def read(level: int, top: int, bottom: int, left: int, right: int) -> npt.NDArray[np.float32]:
        nonlocal largest
        assert 0 <= top < bottom <= pyramid[level].shape[2]
        assert 0 <= left < right <= pyramid[level].shape[3]
        largest = max(largest, bottom - top, right - left)
        return pyramid[level][0, :, top:bottom, left:right].float().numpy()

    grid = random_grid(1, 9, 13)
    expected = warp(image, grid) if bias is None else warp_pyramid(pyramid, grid, bias)
    sampled = warp_blocks(read, size, grid, bias, side=16)
    torch.testing.assert_close(sampled, expected, rtol=1e-4, atol=2e-2)
    assert largest <= 17
