from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deformsample.errors import ArgumentError
from deformsample.geometry import identity_grid, unwarp, warp
from deformsample.networks import DeformationNet
from deformsample.samplers import (
    Downsampler,
    GaussianGrid,
    InMemoryImage,
    LearnedSampler,
    TransportGrid,
    UniformSampler,
)
from deformsample.samplers.downsampler import sampled_size
from deformsample.segmenters import SampledSegmenter
from tests.helpers import naming


class Brightness(nn.Module):
    """A network whose answer is known: class 1 where the small image is bright."""

    def forward(self, image: Tensor) -> Tensor:
        bright = image.mean(dim=1, keepdim=True)
        return torch.cat((-bright, bright), dim=1)


def learned(**options: Any) -> SampledSegmenter:
    sampler = LearnedSampler(DeformationNet((8,)))
    return SampledSegmenter(Downsampler(sampler, **options), Brightness())


def test_the_parts_are_put_together() -> None:
    image = torch.rand(2, 3, 40, 60)
    segmenter = learned(sampled_size=(10, 15), thumbnail_scale=0.5, lod_bias=None).eval()
    prediction = segmenter(image)
    assert prediction.sampled.density.shape == (2, 1, 5, 8)
    torch.testing.assert_close(prediction.sampled.image, warp(image, prediction.grid))
    expected = unwarp(prediction.logits, prediction.grid, (40, 60)).argmax(dim=1)
    assert torch.equal(segmenter.segment(image).long(), expected)


def test_uint8_and_float_images_are_the_same() -> None:
    image = torch.randint(0, 256, (1, 3, 32, 48), dtype=torch.uint8)
    segmenter = learned(sampled_size=(8, 12)).eval()
    both = [segmenter(x).logits for x in (image, image.float() / 255)]
    torch.testing.assert_close(both[0], both[1])


def test_guided_labels_of_a_bright_half_are_exact() -> None:
    image = torch.zeros(1, 3, 64, 96)
    image[..., 50:] = 1
    segmenter = SampledSegmenter(Downsampler(UniformSampler(), (8, 12)), Brightness())
    ground_truth = (image[:, 0] > 0.5).to(torch.uint8)
    assert not torch.equal(segmenter.segment(image), ground_truth)
    assert torch.equal(segmenter.segment(image, guided=True), ground_truth)
    bands = segmenter.label_bands(InMemoryImage(image), guided=True)
    assert torch.equal(torch.cat(list(bands)), ground_truth[0])


def test_segmenting_a_bright_half_finds_it_at_full_resolution() -> None:
    image = torch.zeros(1, 3, 64, 96)
    image[..., 50:] = 1
    segmenter = SampledSegmenter(Downsampler(UniformSampler(), (32, 48)), Brightness())
    labels = segmenter.segment(image)
    ground_truth = (image[:, 0] > 0.5).to(torch.uint8)
    assert float((labels != ground_truth).float().mean()) < 0.03


def test_uniform_sampling_is_the_identity_grid() -> None:
    density, grid, _ = UniformSampler()(torch.rand(2, 3, 4, 5), (8, 9))
    assert torch.equal(grid, identity_grid((8, 9), grid))
    torch.testing.assert_close(density.sum(dim=(1, 2, 3)), torch.ones(2))


def test_gradients_reach_the_deformation_module_through_the_samples() -> None:
    segmenter = learned(sampled_size=(8, 12))
    segmenter(torch.rand(2, 3, 64, 96)).logits[:, 1].sum().backward()
    gradients = [p.grad for p in segmenter.downsampler.parameters()]
    assert any(g is not None and float(g.abs().sum()) > 0 for g in gradients)


@pytest.mark.parametrize(
    ("image", "wanted", "size"),
    [
        ((1024, 2048), (64, 128), (64, 128)),
        ((2000, 20000), 64000, (80, 800)),
        ((2000, 3386), 64000, (194, 329)),
        ((100, 100), 4, (2, 2)),
        ((10, 4000), 64, (2, 32)),
    ],
)
def test_sampled_size(
    image: tuple[int, int], wanted: tuple[int, int] | int, size: tuple[int, int]
) -> None:
    assert sampled_size(image, wanted) == size
    if isinstance(wanted, int):
        assert size[0] * size[1] <= wanted


def test_budget_follows_each_image() -> None:
    segmenter = learned(sampled_size=600).eval()
    assert segmenter(torch.rand(1, 3, 40, 60)).logits.shape == (1, 2, 20, 30)
    assert segmenter(torch.rand(1, 3, 40, 240)).logits.shape == (1, 2, 10, 60)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ArgumentError, match=naming("sampled_size", (1, 8))):
        learned(sampled_size=(1, 8))
    with pytest.raises(ArgumentError, match=naming("thumbnail_scale", 0.0)):
        learned(thumbnail_scale=0.0)
    with pytest.raises(ArgumentError, match=naming("image", (1, 4, 8, 8))):
        learned()(torch.rand(1, 4, 8, 8))
    with pytest.raises(ArgumentError, match=naming("image", torch.int32)):
        learned()(torch.zeros(1, 3, 8, 8, dtype=torch.int32))
    with pytest.raises(ArgumentError, match=naming("sigma", 0.0)):
        GaussianGrid(sigma=0.0)
    with pytest.raises(ArgumentError, match=naming("minimum", 0.0)):
        TransportGrid(minimum=0.0)
    with pytest.raises(ArgumentError, match=naming("iterations", 0)):
        TransportGrid(iterations=0)


class Refined(nn.Module):
    """Two logits a sample and side."""

    def forward(self, image: Tensor) -> Tensor:
        h, w = image.shape[2:]
        return torch.rand(len(image), 2, 2 * h - 1, 2 * w - 1)


def test_refined_logits_lie_between_the_samples() -> None:
    segmenter = SampledSegmenter(
        Downsampler(LearnedSampler(DeformationNet((8,))), (10, 15)), Refined()
    ).eval()
    image = torch.rand(1, 3, 40, 60)
    prediction, small = segmenter(image), segmenter.downsampler(image)
    assert prediction.grid.shape == (1, 19, 29, 2)
    torch.testing.assert_close(prediction.grid[:, ::2, ::2], small.grid)
    between = (small.grid[:, :, 1:] + small.grid[:, :, :-1]) / 2
    torch.testing.assert_close(prediction.grid[:, ::2, 1::2], between)
    assert segmenter.segment(image).shape == (1, 40, 60)


class Seen(nn.Module):
    """Keeps what it was given."""

    def forward(self, image: Tensor) -> Tensor:
        self.image = image
        return image[:, :2]


def test_networks_that_need_a_multiple_get_it() -> None:
    seen = Seen()
    segmenter = SampledSegmenter(Downsampler(UniformSampler(), (10, 15)), seen, network_multiple=8)
    prediction = segmenter(torch.rand(1, 3, 40, 60))
    assert seen.image.shape == (1, 3, 16, 16)
    assert torch.equal(seen.image[..., 10:, :15], seen.image[..., 9:10, :15].expand(-1, -1, 6, -1))
    assert prediction.logits.shape == (1, 2, 10, 15)


def test_without_sample_gradient_the_image_does_not_move_the_grid() -> None:
    for sample_gradient in (True, False):
        segmenter = learned(sampled_size=(10, 15), sample_gradient=sample_gradient)
        prediction = segmenter(torch.rand(1, 3, 40, 60))
        assert prediction.sampled.image.requires_grad == sample_gradient
        assert prediction.grid.requires_grad
