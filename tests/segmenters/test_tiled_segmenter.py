"""Overlapping tiles: where they lie, how they blend, and the command line with them."""

import weakref
from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deformsample.errors import ArgumentError
from deformsample.geometry.tiling import Blending, blend_rows, tile_offsets, tile_weights
from deformsample.samplers import InMemoryImage
from deformsample.segmenters import TiledSegmenter
from tests.helpers import naming


class PlusOne(nn.Module):
    """A network whose answer is known: x + 1, pixel by pixel."""

    def forward(self, image: Tensor) -> Tensor:
        return image + 1


class Blur(nn.Module):
    """A network that looks around, so that a tile's border matters."""

    def forward(self, image: Tensor) -> Tensor:
        return 5 * F.avg_pool2d(image, 7, stride=1, padding=3)


@pytest.mark.parametrize(
    ("length", "tile", "overlap", "offsets"),
    [
        (10, 10, 0.5, [0]),
        (10, 4, 0.0, [0, 3, 6]),
        (12, 4, 0.0, [0, 4, 8]),
        (12, 4, 0.5, [0, 2, 4, 6, 8]),
        (11, 4, 0.5, [0, 2, 4, 5, 7]),
        (6, 4, 0.99, [0, 1, 2]),
    ],
)
def test_offsets(length: int, tile: int, overlap: float, offsets: list[int]) -> None:
    assert tile_offsets(length, tile, overlap) == offsets


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.8])
@pytest.mark.parametrize("length", [16, 17, 40, 101])
def test_offsets_are_even_and_overlap_enough(length: int, overlap: float) -> None:
    offsets = tile_offsets(length, 16, overlap)
    assert offsets[0] == 0
    assert offsets[-1] == length - 16
    steps = [b - a for a, b in pairwise(offsets)]
    assert max(steps, default=0) - min(steps, default=0) <= 1
    assert max(steps, default=0) <= 16 * (1 - overlap)


@pytest.mark.parametrize("kind", ["constant", "gaussian"])
@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.75])
def test_weights_of_tiles_that_share_a_pixel_sum_to_one(kind: Blending, overlap: float) -> None:
    offsets = tile_offsets(53, 12, overlap)
    total = torch.zeros(53, dtype=torch.float64)
    for offset, weights in zip(offsets, tile_weights(offsets, 12, kind), strict=True):
        assert float(weights.min()) > 0
        total[offset : offset + 12] += weights
    torch.testing.assert_close(total, torch.ones_like(total))


def test_gaussian_weights_are_those_of_the_formula() -> None:
    first = tile_weights([0, 2], 4, "gaussian")[0]
    g = torch.exp(-(torch.tensor([-1.5, -0.5, 0.5, 1.5], dtype=torch.float64) ** 2) / (2 * 0.25))
    torch.testing.assert_close(
        first, torch.stack([g[0] / g[0], g[1] / g[1], g[2] / (g[2] + g[0]), g[3] / (g[3] + g[1])])
    )


def naive(segmenter: TiledSegmenter, image: Tensor) -> Tensor:
    """Probabilities, by sums over the whole image."""
    height, width = image.shape[2:]
    (h, w), overlap = segmenter.tile, segmenter.overlap
    own_y, own_x = (tile_weights([0, n], n, segmenter.blending)[0] for n in (h, w))
    if segmenter.blending == "gaussian":
        own_y, own_x = (
            torch.exp(-(((torch.arange(n, dtype=torch.float64) - (n - 1) / 2) / (n / 8)) ** 2) / 2)
            for n in (h, w)
        )
    total = torch.zeros_like(image)
    weight = torch.zeros(height, width, dtype=torch.float64)
    for top in tile_offsets(height, h, overlap):
        for left in tile_offsets(width, w, overlap):
            tile = image[:, :, top : top + h, left : left + w]
            probabilities = segmenter.network(segmenter.normalize(tile)).softmax(dim=1)
            share = own_y[:, None] * own_x
            total[:, :, top : top + h, left : left + w] += share * probabilities
            weight[top : top + h, left : left + w] += share
    return total / weight


@pytest.mark.parametrize("weights", ["constant", "gaussian"])
@pytest.mark.parametrize("overlap", [0.0, 0.4, 0.75])
@pytest.mark.parametrize("size", [(21, 34), (33, 16), (12, 16)])
def test_rows_of_tiles_give_what_sums_over_the_whole_image_give(
    size: tuple[int, int], overlap: float, weights: Blending
) -> None:
    segmenter = TiledSegmenter(Blur(), (12, 16), overlap, weights).double().eval()
    image = torch.rand(2, 3, *size, dtype=torch.float64)
    rows = list(segmenter.probability_rows(InMemoryImage(image)))
    expected = naive(segmenter, image)
    torch.testing.assert_close(torch.cat(rows, dim=2), expected, rtol=0, atol=1e-12)
    assert torch.equal(segmenter.segment(image).long(), expected.argmax(dim=1))
    torch.testing.assert_close(segmenter(image).logits.exp(), expected, rtol=0, atol=1e-12)


def test_a_network_that_looks_at_single_pixels_does_not_see_the_tiles() -> None:
    image = torch.rand(1, 3, 50, 71, dtype=torch.float64)
    segmenter = TiledSegmenter(PlusOne(), (16, 20), 0.3, "gaussian").double().eval()
    expected = (segmenter.normalize(image) + 1).log_softmax(dim=1)
    torch.testing.assert_close(segmenter(image).logits, expected)


def test_no_more_than_two_rows_of_tiles_are_held() -> None:
    tops, lefts = tile_offsets(400, 16, 0.75), tile_offsets(40, 16, 0.5)
    weights = tile_weights(tops, 16, "constant"), tile_weights(lefts, 16, "constant")
    alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
    asked: list[int] = []

    def tile_at(i: int, j: int) -> Tensor:
        asked.append(i)
        tile = torch.ones(1, 2, 16, 16)
        alive.add(tile)
        return tile

    height = 0
    rows: Iterator[Tensor] = blend_rows(tile_at, tops, lefts, weights)
    for number, row in enumerate(rows):
        assert asked[-1] == number  # rows come as soon as they are complete
        assert len(alive) <= 1
        assert row.untyped_storage().nbytes() <= 4 * 2 * 16 * 40
        torch.testing.assert_close(row, torch.ones_like(row))
        height += row.shape[2]
    assert height == 400


def test_tiles_are_read_row_by_row() -> None:
    image = torch.rand(1, 3, 60, 40)
    segmenter = TiledSegmenter(PlusOne(), (16, 16), 0.5).eval()
    read: list[tuple[int, int]] = []

    class Watched(InMemoryImage):
        def rows(self, top: int, bottom: int) -> Tensor:
            read.append((top, bottom))
            return super().rows(top, bottom)

    labels = torch.cat(list(segmenter.label_rows(Watched(image))), dim=1)
    assert read == [(top, top + 16) for top in tile_offsets(60, 16, 0.5)]
    assert torch.equal(labels, segmenter.segment(image))


@pytest.mark.parametrize("size", [(9, 30), (30, 9), (5, 7)])
def test_small_images_are_continued_by_their_last_row_and_column(size: tuple[int, int]) -> None:
    image = torch.rand(1, 3, *size)
    segmenter = TiledSegmenter(Blur(), (12, 16), 0.5).eval()
    down, right = max(0, 12 - size[0]), max(0, 16 - size[1])
    padded = F.pad(image, (0, right, 0, down), mode="replicate")
    expected = segmenter.segment(padded)[:, : size[0], : size[1]]
    assert torch.equal(segmenter.segment(image), expected)


class Refined(nn.Module):
    """Linear in place, twice as fine as what it sees, corner to corner."""

    def forward(self, image: Tensor) -> Tensor:
        h, w = image.shape[2:]
        return F.interpolate(image, (2 * h - 1, 2 * w - 1), mode="bilinear", align_corners=True)


@pytest.mark.parametrize("network", [nn.Identity(), Refined()])
def test_shrunk_tiles_put_their_logits_where_the_pixels_are(network: nn.Module) -> None:
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(24.0), indexing="ij")
    image = (torch.stack((y, x, x + y)) / 50)[None].double()
    segmenter = TiledSegmenter(network, (16, 24), downscale=4).double().eval()
    expected = segmenter.normalize(image)
    inside = (..., slice(2, -2), slice(2, -2))  # beyond the outermost means, the nearest counts
    torch.testing.assert_close(segmenter.tile_logits(image)[inside], expected[inside])
    assert segmenter.pixels((16, 24)) == 4 * 6


def test_training_takes_a_random_tile_of_each_image_and_its_labels() -> None:
    pixels = torch.arange(40 * 60).view(1, 1, 40, 60) / 2400
    image = pixels.expand(8, 3, -1, -1)
    labels = (torch.arange(40 * 60) % 251).to(torch.uint8).view(1, 40, 60).expand(8, -1, -1)
    segmenter = TiledSegmenter(PlusOne(), (12, 16)).train()
    prediction = segmenter(image)
    assert prediction.logits.shape == (8, 3, 12, 16)
    places = (prediction.sampled.image[:, 0] * 2400).round().long()
    assert torch.equal(prediction.targets(labels).long(), places % 251)
    assert len(set(places[:, 0, 0].tolist())) > 1
    torch.manual_seed(7)
    first = segmenter(image).corners
    torch.manual_seed(7)
    assert torch.equal(first, segmenter(image).corners)


def test_random_tiles_reach_every_border() -> None:
    segmenter = TiledSegmenter(PlusOne(), (6, 5)).train()
    corners = torch.cat([segmenter(torch.rand(50, 3, 8, 7)).corners for _ in range(10)])
    assert set(map(tuple, corners.tolist())) == {(y, x) for y in range(3) for x in range(3)}


def test_labels_of_small_images_are_continued_by_no_class() -> None:
    segmenter = TiledSegmenter(PlusOne(), (6, 8)).train()
    targets = segmenter(torch.rand(1, 3, 4, 5)).targets(torch.zeros(1, 4, 5, dtype=torch.uint8))
    assert targets.shape == (1, 6, 8)
    assert int((targets == 0).sum()) == 4 * 5
    assert int((targets == 255).sum()) == 6 * 8 - 4 * 5


def test_pixels_count_every_tile() -> None:
    segmenter = TiledSegmenter(PlusOne(), (10, 20), overlap=0.0)
    assert segmenter.pixels((25, 40)) == 3 * 2 * 10 * 20


def test_networks_that_need_a_multiple_get_it() -> None:
    shapes = []

    class Seen(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            shapes.append(tuple(image.shape[2:]))
            return image

    segmenter = TiledSegmenter(Seen(), (10, 12), network_multiple=8).eval()
    assert segmenter.segment(torch.rand(1, 3, 10, 12)).shape == (1, 10, 12)
    assert set(shapes) == {(16, 16)}


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ArgumentError, match=naming("tile", (10, 12), "downscale", 4)):
        TiledSegmenter(PlusOne(), (10, 12), downscale=4)
    with pytest.raises(ArgumentError, match=naming("overlap", 1.0)):
        TiledSegmenter(PlusOne(), overlap=1.0)
    with pytest.raises(ArgumentError, match=naming("blending", "'linear'")):
        TiledSegmenter(PlusOne(), blending="linear")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=naming("image", (1, 4, 8, 8))):
        TiledSegmenter(PlusOne()).segment(torch.rand(1, 4, 8, 8))
    with pytest.raises(ArgumentError, match=naming("guided", "tiles")):
        TiledSegmenter(PlusOne()).segment(torch.rand(1, 3, 8, 8), guided=True)
    with pytest.raises(ArgumentError, match=naming("guided", "tiles")):
        TiledSegmenter(PlusOne()).label_bands(InMemoryImage(torch.rand(1, 3, 8, 8)), guided=True)
    part = TiledSegmenter(PlusOne(), (6, 8)).train()(torch.rand(1, 3, 9, 9))
    with pytest.raises(ArgumentError, match=naming((9, 9), (6, 8))):
        part.labels((9, 9))
