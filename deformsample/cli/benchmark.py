"""``deformsample benchmark``: compare methods, budgets and seeds."""

from __future__ import annotations

import argparse
from pathlib import Path

from deformsample.errors import DataError
from deformsample.files.configs import find_config
from deformsample.files.writing import atomic_write


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--config", required=True, help="plan, such as benchmarks/hrf.yaml")
    parser.add_argument("--root", help="folder of the data")
    parser.add_argument("--output", type=Path, help="folder (default: runs/benchmark/PLAN)")
    parser.add_argument("--jobs", type=int, default=1, help="number of parallel runs (%(default)s)")
    parser.add_argument("--method", action="append", help="only this method; can be repeated")
    parser.add_argument("--budget", action="append", help="only this budget; can be repeated")
    parser.add_argument("--seeds", type=int, nargs="+", help="only these of the plan's seeds")
    parser.add_argument(
        "--option", action="append", default=[], help="for every run: --option=--data.cache=DIR"
    )
    parser.add_argument(
        "--report", action="store_true", help="only write the tables of finished runs"
    )


def run(options: argparse.Namespace) -> None:
    """Run a plan, and write its tables."""
    from deformsample.evaluation.plan import read_plan, runs
    from deformsample.evaluation.report import collect, curves, markdown, write_csv
    from deformsample.evaluation.runner import measure_costs, train_and_measure

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
            f"Expected finished runs in {output}, but found none: leave out `--report`."
        )
    write_csv(rows, output / "results.csv")
    table = markdown(plan, rows)
    with atomic_write(output / "results.md") as partial:
        partial.write_text(table, encoding="utf-8")
    with atomic_write(output / "curves.png") as partial:
        curves(plan, rows).savefig(partial, dpi=110)
    print(table)
    print(output / "results.md")
