"""Benchmark results as a CSV file, Markdown tables and plots."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, ScalarFormatter

from deformsample.conventions import STAGES
from deformsample.errors import DataError
from deformsample.evaluation.plan import Plan, Run
from deformsample.evaluation.runner import ACCURACY, COST
from deformsample.files.writing import atomic_write
from deformsample.plotting import OKABE_ITO

_MARKERS = "osD^vP*X<>"
_NARROW = 4.0
"""Ratio of the ends of an axis below which its ticks are linear."""
_LETTER = 0.07
"""Inches of the legend per letter of a name."""

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


def equivalent_samples(plan: Plan, rows: Sequence[Row], row: Row) -> str:
    """The relative number of samples with which the baselines have the same mean IoU.

    Log-interpolated between the budgets; with ``<`` or ``>`` outside of them.
    """
    samples = _samples(plan, row)
    curve = _baseline_curve(plan, rows, lambda r: _samples(plan, r))
    if len(curve) < 2 or math.isnan(samples):
        return "-"
    counts, accuracies = zip(*curve, strict=True)
    value = row.mean("miou")
    sign = "<" if value < accuracies[0] else ">" if value > accuracies[-1] else ""
    count = math.exp(float(np.interp(value, accuracies, np.log(counts))))
    return f"{sign}{count / samples:.1f} N"


def _samples(plan: Plan, row: Row) -> float:
    """The input pixels of the network per image; NaN for tiles whose cost is not measured."""
    if plan.methods[row.method].is_sampled:
        return float(math.prod(plan.budgets[row.budget]))
    return row.cost.get("pixels", math.nan)


def accuracy_at_equal_time(plan: Plan, rows: Sequence[Row], row: Row) -> str:
    """The mean IoU of the baselines in the time of a row, log-interpolated between budgets."""
    curve = _baseline_curve(plan, [r for r in rows if r.cost], lambda r: r.cost["seconds"])
    if len(curve) < 2 or not curve[0][0] <= row.cost["seconds"] <= curve[-1][0]:
        return "-"
    seconds, accuracies = zip(*curve, strict=True)
    return f"{np.interp(math.log(row.cost['seconds']), np.log(seconds), accuracies):.3f}"


def _baseline_curve(
    plan: Plan, rows: Sequence[Row], amount: Callable[[Row], float]
) -> list[tuple[float, float]]:
    """Amounts and mean IoU of the baselines; the best with at most each amount, ascending."""
    points = sorted(
        (amount(row), row.mean("miou")) for row in rows if plan.methods[row.method].baseline
    )
    best = np.maximum.accumulate([accuracy for _, accuracy in points]).tolist()
    return list({x: y for (x, _), y in zip(points, best, strict=True)}.items())


def markdown(plan: Plan, rows: Sequence[Row]) -> str:
    """Two tables per budget: accuracy and cost of the methods."""
    blocks = []
    for budget, (height, width) in plan.budgets.items():
        shown = [r for r in rows if r.budget == budget and plan.methods[r.method].shown]
        if shown:
            is_sampled = any(plan.methods[row.method].is_sampled for row in shown)
            unit = "samples" if is_sampled else "pixels of a tile"
            blocks.append(f"### {budget}: {height} x {width} {unit}")
            blocks.append(_accuracy_table(plan, rows, shown))
            if any(row.cost for row in shown):
                blocks.append(_cost_table(plan, rows, shown))
    return "\n\n".join(blocks) + "\n"


def _accuracy_table(plan: Plan, rows: Sequence[Row], shown: Sequence[Row]) -> str:
    columns = {
        **{f"iou/{name}": name for name in plan.classes},
        "miou": "mean IoU",
        "boundary_iou": "boundary IoU",
        "miou_warped": "warped mean IoU",
        "upper_bound": "oracle upper bound",
    }
    lines = [["method", *columns.values(), "uniform samples for this mean IoU", "runs"]]
    for row in shown:
        cells = [row.method]
        for key in columns:
            base = best_baseline(plan, rows, row.budget, key)
            is_class = key.startswith("iou/") and base > 0
            gain = f" ({row.mean(key) / base - 1:+.0%})" if is_class else ""
            cells.append(_value(row, key) + gain)
        lines.append([*cells, equivalent_samples(plan, rows, row), str(len(row.seeds))])
    return table(lines)


def _cost_table(plan: Plan, rows: Sequence[Row], shown: Sequence[Row]) -> str:
    names = ("decode", *STAGES)
    last = ("all but decode (ms)", "mean IoU", "uniform mean IoU in this time")
    lines = [["method", "MACs", "memory", *(f"{n} (ms)" for n in names), *last]]
    for row in shown:
        if row.cost:
            memory = f"{row.cost['megabytes']:.0f} MB" if "megabytes" in row.cost else "-"
            lines.append(
                [
                    *(row.method, f"{row.cost['gigamacs']:.2f} G", memory),
                    *(f"{row.cost[f'seconds/{name}'] * 1e3:.1f}" for name in names),
                    f"{row.cost['seconds'] * 1e3:.0f}",
                    f"{row.mean('miou'):.3f}",
                    accuracy_at_equal_time(plan, rows, row),
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
    """Accuracy against samples, multiply-adds and seconds: a row per class, and for the means."""
    amounts: dict[str, Callable[[Row], float]] = {
        "samples per image": lambda row: _samples(plan, row)
    }
    if any(row.cost for row in rows):
        amounts["10^9 multiply-adds per image"] = lambda row: row.cost.get("gigamacs", math.nan)
        amounts["seconds per image, without decoding"] = lambda row: row.cost.get(
            "seconds", math.nan
        )
    accuracies = {f"iou/{name}": f"IoU, {name}" for name in plan.classes}
    accuracies |= {"miou": "mean IoU", "boundary_iou": "boundary IoU"}
    done = {row.method for row in rows}
    shown = [name for name, method in plan.methods.items() if method.shown and name in done]
    legend = 0.8 + _LETTER * max(map(len, shown), default=0)
    size = (4.4 * len(amounts) + legend, 3.2 * len(accuracies))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(accuracies), len(amounts), squeeze=False)
    for (key, title), panels in zip(accuracies.items(), axes, strict=True):
        panels[0].set_ylabel(title)
        for (label, amount), panel in zip(amounts.items(), panels, strict=True):
            for index, method in enumerate(shown):
                selected = [row for row in rows if row.method == method and key in row.accuracy]
                _curve(panel, [(amount(row), row) for row in selected], key, index)
            panel.set_xlabel(label)
            panel.set_xscale("log")
            low, high = panel.get_xlim()  # LogLocator labels narrow axes too densely
            narrow = high < _NARROW * low
            panel.xaxis.set_major_locator(
                MaxNLocator(4) if narrow else LogLocator(subs=(1.0, 2.0, 5.0))
            )
            panel.xaxis.set_major_formatter(ScalarFormatter())
            panel.xaxis.set_minor_formatter(NullFormatter())
            panel.grid(visible=True, which="both", alpha=0.25)
    handles, labels = axes[-2, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize="small")
    return figure


def _curve(axes: Axes, points: Sequence[tuple[float, Row]], key: str, index: int) -> None:
    known = [(x, row) for x, row in points if not math.isnan(x)]
    if not known:
        return
    deviations = [row.deviation(key) for _, row in known]
    axes.errorbar(
        [x for x, _ in known],
        [row.mean(key) for _, row in known],
        yerr=[0.0 if math.isnan(deviation) else deviation for deviation in deviations],
        label=known[0][1].method,
        color=OKABE_ITO[index % len(OKABE_ITO)],
        marker=_MARKERS[index % len(_MARKERS)],
        linestyle="-" if index < len(OKABE_ITO) else "--",
        markersize=5,
        capsize=2,
        linewidth=1.2,
    )
