"""Faults of training are found, named and stopped, or passed over."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from deformsample.cli.main import main
from deformsample.conventions import Size
from deformsample.geometry import identity_grid, sampling_grid
from deformsample.samplers import Placement, Sampler
from deformsample.training.faults import densest_half
from deformsample.training.readback import Readback
from tests.helpers import SHORT, SMALL, compute_as_on_a_gpu, naming


class ExplodingLoss(nn.Module):
    """Infinite in the second step of training, so that its gradients are not numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def forward(self, prediction: object, labels: Tensor, progress: float) -> dict[str, Tensor]:
        assert hasattr(prediction, "logits")
        logits: Tensor = prediction.logits
        self.steps += logits.requires_grad
        factor = float("nan") if self.steps == 2 and logits.requires_grad else 1.0
        return {"loss": factor * logits.square().mean()}


class OnePlaceSampler(Sampler):
    """Nearly all samples on the same few pixels."""

    display_name = "one place"

    def forward(self, thumbnail: Tensor, size: Size, labels: Tensor | None = None) -> Placement:
        b, _, h, w = thumbnail.shape
        density = torch.full((b, 1, h, w), 1e-9)
        density[..., h // 2, w // 2] = 1
        density = density / density.sum(dim=(2, 3), keepdim=True)
        inner = identity_grid(size, thumbnail) * 0.01
        border = identity_grid(size, thumbnail)
        edge = torch.ones(size, dtype=torch.bool)
        edge[1:-1, 1:-1] = False
        return Placement(density, torch.where(edge[..., None], border, inner))


class BrokenSampler(OnePlaceSampler):
    """Has no places after its first batch."""

    def __init__(self) -> None:
        super().__init__()
        self.batches = 0

    def forward(self, thumbnail: Tensor, size: Size, labels: Tensor | None = None) -> Placement:
        self.batches += 1
        density = torch.full((len(thumbnail), 1, *size), 1.0 if self.batches < 2 else torch.nan)
        return Placement(density, sampling_grid(density, size, 2.0))


def fit(tree: Path, output: Path, *options: str) -> int:
    given = ["--config=folder.yaml", f"--data.root={tree}", f"--output={output}", *SMALL, *SHORT]
    return main(["fit", *given, *options])


EXPLODE = "--model.loss=tests.training.test_faults.ExplodingLoss"


def test_gradients_that_are_no_numbers_stop_the_run(
    folder_tree: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(folder_tree, in_tmp / "run", EXPLODE) == 1
    said = capsys.readouterr().err
    assert re.search(naming("gradients", 1, folder_tree / "images", "action: skip"), said)
    assert "Traceback" not in said


@pytest.mark.slow
def test_such_steps_can_be_passed_over(folder_tree: Path, in_tmp: Path) -> None:
    callbacks = (
        "[{class_path: deformsample.training.faults.NonFiniteGuard, init_args: {action: skip}}, "
        "{class_path: pytorch_lightning.callbacks.ModelCheckpoint, init_args: {filename: last}}]"
    )
    with pytest.warns(UserWarning, match=naming("gradients", 1)):
        code = fit(folder_tree, in_tmp / "run", EXPLODE, f"--trainer.callbacks={callbacks}")
    assert code == 0
    saved = torch.load(in_tmp / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    weights = [v for v in saved["state_dict"].values() if v.is_floating_point()]
    assert all(bool(weight.isfinite().all()) for weight in weights)


def test_a_collapsed_sampler_stops_the_run(
    folder_tree: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sampler = "--model.segmenter.downsampler.sampler=tests.training.test_faults.OnePlaceSampler"
    loss = "--model.loss.density=null"
    assert fit(folder_tree, in_tmp / "run", sampler, loss) == 1
    assert re.search(naming("samples", folder_tree / "images"), capsys.readouterr().err)


def test_places_that_are_no_numbers_end_the_run(
    folder_tree: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sampler = "--model.segmenter.downsampler.sampler=tests.training.test_faults.BrokenSampler"
    with pytest.warns(UserWarning, match=naming(folder_tree / "images")):
        assert fit(folder_tree, in_tmp / "run", sampler, "--model.loss.density=null") == 1
    said = capsys.readouterr().err
    assert "BrokenSampler" in said
    assert "Traceback" not in said


class NarrowSampler(OnePlaceSampler):
    """Leaves the border of the image uncovered."""

    def forward(self, thumbnail: Tensor, size: Size, labels: Tensor | None = None) -> Placement:
        grid = identity_grid(size, thumbnail) * 0.9
        return Placement(torch.full((len(thumbnail), 1, *size), 1.0), grid)


@pytest.mark.parametrize(
    ("sampler", "named"), [(BrokenSampler, ["BrokenSampler"]), (NarrowSampler, ["grid", "0.1"])]
)
def test_a_gpu_reports_wrong_places_after_the_step(
    sampler: type[Sampler],
    named: list[str],
    folder_tree: Path,
    in_tmp: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compute_as_on_a_gpu(monkeypatch)
    options = [
        f"--model.segmenter.downsampler.sampler=tests.training.test_faults.{sampler.__name__}",
        "--model.loss.density=null",
        "--trainer.num_sanity_val_steps=0",
    ]
    if sampler is BrokenSampler:
        with pytest.warns(UserWarning, match=naming(folder_tree / "images")):
            assert fit(folder_tree, in_tmp / "run", *options) == 1
    else:
        assert fit(folder_tree, in_tmp / "run", *options) == 1
    said = capsys.readouterr().err
    assert re.search(naming(*named), said)
    assert "Traceback" not in said
    assert not list((in_tmp / "run").glob("checkpoints/*.ckpt"))


class SlowEvent:
    """An event of a GPU that has not happened yet."""

    done = False

    def record(self) -> None:
        pass

    def query(self) -> bool:
        return self.done

    def synchronize(self) -> None:
        SlowEvent.done = True


def test_values_of_a_gpu_are_read_when_they_have_arrived(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Event", SlowEvent)
    with FakeTensorMode():
        later = Readback(torch.zeros(2, device="cuda"))
        assert not later.is_ready()
        assert later.read().device.type == "cpu"
        assert later.is_ready()


def test_the_densest_half() -> None:
    uniform = identity_grid((20, 30), torch.zeros(2, 1))
    # The samples of the border stand for half a cell.
    assert float(densest_half(uniform)[0]) == pytest.approx(0.5, abs=0.06)
    peak = torch.full((1, 1, 20, 30), 1e-3)
    peak[..., 10, 15] = 1
    half = densest_half(sampling_grid(peak / peak.sum(), (20, 30), 2.0))
    assert 0.1 < float(half) < 0.4
