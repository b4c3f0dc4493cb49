"""The two-pass segmenter, its loss, and its checkpoints."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import deformsample
from deformsample.checkpoints.archive import FORMAT
from deformsample.checkpoints.builder import build_part
from deformsample.cli.main import main
from deformsample.conventions import Pixels
from deformsample.errors import ArgumentError
from deformsample.geometry import identity_grid, warp
from deformsample.inference.exporter import export_program
from deformsample.inference.model import SegmentationModel
from deformsample.losses import ErrorCurveLoss, FullResolutionLoss
from deformsample.networks import UNet
from deformsample.samplers import Downsampler, ErrorCurveSampler, InMemoryImage
from deformsample.segmenters import SampledPrediction, Segmenter, TwoPassSegmenter
from tests.helpers import SHORT, naming, scene

FIT = [
    "--config=folder.yaml",
    "--config=method/two_pass.yaml",
    "--model.segmenter.network=deformsample.networks.UNet",
    "--model.segmenter.network.widths=[4,4]",
    "--model.segmenter.downsampler.sampled_size=[16,24]",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--data.num_workers=0",
    "--data.batch_size=2",
    *SHORT,
]


def two_pass(
    size: tuple[int, int] | int = (16, 24), scale: float = 1.0, network: UNet | None = None
) -> TwoPassSegmenter:
    sampler = ErrorCurveSampler(UNet(2, (4, 8)))
    downsampler = Downsampler(sampler, size, scale, sample_gradient=False)
    return TwoPassSegmenter(
        downsampler, network or UNet(3, (4, 8), logit_upsampling=2), first_network=UNet(3, (4, 8))
    )


def batch(count: int = 2) -> tuple[Tensor, Tensor]:
    pairs = [scene(n, 64, 96, classes=3) for n in range(count)]
    image = torch.from_numpy(np.stack([image for image, _ in pairs])).movedim(-1, 1)
    return image, torch.from_numpy(np.stack([ids for _, ids in pairs]))


@pytest.mark.parametrize("scale", [0.1, 0.58, 1.0, 2.0])
@pytest.mark.parametrize("size", [(60, 81), (7, 40), 1000, 200])
def test_both_passes_share_the_budget(size: tuple[int, int] | int, scale: float) -> None:
    segmenter = two_pass(size, scale)
    budget = size if isinstance(size, int) else math.prod(size)
    for image_size in ((966, 1296), (300, 90)):
        small, thumbnail = segmenter.downsampler.sizes(image_size)
        assert min(*small, *thumbnail) >= 2
        total = math.prod(small) + math.prod(thumbnail)
        assert total <= budget
        assert segmenter.pixels(image_size) == total
    if budget > 1000:  # rounding matters less
        assert total > 0.95 * budget
        assert math.prod(thumbnail) / math.prod(small) == pytest.approx(scale**2, rel=0.1, abs=0.01)


def test_the_passes_have_these_sizes() -> None:
    segmenter = two_pass((16, 24)).eval()
    sampled = segmenter(batch()[0]).sampled
    small, thumbnail = segmenter.downsampler.sizes((64, 96))
    assert sampled.image.shape[2:] == small
    assert sampled.density.shape[2:] == thumbnail
    assert sampled.first_logits.shape == (2, 3, *thumbnail)


def test_too_few_samples_for_two_passes() -> None:
    with pytest.raises(ArgumentError, match=naming(8, (2, 3))):
        two_pass((2, 3))(batch()[0])


def test_the_first_pass_remains_where_the_second_adds_nothing() -> None:
    network = UNet(3, (4, 8), logit_upsampling=2)
    for parameter in network.head.parameters():
        nn.init.zeros_(parameter)
    segmenter = two_pass(network=network).eval()
    segmenter.downsampler.sampler.train()  # whose random field moves the samples
    image, _ = batch()
    prediction = segmenter(image)
    first = prediction.sampled.first_logits
    samples = prediction.sampled.image.shape[2:]
    assert not torch.allclose(prediction.sampled.grid, identity_grid(samples, first), atol=0.01)
    torch.testing.assert_close(prediction.logits, warp(first, prediction.grid))
    finer = tuple(2 * side - 1 for side in samples)
    assert prediction.grid.shape[1:3] == finer
    with torch.no_grad():
        bias = network.head.get_parameter("bias").add_(torch.tensor([0.0, 5.0, 0.0]))
    corrected = segmenter.predict(prediction.sampled).logits
    torch.testing.assert_close(corrected, prediction.logits + bias.view(1, 3, 1, 1))


def test_the_second_network_and_the_sampler_see_the_first_pass() -> None:
    segmenter = two_pass().eval()
    image, _ = batch()
    before = segmenter(image)
    nn.init.normal_(segmenter.downsampler.context.colours.weight)
    placed = segmenter(image)
    assert not torch.equal(before.sampled.density, placed.sampled.density)
    assert torch.equal(before.sampled.first_logits, placed.sampled.first_logits)
    nn.init.normal_(segmenter.context.colours.weight)
    seen = segmenter(image)
    assert torch.equal(placed.sampled.density, seen.sampled.density)
    assert not torch.equal(placed.logits, seen.logits)


def test_the_first_network_is_a_copy_by_default() -> None:
    network = UNet(3, (4,))
    segmenter = TwoPassSegmenter(Downsampler(ErrorCurveSampler(UNet(2, (4,))), (16, 24)), network)
    pairs = zip(segmenter.downsampler.network.parameters(), network.parameters(), strict=True)
    for own, other in pairs:
        assert own is not other
        assert torch.equal(own, other)
    statistics = dict(network.named_buffers())
    assert int(statistics["down.0.1.num_batches_tracked"]) == 0
    assert network.training


def test_both_networks_have_the_same_classes() -> None:
    with pytest.raises(ArgumentError, match=naming("first_network", 2, 3)):
        two_pass(network=UNet(2, (4,)))


def test_all_parts_receive_gradients_and_none_passes_through_the_grid() -> None:
    segmenter = two_pass()
    image, labels = batch()
    loss = FullResolutionLoss(grid_gradient=False, density=ErrorCurveLoss())
    terms = loss(segmenter(image), labels, 0.0)
    assert list(terms) == ["segmentation", "first_segmentation", "density"]
    curves = list(segmenter.downsampler.sampler.parameters())
    alone = torch.autograd.grad(terms["segmentation"], curves, retain_graph=True, allow_unused=True)
    assert all(gradient is None for gradient in alone)
    first = list(segmenter.downsampler.network.parameters())
    from_density = torch.autograd.grad(
        terms["density"], first, retain_graph=True, allow_unused=True
    )
    assert all(gradient is None for gradient in from_density)
    for name, module in (
        ("density", segmenter.downsampler.sampler),
        ("density", segmenter.downsampler.context),
        ("segmentation", segmenter.network),
        ("segmentation", segmenter.context),
        ("segmentation", segmenter.downsampler.network),
        ("first_segmentation", segmenter.downsampler.network),
    ):
        gradients = torch.autograd.grad(terms[name], list(module.parameters()), retain_graph=True)
        assert any(bool(gradient.any()) for gradient in gradients), name


def test_the_loss_of_the_first_pass_is_that_of_uniform_sampling() -> None:
    prediction = two_pass(scale=0.7).eval()(batch()[0])
    labels = batch()[1]
    loss = FullResolutionLoss().eval()
    first = prediction.sampled.first_logits
    size = (first.shape[2], first.shape[3])
    uniform = identity_grid(size, first)
    thumbnail = prediction.sampled._replace(image=torch.zeros(2, 3, *size), first_logits=None)
    expected = loss(SampledPrediction(first, uniform, thumbnail), labels, 0.0)
    found = loss(prediction, labels, 0.0)
    torch.testing.assert_close(found["first_segmentation"], expected["segmentation"])


def test_training_reduces_the_loss_of_both_passes() -> None:
    segmenter = two_pass()
    image, labels = batch()
    loss = FullResolutionLoss(grid_gradient=False, density=ErrorCurveLoss())
    optimizer = torch.optim.Adam([*segmenter.parameters()], lr=0.02)
    history = []
    for _ in range(12):
        terms = loss(segmenter(image), labels, 0.0)
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
        history.append({name: float(term.detach()) for name, term in terms.items()})
    for name in ("segmentation", "first_segmentation"):
        assert history[-1][name] < 0.8 * history[0][name]


def test_sources_in_bands_have_the_same_labels() -> None:
    segmenter = two_pass(scale=0.5).eval()
    image = batch(1)[0]
    bands = torch.cat(list(segmenter.label_bands(InMemoryImage(image))))
    assert torch.equal(bands, segmenter.segment(image)[0])


@pytest.mark.slow
def test_the_exported_program_gives_what_the_model_gives() -> None:
    segmenter = two_pass(scale=0.6).eval()
    nn.init.normal_(segmenter.downsampler.context.colours.weight)
    model = SegmentationModel(segmenter, {"classes": {"a": (0, 0, 0), "b": (9, 9, 9)}})
    image = batch(1)[0]
    logits, grid, small = export_program(model, (64, 96)).module()(image)
    prediction = segmenter(image)
    torch.testing.assert_close(logits, prediction.logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(grid, prediction.grid, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(small, prediction.sampled.image, rtol=1e-4, atol=1e-4)


def test_half_precision_networks_have_finite_losses() -> None:
    image, labels = batch()
    loss = FullResolutionLoss(grid_gradient=False, density=ErrorCurveLoss())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = loss(two_pass()(image), labels, 0.0)
    assert all(bool(term.isfinite()) and term.dtype == torch.float32 for term in terms.values())


def test_checkpoints_give_the_same_labels(tmp_path: Path, image: Pixels) -> None:
    def unet(**options: Any) -> dict[str, Any]:
        return {"class_path": "deformsample.networks.UNet", "init_args": options}

    sampler = {
        "class_path": "deformsample.samplers.ErrorCurveSampler",
        "init_args": {"network": unet(num_classes=2, widths=[4])},
    }
    downsampler = {
        "class_path": "deformsample.samplers.Downsampler",
        "init_args": {"sampler": sampler, "sampled_size": 300, "thumbnail_scale": 0.6},
    }
    architecture = {
        "class_path": "deformsample.segmenters.TwoPassSegmenter",
        "init_args": {"downsampler": downsampler, "network": unet(num_classes=2, widths=[4, 8])},
    }
    segmenter = build_part(Segmenter, architecture, "a test").eval()
    assert isinstance(segmenter, TwoPassSegmenter)
    for context in (segmenter.context, segmenter.downsampler.context):
        nn.init.normal_(context.colours.weight)
    weights = {f"segmenter.{name}": value for name, value in segmenter.state_dict().items()}
    classes = {"background": [0, 0, 0], "object": [255, 9, 0]}
    held = {"format": FORMAT, "segmenter": architecture, "classes": classes}
    torch.save({"state_dict": weights, "deformsample": held}, tmp_path / "last.ckpt")
    model = deformsample.load(tmp_path / "last.ckpt", kind=deformsample.SegmentationModel)
    labels = model.segment(image)
    pixels = torch.from_numpy(image).movedim(-1, 0)[None]
    assert np.array_equal(labels, segmenter.segment(pixels)[0])
    model.save_pretrained(tmp_path / "shared")
    again = deformsample.load(tmp_path / "shared", kind=deformsample.SegmentationModel)
    assert np.array_equal(again.segment(image), labels)
    small = model.downsample(image).image.shape[2:]
    assert tuple(small) == segmenter.downsampler.sizes((image.shape[0], image.shape[1]))[0]


@pytest.mark.slow
def test_a_run_from_training_to_its_cost(
    folder_tree: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", *FIT, f"--data.root={folder_tree}", "--output=run"]) == 0
    last = Path("run/checkpoints/last.ckpt")
    model = deformsample.load(last, kind=deformsample.SegmentationModel)
    assert isinstance(model.segmenter, TwoPassSegmenter)
    capsys.readouterr()
    assert main(["info", str(last)]) == 0
    assert "val/first_segmentation" in capsys.readouterr().out
    measure = ["measure", str(last), "--config=run/config.yaml"]
    assert main([*measure, "--cost"]) == 0
    costs = json.loads(capsys.readouterr().out)
    assert costs["pixels"] == model.segmenter.pixels((64, 96)) <= 16 * 24
    stages = ("thumbnail", "density", "warp", "network", "unwarp")
    assert all(costs[f"seconds/{stage}"] > 0 for stage in stages)
