"""Trainings that die, for ``test_interruptions.py``: in a process of its own, which forks.

``python -m tests.robustness.interrupted FOLDER`` prints what happened as JSON.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch

import deformsample.training.resuming
from deformsample.cli.main import main
from tests.robustness.interruptions import (
    check_readable,
    differences,
    partials,
    started,
    write_images,
)

CALLBACKS = """[
  {class_path: pytorch_lightning.callbacks.ModelCheckpoint, init_args:
    {filename: best, monitor: val/miou, mode: max, enable_version_counter: false}},
  {class_path: pytorch_lightning.callbacks.ModelCheckpoint, init_args:
    {filename: last, save_on_train_epoch_end: true, enable_version_counter: false}}]"""


def command(folder: Path, run: str) -> list[str]:
    """A training of three epochs of four steps."""
    return [
        *("fit", "--config=folder.yaml", f"--data.root={folder / 'data'}", "--ckpt_path=last"),
        *("--model.segmenter.network=deformsample.networks.UNet", "--data.batch_size=2"),
        *(
            "--model.segmenter.network.widths=[4,8]",
            "--model.segmenter.downsampler.sampled_size=[16,24]",
        ),
        *("--trainer.accelerator=cpu", "--trainer.log_every_n_steps=1", "--data.num_workers=0"),
        *("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"),
        *(f"--trainer.callbacks={CALLBACKS}", "--trainer.max_epochs=3"),
        f"--output={folder / run}",
    ]


def child(folder: Path, arguments: list[str], prepare: Callable[[], object] = lambda: None) -> Any:
    """A process of the command line, and where its output goes."""
    return started(arguments, folder / "log.txt", main, prepare)


def ended(process: Any) -> int:
    process.join()
    return int(process.exitcode)


def die_at(owner: Any, name: str, call: int) -> Callable[[], object]:
    """Kill this process in the n-th call of a function, counted from 1."""
    original, calls = getattr(owner, name), []

    def counted(*arguments: Any) -> Any:
        calls.append(name)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments)

    return mock.patch.object(owner, name, counted).start


def killed(folder: Path) -> dict[str, Any]:
    """One run in peace, and one that dies four times."""
    codes = [ended(child(folder, command(folder, "peace")))]
    moments = [
        die_at(deformsample.training.resuming, "seed_all", 2),  # before any checkpoint
        die_at(os, "fsync", 1),  # in the write of the first one
        die_at(deformsample.training.resuming, "seed_all", 7),  # within the second epoch
        die_at(os, "fsync", 2),  # in the write of a later one
    ]
    held, cut = [], []
    for moment in moments:
        codes.append(ended(child(folder, command(folder, "torn"), moment)))
        held.append(check_readable(folder / "torn"))
        cut.append(len(partials(folder / "torn")))
    codes.append(ended(child(folder, command(folder, "torn"))))
    found = list(differences(folder / "peace", folder / "torn"))
    cut.append(len(partials(folder / "torn")))
    return {"codes": codes, "held": held, "cut": cut, "differences": found}


def small_files(size: int) -> None:
    """Let every write beyond a size fail, as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def full_disk(folder: Path) -> dict[str, Any]:
    """One more epoch, and a small image once more, where there is no room for them."""
    last, output = folder / "peace" / "checkpoints" / "last.ckpt", folder / "small"
    longer = [*command(folder, "peace"), "--trainer.max_epochs=4"]
    small = ["downsample", "uniform", str(folder / "data" / "images" / "0.png"), "--pixels=4000"]
    small.append(f"--output={output}")
    codes = [ended(child(folder, small))]
    before = [last.read_bytes(), contents(output)]
    said = []
    for arguments, room in ((longer, len(before[0]) // 2), (small, 4000)):
        codes.append(ended(child(folder, arguments, partial(small_files, room))))
        said.append((folder / "log.txt").read_text())
    return {"codes": codes, "said": said, "kept": before == [last.read_bytes(), contents(output)]}


def side_by_side(folder: Path) -> dict[str, Any]:
    """Two processes that write to one folder at a time, and one that has its own."""
    processes = [child(folder, segment(folder, name)) for name in ("alone", "both", "both")]
    codes = [ended(process) for process in processes]
    alone, both = contents(folder / "alone"), contents(folder / "both")
    return {"codes": codes, "files": len(alone), "equal": alone == both}


def segment(folder: Path, output: str) -> list[str]:
    checkpoint = folder / "peace" / "checkpoints" / "last.ckpt"
    images = folder / "data" / "images"
    return ["segment", str(checkpoint), str(images), "--jobs=2", f"--output={folder / output}"]


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    place = Path(sys.argv[1])
    write_images(place / "data", 12)
    happened = {work.__name__: work(place) for work in (killed, side_by_side, full_disk)}
    sys.stdout.write(json.dumps(happened))
