"""Models as graphs, and what comes after them, give what the package itself gives."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import deformsample
from deformsample import kernels as without_torch
from deformsample.cli.main import main
from deformsample.conventions import Pixels
from deformsample.errors import ArgumentError, DataError
from deformsample.geometry import identity_grid, sampling_grid, softmax_density, unwarp
from deformsample.geometry import unwarp_labels as unwarp_tensor_labels
from deformsample.inference.exporter import (
    OUTPUTS,
    UNWARPED_OUTPUTS,
    export_program,
    write_onnx,
)
from deformsample.inference.model import SegmentationModel
from deformsample.networks import EdgeRegressor, HRNet, UNet
from deformsample.samplers import (
    BoundaryDensityOracle,
    Downsampler,
    EdgeOptimalSampler,
    LearnedSampler,
    Sampler,
    SeparableSampler,
    UniformSampler,
)
from deformsample.samplers.grids import DensityGrid, GaussianGrid, TransportGrid
from deformsample.segmenters import SampledPrediction, SampledSegmenter
from tests.helpers import naming

SIZE = (70, 110)
CLASSES = {"background": (0, 0, 0), "object": (255, 9, 0)}


def learned() -> LearnedSampler:
    """With scores that differ, so that the samples are anywhere but on a regular grid."""
    network = UNet(1, (4, 8))
    with torch.no_grad():
        next(network.head.parameters()).mul_(400)
    return LearnedSampler(network)


def model_of(sampler: Sampler, network: nn.Module, **options: Any) -> SegmentationModel:
    segmenter = SampledSegmenter(Downsampler(sampler, **options), network)
    return SegmentationModel(segmenter, {"classes": CLASSES})


def batch(image: Pixels) -> Tensor:
    return torch.from_numpy(image.transpose(2, 0, 1).copy())[None]


@torch.no_grad()
def eager(model: SegmentationModel, image: Pixels) -> tuple[Tensor, Tensor, Tensor]:
    prediction: SampledPrediction = model.segmenter(batch(image))
    return prediction.logits, prediction.grid, prediction.sampled.image


def session(file: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda: model_of(learned(), UNet(2, (4, 8), logit_upsampling=2), sampled_size=(16, 24)),
        lambda: model_of(learned(), UNet(2, (4,)), sampled_size=400, lod_bias=None),
        lambda: model_of(UniformSampler(), HRNet(2), sampled_size=(16, 24), lod_bias=0.0),
    ],
    ids=["pyramid", "bilinear, budget", "uniform, HRNet"],
)
def test_the_program_gives_what_the_model_gives(make: object, image: Pixels) -> None:
    assert callable(make)
    model = make()
    program = export_program(model, SIZE)
    expected = eager(model, image)
    for own, other in zip(program.module()(batch(image)), expected, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-5)
    if isinstance(model.segmenter.downsampler.sampler, LearnedSampler):
        grid = expected[1]
        moved = grid - identity_grid((grid.shape[1], grid.shape[2]), grid)
        assert float(moved.abs().max()) > 0.05


@pytest.mark.slow
def test_onnxruntime_gives_what_the_model_gives(exported: tuple[Path, Path], image: Pixels) -> None:
    checkpoint, file = exported
    model = deformsample.load(checkpoint, kind=deformsample.SegmentationModel)
    running = session(file)
    given = running.get_inputs()[0]
    assert (given.name, given.shape, given.type) == ("image", [1, 3, *SIZE], "tensor(uint8)")
    assert [output.name for output in running.get_outputs()] == list(OUTPUTS)
    results = running.run(None, {"image": batch(image).numpy()})
    for own, other in zip(results, eager(model, image), strict=True):
        np.testing.assert_allclose(own, other.numpy(), rtol=0, atol=1e-4)
    logits, grid, _ = results
    labels = without_torch.unwarp_labels(logits, grid, SIZE)[0]
    first, second = unwarp(*eager(model, image)[:2], SIZE)[0].topk(2, dim=0).values
    clear = (first - second > 1e-4).numpy()
    assert np.array_equal(labels[clear], model.segment(image)[clear])
    assert clear.mean() > 0.99


@pytest.mark.slow
def test_an_onnx_file_says_what_it_is(exported: tuple[Path, Path]) -> None:
    metadata = session(exported[1]).get_modelmeta().custom_metadata_map
    assert json.loads(metadata["classes"]) == {"background": [0, 0, 0], "object": [255, 9, 0]}
    assert json.loads(metadata["image_size"]) == [70, 110]
    assert metadata["deformsample"] == deformsample.__version__
    assert [path.name for path in exported[1].parent.iterdir()] == ["model.onnx"]


def test_bilinear_uniform_samples_in_onnxruntime(image: Pixels, tmp_path: Path) -> None:
    model = model_of(UniformSampler(), UNet(3, (4,)), sampled_size=(9, 14), lod_bias=None)
    write_onnx(model, SIZE, tmp_path / "new" / "a.onnx")
    results = session(tmp_path / "new" / "a.onnx").run(None, {"image": batch(image).numpy()})
    for own, other in zip(results, eager(model, image), strict=True):
        np.testing.assert_allclose(own, other.numpy(), rtol=0, atol=1e-4)


@torch.no_grad()
def with_all_classes(model: SegmentationModel, image: Pixels) -> SegmentationModel:
    """The model with a last layer that gives each class a part of the image, away from ties."""
    weight, bias = (
        model.segmenter.network.get_parameter(f"head.{name}") for name in ("weight", "bias")
    )
    weight.div_(full_logits(model, image).std())
    bias.sub_(full_logits(model, image).flatten(1).median(1).values)
    return model


@torch.no_grad()
def equal_share(model: SegmentationModel, image: Pixels, labels: Any) -> float:
    """The share of pixels, away from ties, whose labels are those of the model."""
    first, second = full_logits(model, image).topk(2, dim=0).values
    clear = (first - second > 1e-4).numpy()
    assert clear.mean() > 0.99
    assert (labels.dtype, labels.shape) == (np.uint8, (1, *SIZE))
    expected = model.segment(batch(image))[0].numpy()
    assert len(np.unique(expected)) > 1
    return float((labels[0] == expected)[clear].mean())


def full_logits(model: SegmentationModel, image: Pixels) -> Tensor:
    logits, grid, _ = eager(model, image)
    return unwarp(logits, grid, SIZE)[0]


def test_labels_of_uniform_samples_in_onnxruntime(image: Pixels, tmp_path: Path) -> None:
    model = model_of(UniformSampler(), UNet(3, (4,)), sampled_size=(9, 14), lod_bias=None)
    write_onnx(with_all_classes(model, image), SIZE, tmp_path / "a.onnx", unwarp=True)
    running = session(tmp_path / "a.onnx")
    assert [output.name for output in running.get_outputs()] == list(UNWARPED_OUTPUTS)
    (labels,) = running.run(None, {"image": batch(image).numpy()})
    assert equal_share(model, image, labels) >= 0.999


@pytest.mark.slow
def test_labels_in_onnxruntime_are_the_labels(
    small_checkpoint: Path, image: Pixels, tmp_path: Path
) -> None:
    model = deformsample.load(small_checkpoint, kind=deformsample.SegmentationModel)
    with_all_classes(model, image).save_pretrained(tmp_path / "model")
    target = tmp_path / "a.onnx"
    size = ["--image-size", "70", "110"]
    command = ["export", str(tmp_path / "model"), "--output", str(target), *size, "--unwarp"]
    assert main(command) == 0
    (labels,) = session(target).run(None, {"image": batch(image).numpy()})
    assert equal_share(model, image, labels) >= 0.999


@pytest.mark.slow
@pytest.mark.parametrize("kind", [GaussianGrid, TransportGrid])
@pytest.mark.parametrize("of", [LearnedSampler, SeparableSampler])
def test_a_program_returns_the_labels(
    of: type[Sampler], kind: type[DensityGrid], image: Pixels
) -> None:
    sampler = of(learned().network, kind())
    model = model_of(sampler, UNet(2, (4, 8), logit_upsampling=2), sampled_size=(16, 24))
    program = export_program(with_all_classes(model, image), SIZE, unwarp=True)
    assert equal_share(model, image, program.module()(batch(image)).numpy()) >= 0.999


@pytest.mark.slow
def test_the_command_writes_a_program_that_torch_loads(
    small_checkpoint: Path,
    image: Pixels,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    target = tmp_path / "out" / "a.pt2"
    size = ["--image-size", "70", "110"]
    assert main(["export", str(small_checkpoint), "--output", str(target), *size]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(target)
    assert [path.name for path in target.parent.iterdir()] == ["a.pt2"]
    held = {"deformsample.json": ""}
    program = torch.export.load(target, extra_files=held)
    assert json.loads(json.loads(held["deformsample.json"])["image_size"]) == [70, 110]
    expected = eager(
        deformsample.load(small_checkpoint, kind=deformsample.SegmentationModel), image
    )
    for own, other in zip(program.module()(batch(image)), expected, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-5)


def test_wrong_options_are_named(
    small_checkpoint: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = str(small_checkpoint)
    assert main(["export", checkpoint, "--output", "a.pb", "--image-size", "70", "110"]) == 1
    assert re.search(naming("--output", ".onnx", ".pt2", "a.pb"), capsys.readouterr().err)
    assert main(["export", checkpoint, "--output", "a.onnx", "--image-size", "1", "110"]) == 1
    assert "(1, 110)" in capsys.readouterr().err
    assert not list(in_tmp.iterdir())


class _Leaves(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return torch.from_numpy(image.numpy() * 2)


def test_what_cannot_be_a_graph_is_named() -> None:
    network = UNet(2, (4,))
    with pytest.raises(ArgumentError, match="BoundaryDensityOracle"):
        export_program(model_of(BoundaryDensityOracle(), network), SIZE)
    edge_optimal = EdgeOptimalSampler(EdgeRegressor((4, 4), (4, 4)))
    with pytest.raises(ArgumentError, match="sampler"):
        export_program(model_of(edge_optimal, network), SIZE)
    with pytest.raises(ArgumentError, match=naming("UniformSampler", "_Leaves")):
        export_program(model_of(UniformSampler(), _Leaves()), SIZE)


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(DataError, match=naming("a.onnx", "deformsample[export]")):
        write_onnx(model_of(UniformSampler(), UNet(2, (4,))), SIZE, tmp_path / "a.onnx")


_WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
import numpy as np
from deformsample.kernels import unwarp, unwarp_labels
held = np.load("in.npz")
values, grid = held["values"], held["grid"]
labels = unwarp_labels(values, grid, (83, 131), threads=2)
np.savez("out.npz", labels=labels, full=unwarp(values, grid, (83, 131)))
try:
    from deformsample import load
except ImportError as error:
    print(error)
"""


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_labels_without_torch_are_the_labels(dtype: torch.dtype, in_tmp: Path) -> None:
    grid = sampling_grid(softmax_density(torch.randn(2, 1, 9, 14) * 6), (9, 14), 2.0)
    values = torch.randn(2, 5, 9, 14, dtype=dtype)
    np.savez("in.npz", values=values.numpy(), grid=grid.numpy())
    command = [sys.executable, "-c", _WITHOUT_TORCH]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "torch" in done.stdout
    result = np.load("out.npz")
    assert np.array_equal(result["labels"], unwarp_tensor_labels(values, grid, (83, 131)).numpy())
    assert np.array_equal(result["full"], unwarp(values.float(), grid, (83, 131)).numpy())


def test_wrong_arrays_are_named() -> None:
    grid = identity_grid((4, 5), torch.zeros(1)).numpy()
    logits = np.zeros((1, 2, 4, 5), np.float32)
    with pytest.raises(ArgumentError, match=naming("values", logits[:, :, 1:].shape)):
        without_torch.unwarp(logits[:, :, 1:], grid, (8, 8))
    with pytest.raises(ArgumentError, match=naming("grid", (1, 2, 4, 5), "channels")):
        without_torch.unwarp(logits, grid.transpose(0, 3, 1, 2), (8, 8))
    with pytest.raises(ArgumentError, match=naming("values", "int64")):
        without_torch.unwarp_labels(logits.astype(int), grid, (8, 8))
    with pytest.raises(ArgumentError, match=naming(254, 300)):
        without_torch.unwarp_labels(np.zeros((1, 300, 4, 5)), grid, (8, 8))
    with pytest.raises(ArgumentError, match=naming("grid", "0.1")):
        without_torch.unwarp_labels(logits, grid * 0.9, (8, 8))
    with pytest.raises(ArgumentError, match=naming("size", (1, 8))):
        without_torch.unwarp_labels(logits, grid, (1, 8))


def test_an_unknown_name_is_not_in_the_package() -> None:
    with pytest.raises(AttributeError, match=naming("'deformsample'", "'lod'")):
        deformsample.lod  # noqa: B018
