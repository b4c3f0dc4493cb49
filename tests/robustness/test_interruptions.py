"""Runs that are cut off, disks that are full, and folders that two want."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch

import deformsample.training.resuming
from deformsample.cli.main import main
from deformsample.data.seeding import EpochOrder, SeededItems, seed_all, seed_of, seeded
from deformsample.errors import ArgumentError
from deformsample.training.resuming import ResumableCSVLogger
from deformsample.training.run_folder import LOCK, run_folder
from tests.helpers import naming, save, scene
from tests.robustness.interrupted import command
from tests.robustness.interruptions import differences, write_images

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def happened(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What ``tests.robustness.interrupted`` tells."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.robustness.interrupted",
            str(tmp_path_factory.mktemp("runs")),
        ],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.slow
def test_a_killed_run_ends_as_one_in_peace(happened: dict[str, Any]) -> None:
    told = happened["killed"]
    assert told["codes"] == [0, -9, -9, -9, -9, 0]
    assert told["held"][:3] == [-1, -1, 0]
    assert told["held"][3] in (0, 1)
    # What was cut off in a write is gone when the run goes on.
    assert told["cut"] == [0, 1, 0, 1, 0]
    assert told["differences"] == []


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_keeps_what_was_there(happened: dict[str, Any]) -> None:
    told = happened["full_disk"]
    assert told["codes"] == [0, 1, 1]
    assert told["kept"]
    training, downsampling = (said.splitlines()[-1] for said in told["said"])
    assert re.match("error: .*checkpoints/.*File too large", training)
    assert re.match("error: .*1 of 1 .*File too large", downsampling)
    assert "Traceback" not in "".join(told["said"])


@pytest.mark.slow
def test_two_can_write_label_maps_to_one_folder(happened: dict[str, Any]) -> None:
    assert happened["side_by_side"] == {"codes": [0, 0, 0], "files": 12, "equal": True}


# Without killing: the same, in one process


class CutError(Exception):
    """Stands for the end of the process."""


@contextmanager
def cut_at(step: int) -> Iterator[None]:
    """Let the n-th step of training fail, counted from 1."""
    steps = []

    def counted(seed: int) -> None:
        steps.append(seed)
        if len(steps) == step:
            raise CutError
        seed_all(seed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deformsample.training.resuming, "seed_all", counted)
        with suppress(CutError):
            yield
    assert len(steps) == step


AUGMENTED = (
    "--data.augmentation=[{class_path: albumentations.HorizontalFlip}, "
    "{class_path: albumentations.RandomBrightnessContrast}]"
)
MID_EPOCH = (
    "--trainer.callbacks=[{class_path: pytorch_lightning.callbacks.ModelCheckpoint, init_args: "
    "{filename: last, every_n_train_steps: 3, enable_version_counter: false}}]"
)


@pytest.mark.slow
def test_workers_and_checkpoints_within_epochs_change_nothing(
    in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(in_tmp / "data", 12)
    more = [AUGMENTED, MID_EPOCH]
    assert main([*command(in_tmp, "peace"), *more, "--data.num_workers=2"]) == 0
    with cut_at(6):
        main([*command(in_tmp, "torn"), *more])
    capsys.readouterr()
    assert main([*command(in_tmp, "torn"), *more]) == 0
    assert "training resumes from step 3, " in capsys.readouterr().out  # of four in an epoch
    assert not set(differences(in_tmp / "peace", in_tmp / "torn", names=["last.ckpt"]))


@pytest.mark.slow
def test_classification_goes_on_and_stays_done(
    in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for n in range(16):
        save(in_tmp / "data" / "ab"[n % 2] / f"{n}.png", scene(n, 32, 48, 2)[0])
    given = [
        *("fit", "--config=classification/uniform.yaml", "--data.root=data", "--ckpt_path=last"),
        "--model.classifier.network=deformsample.networks.ConvClassifier",
        *("--model.classifier.network.widths=[4,8]", "--data.batch_size=2", AUGMENTED),
        *("--trainer.accelerator=cpu", "--data.num_workers=0", "--trainer.max_epochs=2"),
        *("--trainer.enable_progress_bar=false", "--trainer.log_every_n_steps=1"),
    ]
    assert main([*given, "--output=peace"]) == 0
    with cut_at(8):
        main([*given, "--output=torn"])
    assert main([*given, "--output=torn"]) == 0
    assert not set(differences(in_tmp / "peace", in_tmp / "torn"))
    # Once more, as a loop would.
    last = in_tmp / "torn" / "checkpoints" / "last.ckpt"
    before = last.read_bytes()
    assert main([*given, "--output=torn"]) == 0
    assert last.read_bytes() == before
    assert not set(differences(in_tmp / "peace", in_tmp / "torn"))


@pytest.mark.slow
def test_a_run_that_stopped_early_stays_stopped(in_tmp: Path) -> None:
    write_images(in_tmp / "data", 6)
    early = "{monitor: val/loss, min_delta: 1000, patience: 1}"  # after the second epoch
    stop = f"{{class_path: pytorch_lightning.callbacks.EarlyStopping, init_args: {early}}}"
    given = [*command(in_tmp, "run"), "--data.batch_size=4", "--trainer.max_epochs=5"]
    given += [f"--trainer.callbacks+={stop}"]
    steps = []
    for _ in range(2):
        assert main(given) == 0
        last = in_tmp / "run" / "checkpoints" / "last.ckpt"
        steps.append(torch.load(last, weights_only=True)["global_step"])
    assert steps == [2, 2]


# Order and seeds


def test_order_and_augmentation_follow_from_seed_epoch_and_index() -> None:
    class Draws(torch.utils.data.Dataset[float]):
        def __len__(self) -> int:
            return 5

        def __getitem__(self, index: int) -> float:
            return index + float(torch.rand(()))

    items = SeededItems(Draws(), seed=7)
    state = torch.get_rng_state()
    drawn = [items[number] for number in range(10)]
    assert torch.equal(torch.get_rng_state(), state)
    assert drawn == [items[number] for number in range(10)]
    assert [int(x) for x in drawn] == [0, 1, 2, 3, 4] * 2
    assert len({x % 1 for x in drawn}) == 10
    order = EpochOrder(items)
    first = list(order)
    order.set_epoch(1)
    second = list(order)
    assert (sorted(first), sorted(second)) == ([0, 1, 2, 3, 4], [5, 6, 7, 8, 9])
    assert [number - 5 for number in second] != first
    assert list(EpochOrder(items, epoch=1)) == second
    rest = EpochOrder(items, epoch=1, done=2)
    assert list(rest) == second[2:]
    rest.set_epoch(0)
    assert list(rest) == first
    assert list(EpochOrder(SeededItems(Draws(), seed=8))) != first


def test_processes_share_an_epoch() -> None:
    items = SeededItems(torch.utils.data.TensorDataset(torch.arange(6)), seed=1)
    parts = [list(EpochOrder(items, 2, rank, epoch=3)) for rank in range(2)]
    assert sorted(parts[0] + parts[1]) == [18, 19, 20, 21, 22, 23]


def test_seeds_differ_by_purpose_and_number() -> None:
    seeds = {seed_of(*key) for key in (("a",), ("b",), ("a", 0), ("a", 1), ("a", 0, 0))}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**64 for seed in seeds)
    with seeded(3):
        one = torch.rand(2)
    with seeded(3):
        assert torch.equal(torch.rand(2), one)


# Folders


@contextmanager
def kept_by_another(folder: Path) -> Iterator[None]:
    """A process that holds the lock of a run's folder, and is killed in the end."""
    folder.mkdir(parents=True, exist_ok=True)
    ready, tell = os.pipe()
    process = os.fork()
    if process == 0:
        with (folder / LOCK).open("a") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            os.write(tell, b".")
            signal.pause()
    os.read(ready, 1)
    try:
        yield
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(ready)
        os.close(tell)


@pytest.mark.slow
def test_a_second_training_in_a_folder_is_refused(
    in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(in_tmp / "data", 6)
    with kept_by_another(in_tmp / "run"):
        assert main(command(in_tmp, "run")) == 1
        assert main([*command(in_tmp, "run"), "--ckpt_path=null"]) == 1
    said = capsys.readouterr().err.splitlines()
    refused = [line for line in said if line.startswith("error: ")]
    assert len(refused) == 2
    assert all(str(in_tmp / "run") in line and "`--output`" in line for line in refused)
    assert [file.name for file in (in_tmp / "run").iterdir()] == [LOCK]
    # The lock of a killed process is none.
    with run_folder(str(in_tmp / "run"), in_tmp, resume=False) as folder:
        assert folder == in_tmp / "run"


def test_folders_that_no_run_can_go_on_in(in_tmp: Path) -> None:
    with (
        pytest.raises(ArgumentError, match=naming("--output FOLDER", "--ckpt_path last")),
        run_folder(None, in_tmp, resume=True),
    ):
        pass
    (in_tmp / "mine").mkdir()
    (in_tmp / "mine" / "thesis.tex").write_text("")
    with (
        pytest.raises(ArgumentError, match=naming("--output", "mine")),
        run_folder("mine", in_tmp, resume=True),
    ):
        pass
    with (
        pytest.raises(ArgumentError, match=naming("mine", "--ckpt_path last")),
        run_folder("mine", in_tmp, resume=False),
    ):
        pass


def test_numbered_folders_are_made_at_once(in_tmp: Path) -> None:
    runs = Path("runs")
    with run_folder(None, runs, resume=False) as a, run_folder(None, runs, resume=False) as b:
        assert (a.name, b.name) == ("version_0", "version_1")


def test_without_a_last_checkpoint_being_written_nothing_goes_on(
    in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(in_tmp / "data", 6)
    assert main([*command(in_tmp, "run"), "--trainer.callbacks=[]"]) == 1
    assert re.search(naming("ModelCheckpoint", "filename: last"), capsys.readouterr().err)


def test_only_training_finds_a_checkpoint(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(in_tmp / "data", 6)
    assert main(["validate", *command(in_tmp, "run")[1:]]) == 1
    assert re.search(naming("--ckpt_path", "validate"), capsys.readouterr().err)
    assert not (in_tmp / "run").exists()


def test_a_checkpoint_that_cannot_be_read_is_named(
    in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(in_tmp / "data", 6)
    shutil.copytree(in_tmp / "data", in_tmp / "run" / "checkpoints")
    (in_tmp / "run" / "checkpoints" / "last.ckpt").write_bytes(b"half")
    assert main(command(in_tmp, "run")) == 1
    assert "run/checkpoints/last.ckpt" in capsys.readouterr().err


# Metrics


def test_metrics_go_on_at_a_step(tmp_path: Path) -> None:
    for number in range(3):
        log = ResumableCSVLogger(str(tmp_path), step=number)
        log.log_metrics({"a": 1.0 + number}, step=number)
        log.save()
        log.log_metrics({"b": 2.0}, step=number)
        log.save()
        with (tmp_path / "metrics.csv").open("a") as file:
            file.write("9.0,")  # cut off
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert lines == ["a,b,step", "1.0,,0", ",2.0,0", "2.0,,1", ",2.0,1", "3.0,,2", ",2.0,2", "9.0,"]
