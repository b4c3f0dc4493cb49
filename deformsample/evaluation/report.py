"""Benchmark results as a CSV file, Markdown tables and plots."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deformsample.conventions import STAGES
from deformsample.errors import DataError
from deformsample.evaluation.plan import Plan, Run
from deformsample.evaluation.runner import ACCURACY, COST
from deformsample.files.writing import atomic_write
from deformsample.plotting import OKABE_ITO

_MARKERS = "osD^vP*X<>"
_DECADE = 10
_COSTS = frozenset({"pixels", "gigamacs", "megabytes", "seconds"})


@dataclass(frozen=True)
class Row:
    """All runs of one method at one budget."""

    method: str
    budget: str
    seeds: Sequence[int]
    accuracy: Mapping[str, Sequence[float]]
    """Values by name, one per seed."""

    cost: Mapping[str, float]
    """Empty before it is measured."""

    def mean(self, name: str) -> float:
        """Mean over the seeds; NaN without a value."""
        return fmean(self.accuracy[name]) if name in self.accuracy else math.nan

    def deviation(self, name: str) -> float:
        """Sample standard deviation over the seeds; NaN for a single seed."""
        values = self.accuracy.get(name, ())
        return stdev(values) if len(values) > 1 else math.nan


def collect(plan: Plan, done: Iterable[Run]) -> list[Row]:
    """Read the measurements of all measured runs, by budget and method."""
    measured = [run for run in done if (run.folder / ACCURACY).is_file()]
    rows = []
    for budget in plan.budgets:
        for method in plan.methods:
            selected = [run for run in measured if (run.method, run.budget) == (method, budget)]
            if not selected:
                continue
            scores = [json.loads((run.folder / ACCURACY).read_text()) for run in selected]
            names = [name for name in scores[0] if all(name in score for score in scores)]
            costs = [run.folder / COST for run in selected if (run.folder / COST).is_file()]
            rows.append(
                Row(
                    method,
                    budget,
                    [run.seed for run in selected],
                    {name: [score[name] for score in scores] for name in names},
                    json.loads(costs[0].read_text()) if costs else {},
                )
            )
    return rows


def write_csv(rows: Sequence[Row], file: Path) -> None:
    """Write one line per run; costs are those of the first run of a method."""
    measured = list(dict.fromkeys(name for row in rows for name in row.accuracy))
    costs = list(dict.fromkeys(name for row in rows for name in row.cost))
    with atomic_write(file) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["method", "budget", "seed", *measured, *costs])
        for row in rows:
            for index, seed in enumerate(row.seeds):
                scores = [
                    f"{row.accuracy[name][index]:.5f}" if name in row.accuracy else ""
                    for name in measured
                ]
                writer.writerow(
                    [
                        *(row.method, row.budget, seed, *scores),
                        *(f"{row.cost[name]:.6g}" if name in row.cost else "" for name in costs),
                    ]
                )


def read_csv(file: Path) -> list[Row]:
    """Read a file of :func:`write_csv`.

    Raises:
        DataError: no such file, or a file without the columns of a benchmark.
    """
    if not file.is_file():
        raise DataError(f"Expected the results of a benchmark, but there is no file {file}.")
    with file.open(newline="", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    if not lines or not {"method", "budget", "seed", "miou"} <= set(lines[0]):
        raise DataError(
            f"Expected the columns method, budget, seed, miou ... and a line per run in "
            f"{file}, but got {list(lines[0]) if lines else 'no lines'}."
        )
    rows = []
    keys = dict.fromkeys((line["method"], line["budget"]) for line in lines)
    for method, budget in keys:
        selected = [line for line in lines if (line["method"], line["budget"]) == (method, budget)]
        values_of = {
            name: [float(line[name]) for line in selected]
            for name in list(selected[0])[3:]
            if all(line[name] for line in selected)
        }
        costs = {name for name in values_of if name in _COSTS or name.startswith("seconds/")}
        rows.append(
            Row(
                method,
                budget,
                [int(line["seed"]) for line in selected],
                {name: values for name, values in values_of.items() if name not in costs},
                {name: values[0] for name, values in values_of.items() if name in costs},
            )
        )
    return rows


def best_baseline(plan: Plan, rows: Sequence[Row], budget: str, name: str) -> float:
    """The highest mean of any baseline at a budget; NaN without one."""
    values = [
        row.mean(name) for row in rows if row.budget == budget and plan.methods[row.method].baseline
    ]
    return max(values, default=math.nan)


def markdown(plan: Plan, rows: Sequence[Row]) -> str:
    """Two tables per budget: accuracy and cost of the methods."""
    blocks = []
    for budget, (height, width) in plan.budgets.items():
        shown = [r for r in rows if r.budget == budget and plan.methods[r.method].shown]
        if shown:
            blocks.append(f"### {budget}: {height} x {width} samples")
            blocks.append(_accuracy_table(plan, rows, shown))
            if any(row.cost for row in shown):
                blocks.append(_cost_table(shown))
    return "\n\n".join(blocks) + "\n"


def _accuracy_table(plan: Plan, rows: Sequence[Row], shown: Sequence[Row]) -> str:
    columns = {
        **{f"iou/{name}": name for name in plan.classes},
        "miou": "mean IoU",
        "boundary_iou": "boundary IoU",
        "miou_warped": "warped mean IoU",
        "upper_bound": "oracle upper bound",
    }
    lines = [["method", *columns.values(), "runs"]]
    for row in shown:
        cells = [row.method]
        for key in columns:
            base = best_baseline(plan, rows, row.budget, key)
            is_class = key.startswith("iou/") and base > 0
            gain = f" ({row.mean(key) / base - 1:+.0%})" if is_class else ""
            cells.append(_value(row, key) + gain)
        lines.append([*cells, str(len(row.seeds))])
    return table(lines)


def _cost_table(shown: Sequence[Row]) -> str:
    names = ("decode", *STAGES)
    lines = [["method", "MACs", "memory", *(f"{n} (ms)" for n in names), "all but decode (ms)"]]
    for row in shown:
        if row.cost:
            memory = f"{row.cost['megabytes']:.0f} MB" if "megabytes" in row.cost else "-"
            lines.append(
                [
                    *(row.method, f"{row.cost['gigamacs']:.2f} G", memory),
                    *(f"{row.cost[f'seconds/{name}'] * 1e3:.1f}" for name in names),
                    f"{row.cost['seconds'] * 1e3:.0f}",
                ]
            )
    return table(lines)


def _value(row: Row, name: str) -> str:
    mean, deviation = row.mean(name), row.deviation(name)
    if math.isnan(mean):
        return "-"
    spread = "" if math.isnan(deviation) else f" ± {deviation:.3f}"
    return f"{mean:.3f}{spread}"


def table(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells as a Markdown table; the first line is the head."""
    head, *body = lines
    rows = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def curves(plan: Plan, rows: Sequence[Row]) -> Figure:
    """Accuracy against samples, and against seconds, with one pair of panels per class."""
    timed = any(row.cost for row in rows)
    figure = Figure(
        figsize=(4.6 * (1 + timed) + 2.2, 3.4 * len(plan.classes)), layout="constrained"
    )
    axes = figure.subplots(len(plan.classes), 1 + timed, squeeze=False)
    done = {row.method for row in rows}
    shown = [name for name, method in plan.methods.items() if method.shown and name in done]
    for name, panels in zip(plan.classes, axes, strict=True):
        for index, method in enumerate(shown):
            selected = [row for row in rows if row.method == method]
            _curve(panels[0], selected, f"iou/{name}", plan, index)
            if timed:
                _curve(panels[1], [row for row in selected if row.cost], f"iou/{name}", None, index)
        panels[0].set_ylabel(f"IoU, {name}")
        panels[0].set_xlabel("samples per image")
        if timed:
            panels[1].set_xlabel("seconds per image, without decoding")
        for panel in panels:
            low, high = panel.get_xlim()
            if low > 0 and high / low > _DECADE:
                panel.set_xscale("log")
            panel.grid(visible=True, which="both", alpha=0.25)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize="small")
    return figure


def _curve(axes: Axes, rows: Sequence[Row], key: str, plan: Plan | None, index: int) -> None:
    points = [row for row in rows if key in row.accuracy]
    if not points:
        return
    x = [math.prod(plan.budgets[r.budget]) if plan else r.cost["seconds"] for r in points]
    y = [row.mean(key) for row in points]
    spread = [0.0 if math.isnan(row.deviation(key)) else row.deviation(key) for row in points]
    axes.errorbar(
        x,
        y,
        yerr=spread,
        label=points[0].method,
        color=OKABE_ITO[index % len(OKABE_ITO)],
        marker=_MARKERS[index % len(_MARKERS)],
        linestyle="-" if index < len(OKABE_ITO) else "--",
        markersize=5,
        capsize=2,
        linewidth=1.2,
    )
