"""Kill a training again and again: ``python -m tests.robustness.interruptions --kills 36``.

Trains a small network by the same command, ``deformsample fit ... --ckpt_path last``: once in
peace; and killed (SIGKILL) at random moments and in the middle of checkpoint writes, begun again
each time, in as many trainings as there are kills to make. After every kill all checkpoints must
be readable; in the end all runs must hold the same weights, optimiser state, progress and metrics,
bit for bit.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from deformsample.cli.train import main as fit

NETWORK = "deformsample.networks.UNet"
IN_WRITES = 3
"""One of so many kills waits for a checkpoint that is being written."""


def main() -> int:
    """Print one line for each kill, and what differs in the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=36)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)  # processes that are forked could not use more
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder / "data", 12)
        command = [
            *("--config=folder.yaml", f"--data.root={folder / 'data'}", "--data.batch_size=2"),
            *(
                f"--model.segmenter.network={NETWORK}",
                "--model.segmenter.downsampler.sampled_size=[16,24]",
            ),
            *("--trainer.accelerator=cpu", "--trainer.log_every_n_steps=1"),
            *("--trainer.enable_progress_bar=false", f"--data.num_workers={options.workers}"),
            *(f"--trainer.max_epochs={options.epochs}", "--ckpt_path=last"),
        ]
        return compare(folder, command, options.kills, options.epochs, options.seed)


def compare(folder: Path, command: Sequence[str], kills: int, epochs: int, seed: int) -> int:
    """Run in peace and with kills; returns the exit code."""
    peace, torn, log = folder / "peace", folder / "torn", folder / "log.txt"
    begin = time.monotonic()
    process = started([*command, f"--output={peace}"], log)
    while not (peace / "checkpoints" / "last.ckpt").exists() and process.is_alive():
        time.sleep(0.01)
    first = time.monotonic() - begin
    process.join()
    if process.exitcode:
        raise SystemExit(log.read_text(encoding="utf-8"))
    epoch = (time.monotonic() - begin - first) / max(1, epochs - 1)
    print(f"in peace: first checkpoint after {first:.1f} s, then one every {epoch:.2f} s")
    chance = random.Random(seed)
    done, in_writes, trainings, faults = 0, 0, 0, 0
    while done < kills:
        torn = folder / f"torn_{trainings}"
        own, cut = interrupted([*command, f"--output={torn}"], torn, log, chance, first + epoch)
        done, in_writes, trainings = done + own, in_writes + cut, trainings + 1
        found = [*differences(peace, torn), *map(str, partials(torn))]
        faults += len(found)
        print(f"training {trainings} ended after {own} kills; differences: {found}", flush=True)
    print(
        f"{done} kills in {trainings} trainings, {in_writes} in the middle of a checkpoint write; "
        f"unreadable checkpoints: 0; differences in the end, and left-over files: {faults}"
    )
    return int(bool(faults))


def interrupted(
    command: Sequence[str], run: Path, log: Path, chance: random.Random, longest: float
) -> tuple[int, int]:
    """Kill a training and begin it again until it has ended; counts all kills, and those in writes.

    Raises:
        Exception: a checkpoint that cannot be read after a kill.
    """
    kills, in_writes = 0, 0
    while True:
        process = started(command, log)
        if kills % IN_WRITES == IN_WRITES - 1:
            moment = kill_in_a_write(process, run, chance)
        else:
            delay = chance.uniform(0, longest)
            process.join(delay)
            moment = f"after {delay:.2f} s"
        if not process.is_alive():
            if process.exitcode:
                raise SystemExit(log.read_text(encoding="utf-8"))
            return kills, in_writes
        process.kill()
        process.join()
        kills += 1
        cut = [file.stat().st_size for file in partials(run)]
        in_writes += bool(cut)
        sizes = f", {cut[0]} bytes of a checkpoint written" if cut else ""
        print(f"kill {kills} {moment}{sizes}; last checkpoint: epoch {check_readable(run)}")


def write_images(root: Path, count: int) -> None:
    """Noise with a bright disc, and the disc as the label."""
    y, x = np.mgrid[:64, :96]
    for number in range(count):
        chance = np.random.default_rng(number)
        cy, cx, r = chance.uniform(10, 50), chance.uniform(10, 80), chance.uniform(8, 20)
        ids = ((y - cy) ** 2 + (x - cx) ** 2 < r**2).astype(np.uint8)
        pixels = (100 * ids[..., None] + chance.uniform(0, 150, (64, 96, 3))).astype(np.uint8)
        for folder, content in (("images", pixels), ("labels", ids)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(root / folder / f"{number}.png")


def started(
    arguments: Sequence[str],
    log: Path,
    command: Callable[[Sequence[str]], int] = fit,
    prepare: Callable[[], object] = lambda: None,
) -> Any:
    """A process of a command line, forked, so that it need not import everything again.

    Args:
        arguments: of the command.
        log: file for its output.
        command: returns the exit code.
        prepare: called in the process first.
    """

    def run() -> None:
        with log.open("w", encoding="utf-8") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        prepare()
        sys.exit(command(arguments))

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return process


def kill_in_a_write(process: Any, run: Path, chance: random.Random) -> str:
    """Wait until a checkpoint is being written, the first, second or third from now."""
    number = chance.randint(1, 3)
    seen: set[Path] = set()
    old = set(partials(run))  # of an earlier kill
    while process.is_alive():
        seen |= set(partials(run)) - old
        if len(seen) >= number:
            time.sleep(chance.uniform(0, 0.004))
            break
        time.sleep(0.0002)
    return f"in write {number}"


def partials(run: Path) -> list[Path]:
    """Files that are being written, or were when their process ended."""
    return list((run / "checkpoints").glob(".*.partial*"))


def check_readable(run: Path) -> int:
    """Read all checkpoints; returns the epoch of the last one, -1 before the first."""
    read = {
        file.name: torch.load(file, weights_only=True)
        for file in (run / "checkpoints").glob("[!.]*.ckpt")
    }
    return int(read["last.ckpt"]["epoch"]) if "last.ckpt" in read else -1


def differences(
    one: Path, other: Path, names: Sequence[str] = ("last.ckpt", "best.ckpt")
) -> Iterator[str]:
    """What two runs do not have in common, of these checkpoints and of their logs."""
    for name in names:
        pair = [torch.load(r / "checkpoints" / name, weights_only=True) for r in (one, other)]
        leaves = [
            dict(_leaves(content, run)) for content, run in zip(pair, (one, other), strict=True)
        ]
        for key in leaves[0].keys() | leaves[1].keys():
            # Lightning does not load that one, nor read it.
            if not key.endswith("/current_score") and not _equal(*(x.get(key) for x in leaves)):
                yield f"{name}: {key}"
    if (one / "metrics.csv").read_bytes() != (other / "metrics.csv").read_bytes():
        yield "metrics.csv"
    boards = [EventAccumulator(str(run)).Reload() for run in (one, other)]
    for tag in boards[0].Tags()["scalars"]:
        rows = [[(e.step, e.value) for e in board.Scalars(tag)] for board in boards]
        if repr(rows[0]) != repr(rows[1]):
            yield f"TensorBoard: {tag}"


def _leaves(content: Any, run: Path, path: str = "") -> Iterator[tuple[str, Any]]:
    """The tensors, numbers and texts of a checkpoint; the run's own folder is left out of them."""
    if isinstance(content, Mapping):
        for key, value in content.items():
            yield from _leaves(value, run, f"{path}/{str(key).replace(str(run), '')}")
    elif isinstance(content, (list, tuple)):
        for number, value in enumerate(content):
            yield from _leaves(value, run, f"{path}/{number}")
    else:
        yield path, content.replace(str(run), "") if isinstance(content, str) else content


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.dtype == other.dtype and one.numpy().tobytes() == other.numpy().tobytes()
    return repr(one) == repr(other)  # NaN is NaN


if __name__ == "__main__":
    sys.exit(main())
