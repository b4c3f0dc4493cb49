"""Whole-image classifiers, and how tiles become one answer."""

import math

import pytest
import torch
from torch import Tensor, nn

from deformsample.classifiers import (
    SampledClassifier,
    StreamedClassifier,
    TiledClassifier,
    majority_vote,
    maximum_score,
    mean_probability,
)
from deformsample.errors import ArgumentError
from deformsample.networks import ConvClassifier, DeformationNet, TimmClassifier
from deformsample.samplers import Downsampler, LearnedSampler, UniformSampler
from tests.helpers import naming


def logits(*probabilities: list[float]) -> Tensor:
    """Scores (1, t, k) of tiles with these probabilities."""
    return torch.tensor(probabilities, dtype=torch.float64).log()[None]


class Brightest(nn.Module):
    """Scores of a tile: its largest value, and nothing."""

    def forward(self, tile: Tensor) -> Tensor:
        largest = tile.amax(dim=(1, 2, 3))
        return torch.stack([largest, torch.zeros_like(largest)], dim=1)


def test_the_majority_wins_whatever_the_probabilities() -> None:
    scores = logits([0.51, 0.48, 0.01], [0.51, 0.48, 0.01], [0.001, 0.998, 0.001])
    voted = majority_vote(scores).exp()
    means = scores.exp().mean(dim=1)
    assert voted.argmax() == 0
    assert means.argmax() == 1
    expected = (torch.tensor([[2.0, 1.0, 0.0]], dtype=torch.float64) + means) / 4
    torch.testing.assert_close(voted, expected)
    assert voted.sum() == pytest.approx(1)


def test_a_tie_goes_to_the_highest_mean_probability_among_the_tied() -> None:
    first, second = [0.4, 0.25, 0.35], [0.25, 0.4, 0.35]
    assert majority_vote(logits(first, [0.1, 0.8, 0.1])).argmax() == 1
    assert majority_vote(logits([0.8, 0.1, 0.1], second)).argmax() == 0
    both = logits(first, second)
    assert both.exp().mean(dim=1).argmax() == 2  # which nobody voted for
    assert majority_vote(both).argmax() != 2


def test_one_vote_more_is_never_outweighed() -> None:
    scores = torch.tensor([[[1e-6, 0.0], [1e-6, 0.0], [-1e4, 1e4]]])
    assert majority_vote(scores).argmax() == 0
    assert torch.isfinite(majority_vote(scores)).all()


def test_mean_of_probabilities() -> None:
    scores = logits([0.9, 0.1], [0.2, 0.8], [0.4, 0.6])
    torch.testing.assert_close(mean_probability(scores), logits([0.5, 0.5])[0])
    extreme = torch.tensor([[[0.0, -500.0], [0.0, -500.0]]])
    torch.testing.assert_close(mean_probability(extreme), torch.tensor([[0.0, -500.0]]))


def test_maximum_of_raw_scores() -> None:
    scores = torch.tensor([[[1.0, -2.0], [-3.0, 4.0], [0.0, 0.0]]])
    assert maximum_score(scores).tolist() == [[1, 4]]


def test_a_single_score() -> None:
    scores = torch.tensor([[[1.0], [5.0], [0.0]]])
    assert mean_probability(scores).tolist() == [[2]]
    assert maximum_score(scores).tolist() == [[5]]
    with pytest.raises(ArgumentError, match=naming("mean", "maximum")):
        majority_vote(scores)


@pytest.mark.parametrize("size", [(20, 30), (7, 9), (10, 50)])
@pytest.mark.parametrize("tiles_at_once", [1, 3, 64])
def test_tiles_cover_the_image_in_batches(size: tuple[int, int], tiles_at_once: int) -> None:
    network = Brightest()
    tiled = TiledClassifier(network, (8, 12), overlap=0.25, tiles_at_once=tiles_at_once).eval()
    image = torch.rand(2, 3, *size)
    image[0, :, -1, -1] = 5.0  # the last pixel of one image only
    scores = tiled.tile_scores(image)
    rows = 1 + max(0, math.ceil((size[0] - 8) / 6))
    columns = 1 + max(0, math.ceil((size[1] - 12) / 9))
    assert scores.shape == (2, rows * columns, 2)
    normalised = tiled.normalize(torch.tensor(5.0))
    torch.testing.assert_close(scores[0, -1, 0], normalised.max())
    assert (scores[1, :, 0] < 3).all()


@pytest.mark.parametrize("aggregation", ["majority", "mean", "maximum"])
def test_the_rule_is_applied_to_the_tiles(aggregation: str) -> None:
    rules = {"majority": majority_vote, "mean": mean_probability, "maximum": maximum_score}
    tiled = TiledClassifier(ConvClassifier([4], 3), (8, 8), aggregation=aggregation).eval()  # type: ignore[arg-type]
    image = torch.randint(256, (2, 3, 16, 24), dtype=torch.uint8)
    torch.testing.assert_close(tiled(image), rules[aggregation](tiled.tile_scores(image)))
    torch.testing.assert_close(tiled(image), tiled(image / 255))
    assert tiled.display_name == f"tiles of 8 x 8, {aggregation}"


def test_training_learns_from_one_tile_of_each_image() -> None:
    tiled = TiledClassifier(ConvClassifier([4], 3), (8, 8)).train()
    scores = tiled(torch.rand(2, 3, 16, 24))
    assert scores.shape == (2, 3)
    scores.sum().backward()
    assert all(x.grad is not None for x in tiled.parameters())


def test_tiles_that_cannot_be() -> None:
    network = ConvClassifier([4], 3)
    with pytest.raises(ArgumentError, match=naming("overlap", 1.0)):
        TiledClassifier(network, overlap=1.0)
    with pytest.raises(ArgumentError, match=naming("tile", (0, 4))):
        TiledClassifier(network, (0, 4))
    with pytest.raises(ArgumentError, match=naming("aggregation", "median", "maximum")):
        TiledClassifier(network, aggregation="median")  # type: ignore[arg-type]


def test_the_loss_of_the_classes_moves_the_samples() -> None:
    sampler = LearnedSampler(DeformationNet([4]))
    classifier = SampledClassifier(Downsampler(sampler, (12, 16)), ConvClassifier([4], 3))
    image = torch.randint(256, (2, 3, 48, 80), dtype=torch.uint8)
    classifier(image).sum().backward()
    gradients = [x.grad for x in sampler.parameters()]
    assert all(x is not None and x.abs().sum() > 0 for x in gradients[:1])
    assert classifier.display_name == "learned"


def test_a_sampled_classifier_sees_the_small_image() -> None:
    network = ConvClassifier([4], 3)
    classifier = SampledClassifier(Downsampler(UniformSampler(), (12, 16)), network).eval()
    image = torch.rand(2, 3, 48, 80)
    small = classifier.downsampler(image).image
    expected = network(classifier.normalize(small))
    torch.testing.assert_close(classifier(image), expected)


def test_streaming_has_the_scores_and_gradients_of_the_whole_image() -> None:
    torch.manual_seed(0)
    network = ConvClassifier([4, 6], 3).double()
    image = torch.randint(256, (2, 3, 41, 58), dtype=torch.uint8)
    streamed = StreamedClassifier(network, tile=16).double()
    whole = streamed.normalize(image / 255.0)
    body = network.body.body
    expected = network.head(body(whole))  # type: ignore[operator]
    wanted = torch.autograd.grad(expected.square().sum(), list(streamed.parameters()))
    scores = streamed(image)
    torch.testing.assert_close(scores, expected)
    got = torch.autograd.grad(scores.square().sum(), list(streamed.parameters()))
    torch.testing.assert_close(got, wanted)
    assert streamed.display_name == "streamed in tiles of 16"


def test_a_streamed_timm_network_keeps_its_norms_frozen() -> None:
    network = TimmClassifier("resnet18", 3, options={"channels": (4, 4, 4, 4)})
    streamed = StreamedClassifier(network, tile=512).train()
    norms = [x for x in streamed.modules() if isinstance(x, nn.BatchNorm2d)]
    assert norms
    assert not any(x.training for x in norms)
    assert streamed(torch.rand(1, 3, 40, 60)).shape == (1, 3)


def test_what_cannot_be_streamed_or_classify() -> None:
    with pytest.raises(ArgumentError, match=naming("Linear", "body", "head", "TimmClassifier")):
        StreamedClassifier(nn.Linear(2, 2))
    with pytest.raises(ArgumentError, match=naming("no_such_model")):
        TimmClassifier("no_such_model")
    with pytest.raises(ArgumentError, match=naming("(1, 5, 12)")):
        TimmClassifier(
            "vit_tiny_patch16_224", options={"img_size": 32, "depth": 1, "embed_dim": 12}
        )(torch.rand(1, 3, 32, 32))


def test_scores_are_as_many_as_the_classes() -> None:
    image = torch.rand(2, 3, 32, 40)
    small = {"channels": (4, 4, 4, 4)}
    assert TimmClassifier("resnet10t", 5, options=small)(image).shape == (2, 5)
    assert ConvClassifier([4, 4], 1)(image).shape == (2, 1)
