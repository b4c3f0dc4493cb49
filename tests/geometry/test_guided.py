import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from deformsample.errors import ArgumentError
from deformsample.geometry import (
    guided_label_bands,
    guided_labels,
    identity_grid,
    sampling_grid,
    softmax_density,
    unwarp,
    unwarp_labels,
    warp,
)
from deformsample.geometry.guided import _labels, _prepared
from deformsample.geometry.mesh import locate, triangulate
from deformsample.kernels.interpolation import pixel_axes
from tests.helpers import naming

SIZE = (83, 131)


def example(classes: int = 3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Smooth logits, a curved grid, the small image, and a noisy image."""
    grid = sampling_grid(softmax_density(torch.randn(2, 1, 9, 14)), (9, 14), 2.0)
    logits = F.avg_pool2d(torch.randn(2, classes, 11, 16), 3, 1) * 3
    image = torch.rand(2, 3, *SIZE)
    return logits, grid, warp(image, grid), image


@pytest.mark.parametrize("edge", [17, 20, 23])
def test_a_boundary_between_samples_moves_onto_the_edge_of_the_image(edge: int) -> None:
    image = torch.zeros(1, 3, 41, 49)
    image[..., edge:] = torch.tensor([0.2, 0.9, 0.5])[:, None, None]
    grid = identity_grid((6, 7), image)  # columns of samples at 16 and 24
    small = warp(image, grid)
    logits = torch.cat((-small[:, :1], small[:, :1] - 0.1), dim=1)
    expected = (image[:, 0] > 0).to(torch.uint8)
    assert not torch.equal(unwarp_labels(logits, grid, (41, 49)), expected)
    assert torch.equal(guided_labels(logits, grid, small, image), expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_an_image_of_one_colour_changes_nothing(dtype: torch.dtype) -> None:
    logits, grid, _, _ = example()
    colour = torch.tensor([51, 102, 204])[None, :, None, None]
    image = colour.expand(2, 3, *SIZE)
    image = image.to(torch.uint8) if dtype == torch.uint8 else image / 255
    small = (colour / 255).expand(2, 3, 9, 14)
    labels = guided_labels(logits, grid, small, image)
    assert labels.dtype == torch.uint8
    assert float((labels != unwarp_labels(logits, grid, SIZE)).float().mean()) < 1e-4


def cells_near(winners: Tensor, cell: Tensor) -> npt.NDArray[np.bool_]:
    """Whether samples around the cells (H, W) of a grid have several classes, in a loop."""
    h, w = winners.shape
    near = np.zeros((h - 1, w - 1), bool)
    for i in range(h - 1):
        for j in range(w - 1):
            cells = [(a, b) for a in (i - 1, i, i + 1) for b in (j - 1, j, j + 1)]
            near[i, j] = any(
                len(winners[a : a + 2, b : b + 2].unique()) > 1
                for a, b in cells
                if 0 <= a < h - 1 and 0 <= b < w - 1
            )
    looked_up: npt.NDArray[np.bool_] = near.ravel()[cell.numpy()]
    return looked_up


def test_only_pixels_near_boundaries_change() -> None:
    _, grid, small, image = example()
    logits = torch.zeros(2, 2, 9, 14)
    logits[:, 1] = torch.linspace(-4, 4, 14)
    labels = guided_labels(logits, grid, small, image)
    unguided = unwarp_labels(logits, grid, SIZE)
    rows, columns = (torch.from_numpy(axis) for axis in pixel_axes(SIZE))
    triangle = locate(triangulate(grid), rows, columns).triangle
    for n in range(2):
        near = cells_near(logits[n].argmax(dim=0), triangle[n] // 2)
        changed = (labels[n] != unguided[n]).numpy()
        assert 0 < near.mean() < 0.5
        assert changed[near].any()
        assert not changed[~near].any()


def reference(logits: Tensor, grid: Tensor, small: Tensor, image: Tensor) -> Tensor:
    """The labels of one image if all pixels are near a boundary, sample by sample."""
    values, colours = (x[0].double().permute(1, 2, 0).numpy() for x in (logits, small))
    h, w, k = values.shape

    def window(i: int, j: int) -> list[tuple[int, int]]:
        return [
            (min(max(a, 0), h - 1), min(max(b, 0), w - 1))
            for a in range(i - 2, i + 3)
            for b in range(j - 2, j + 3)
        ]

    slopes = np.empty((h, w, 3, k))
    for i in range(h):
        for j in range(w):
            x, y = (np.array([t[p] for p in window(i, j)]) for t in (colours, values))
            x, y = x - x.mean(axis=0), y - y.mean(axis=0)
            slopes[i, j] = np.linalg.solve(x.T @ x / 25 + 1e-3 * np.eye(3), x.T @ y / 25)
    mean = np.array(
        [[np.mean([slopes[p] for p in window(i, j)], axis=0) for j in range(w)] for i in range(h)]
    )
    constant = values - np.einsum("hwc,hwck->hwk", colours, mean)
    parts = np.concatenate((mean.reshape(h, w, -1), constant), axis=2)
    full = unwarp(torch.from_numpy(parts).permute(2, 0, 1)[None], grid.double(), SIZE)[0]
    logit = (full[: 3 * k].unflatten(0, (3, k)) * image[0, :, None]).sum(dim=0) + full[3 * k :]
    labels: Tensor = logit.argmax(dim=0).to(torch.uint8)
    return labels


def test_against_a_regression_sample_by_sample() -> None:
    logits, grid, small, image = (x[:1] for x in example())
    logits[:, 0, ::2, ::2] = 9  # every cell has a boundary
    logits[:, 1, 1::2, 1::2] = 9
    labels = guided_labels(logits, grid, small, image)
    expected = reference(logits, grid, small, image)
    assert float((labels[0] != expected).float().mean()) < 1e-3
    assert len(expected.unique()) == 3


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_compiled_labels_are_those_of_other_devices(dtype: torch.dtype) -> None:
    logits, grid, small, image = example()
    if dtype == torch.uint8:
        image = (image * 255).round().to(torch.uint8)
    labels = guided_labels(logits, grid, small, image)
    elsewhere = _labels(_prepared(logits, grid, small), image, SIZE)
    assert float((labels != elsewhere).float().mean()) < 1e-3
    assert int(labels.max()) == 2


def test_images_of_other_dtypes_and_layouts_are_the_same() -> None:
    logits, grid, small, image = example()
    pixels = (image * 255).round().to(torch.uint8)
    labels = guided_labels(logits, grid, small, pixels)
    same = (pixels / 255, pixels.double() / 255, pixels.to(memory_format=torch.channels_last))
    for other in same:
        differs = guided_labels(logits, grid, small, other) != labels
        assert float(differs.float().mean()) < 1e-3


def test_logits_finer_than_the_small_image() -> None:
    logits, grid, _, image = example()
    small = torch.rand(2, 3, 5, 7)
    finer = F.interpolate(small, (9, 14), mode="bilinear", align_corners=True)
    labels = guided_labels(logits, grid, small, image)
    assert torch.equal(labels, guided_labels(logits, grid, finer, image))


@pytest.mark.parametrize("rows", [1, 7, 256])
def test_bands_of_labels_are_the_labels(rows: int) -> None:
    logits, grid, small, image = (x[:1] for x in example())
    read: list[tuple[int, int]] = []

    def read_rows(first: int, last: int) -> Tensor:
        read.append((first, last))
        return image[:, :, first:last]

    bands = list(guided_label_bands(logits, grid, small, read_rows, SIZE, rows))
    assert torch.equal(torch.cat(bands), guided_labels(logits, grid, small, image)[0])
    assert [last - first for first, last in read] == [len(band) for band in bands]


def test_wrong_arguments_are_named() -> None:
    logits, grid, small, image = example()
    with pytest.raises(ArgumentError, match=naming("values", (2, 3, 14, 9))):
        guided_labels(logits.mT, grid, small, image)
    with pytest.raises(ArgumentError, match=naming("small", (2, 1, 9, 14))):
        guided_labels(logits, grid, small[:, :1], image)
    with pytest.raises(ArgumentError, match=naming("image", (1, 3, *SIZE))):
        guided_labels(logits, grid, small, image[:1])
    with pytest.raises(ArgumentError, match=naming("image", "torch.int64")):
        guided_labels(logits, grid, small, image.long())
    with pytest.raises(ArgumentError, match=naming(254, 255)):
        guided_labels(torch.zeros(2, 255, 9, 14), grid, small, image)
