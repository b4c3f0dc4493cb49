"""Training and measuring the runs of a plan, each in a separate process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from deformsample.errors import DataError
from deformsample.evaluation.plan import Plan, Run

ACCURACY = "accuracy.json"
COST = "cost.json"


def train_and_measure(
    plan: Plan,
    todo: Sequence[Run],
    common: Sequence[str],
    *,
    jobs: int,
    report: Callable[[str], object],
) -> None:
    """Train and measure every run that is not done, in parallel.

    A run is done when its measurement is written. Interrupted runs start again.

    Args:
        plan: the plan.
        todo: the runs.
        common: options of ``deformsample fit`` for all runs.
        jobs: number of parallel runs; each gets an equal share of the processors.
        report: called with a line for each finished run.

    Raises:
        DataError: a run fails; active runs end first.
    """
    threads = max(1, (os.cpu_count() or 1) // jobs)
    waiting = [run for run in todo if not (run.folder / ACCURACY).is_file()]
    finished = {run.folder for run in todo} - {run.folder for run in waiting}
    report(f"{len(finished)} of {len(todo)} runs are done already")
    with ThreadPoolExecutor(jobs) as pool:
        active: dict[Future[None], Run] = {}
        while waiting or active:
            for run in list(waiting):
                ready = run.after is None or run.after.folder in finished
                if ready and len(active) < jobs:
                    waiting.remove(run)
                    active[pool.submit(_train_and_measure, plan, run, common, threads)] = run
            ended, _ = wait(active, return_when=FIRST_COMPLETED)
            for future in ended:
                run = active.pop(future)
                future.result()
                finished.add(run.folder)
                scores = json.loads((run.folder / ACCURACY).read_text())
                report(f"{run.method}, {run.budget}, seed {run.seed}: mIoU {scores['miou']:.3f}")


def measure_costs(plan: Plan, todo: Sequence[Run], *, report: Callable[[str], object]) -> None:
    """Measure the costs of the runs of the first seed, one after another, on an idle machine."""
    for run in todo:
        if run.seed == plan.seeds[0] and not (run.folder / COST).is_file():
            _measure(plan, run, COST, threads=None)
            report(f"{run.method}, {run.budget}: cost measured")


def _train_and_measure(plan: Plan, run: Run, common: Sequence[str], threads: int) -> None:
    training = run.folder / "training"
    shutil.rmtree(training, ignore_errors=True)
    method = plan.methods[run.method]
    height, width = plan.budgets[run.budget]
    configs = [f"--config={name}" for name in (*plan.configs, *method.configs)]
    options = [
        f"--model.segmenter.{method.size}=[{height},{width}]",
        f"--seed_everything={run.seed}",
        f"--output={training}",
        *common,
        *method.options,
    ]
    if run.after is not None:
        weights = run.after.folder / "training" / "checkpoints" / "last.ckpt"
        options.append(f"--model.segmenter.downsampler.sampler.weights={weights}")
    _call(["fit", *configs, *options], run.folder / "training.log", threads)
    _measure(plan, run, ACCURACY, threads)


def _measure(plan: Plan, run: Run, name: str, threads: int | None) -> None:
    training = run.folder / "training"
    _call(
        [
            *("measure", str(training / "checkpoints" / "last.ckpt")),
            *("--config", str(training / "config.yaml"), "--split", plan.split),
            *("--boundary-width", str(plan.boundary_width)),
            *("--output", str(run.folder / name)),
            *(["--cost"] if name == COST else []),
        ],
        run.folder / "measuring.log",
        threads,
    )


def _call(arguments: Sequence[str], log: Path, threads: int | None) -> None:
    """Run a command of this package with its output in a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    limit = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(
            [sys.executable, "-m", "deformsample", *arguments],
            env={**os.environ, **limit},
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        raise DataError(
            f"`deformsample {arguments[0]}` failed: {' '.join(last)} (full output: {log}). "
            "Finished runs are kept: run the same command again."
        )
