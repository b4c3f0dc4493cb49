"""``deformsample measure`` and ``deformsample benchmark``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from deformsample.data import SegmentationSplit
from deformsample.data.from_config import build_data, class_groups, read_config
from deformsample.errors import DataError
from deformsample.evaluation.accuracy import accuracy
from deformsample.evaluation.cost import cost
from deformsample.evaluation.plan import read_plan, runs
from deformsample.evaluation.report import collect, curves, markdown, write_csv
from deformsample.evaluation.runner import measure_costs, train_and_measure
from deformsample.files.configs import find_config
from deformsample.files.writing import atomic_write
from deformsample.inference.loading import load
from deformsample.inference.model import SegmentationModel


def add_measure(commands: Any) -> argparse.ArgumentParser:
    """Options of ``deformsample measure``."""
    command: argparse.ArgumentParser = commands.add_parser(
        "measure", help="accuracy, oracle upper bound and cost of a checkpoint, as JSON"
    )
    command.add_argument("checkpoint", metavar="CKPT", help="last.ckpt or best.ckpt of a run")
    command.add_argument("--config", required=True, help="config with a data set, or of the run")
    command.add_argument("--root", help="folder of the data")
    command.add_argument("--split", default="val", choices=("train", "val", "test"))
    command.add_argument(
        "--boundary-width", type=int, default=4, help="of the boundary IoU, in pixels (%(default)s)"
    )
    command.add_argument("--cost", action="store_true", help="time and memory only, of one image")
    command.add_argument("--output", type=Path, metavar="JSON", help="file to write to")
    command.set_defaults(run=_measure)
    return command


def _measure(options: argparse.Namespace) -> None:
    model = load(options.checkpoint, options.device, options.trust, kind=SegmentationModel)
    content = read_config(options.config)
    data = build_data(content, options.root, options.config)
    part = SegmentationSplit(data.dataset, data.splits[options.split], (), data.cache)
    if options.cost:
        result = cost(model.segmenter, part)
    else:
        groups = class_groups(content)
        result = accuracy(model.segmenter, part, groups, options.boundary_width)
    text = json.dumps(result, indent=1)
    if options.output is None:
        print(text)
        return
    with atomic_write(options.output) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def add_benchmark(commands: Any) -> argparse.ArgumentParser:
    """Options of ``deformsample benchmark``."""
    command: argparse.ArgumentParser = commands.add_parser(
        "benchmark", help="train and measure methods, budgets and seeds; go on where it stopped"
    )
    command.add_argument("--config", required=True, help="plan, such as benchmarks/hrf.yaml")
    command.add_argument("--root", help="folder of the data")
    command.add_argument("--output", type=Path, help="folder (default: runs/benchmark/PLAN)")
    command.add_argument("--jobs", type=int, default=1, help="runs at a time (%(default)s)")
    command.add_argument("--method", action="append", help="only this method; can be repeated")
    command.add_argument("--budget", action="append", help="only this budget; can be repeated")
    command.add_argument("--seeds", type=int, nargs="+", help="only these of the plan's seeds")
    command.add_argument(
        "--option", action="append", default=[], help="for every run, as --option=--data.cache=DIR"
    )
    command.add_argument("--report", action="store_true", help="only write tables of what is done")
    command.set_defaults(run=_benchmark)
    return command


def _benchmark(options: argparse.Namespace) -> None:
    file = find_config(options.config)
    plan = read_plan(file)
    output = options.output or Path("runs") / "benchmark" / file.stem
    every = list(runs(plan, output))
    if not options.report:
        todo = [
            run
            for run in every
            if (options.method is None or run.method in options.method)
            and (options.budget is None or run.budget in options.budget)
            and (options.seeds is None or run.seed in options.seeds)
        ]
        needed = {run.after.folder for run in todo if run.after is not None}
        todo += [run for run in every if run.folder in needed and run not in todo]
        common = [*options.option, *([f"--data.root={options.root}"] if options.root else [])]
        train_and_measure(plan, todo, common, jobs=options.jobs, report=print)
        measure_costs(plan, todo, report=print)
    rows = collect(plan, every)
    if not rows:
        raise DataError(
            f"Expected runs that are done in {output}, but there is none yet: leave out `--report`."
        )
    write_csv(rows, output / "results.csv")
    table = markdown(plan, rows)
    with atomic_write(output / "results.md") as partial:
        partial.write_text(table, encoding="utf-8")
    with atomic_write(output / "curves.png") as partial:
        curves(plan, rows).savefig(partial, dpi=110)
    print(table)
    print(output / "results.md")
