"""From the measurements of tilings to a CSV file, Markdown tables and a histogram."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from matplotlib.figure import Figure

from deformsample.evaluation.report import table
from deformsample.evaluation.tile_study import Outcome, Setting, compare
from deformsample.metrics.iou import iou_report
from deformsample.plotting import OKABE_ITO

MARGIN = 0.1
"""Differences in Dice above this are counted separately."""

_BINS = 25
_ALL = "foreground"


def write_outcomes(outcomes: Sequence[Outcome], file: Path) -> None:
    """One line for each image and setting."""
    names = ("dice", "iou", "right", "false_positive", "false_negative", "pixels", "seconds")
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["image", "tile", "overlap", *names])
        for o in outcomes:
            tile = "whole" if o.setting.tile is None else "{}x{}".format(*o.setting.tile)
            scores = (f"{o.dice:.6f}", f"{o.iou:.6f}", *o.counts, o.pixels, f"{o.seconds:.4f}")
            writer.writerow([o.image, tile, f"{o.setting.overlap:g}", *scores])


def tiling_tables(
    outcomes: Sequence[Outcome],
    reference: Setting,
    megabytes: Mapping[Setting, float],
    names: Sequence[str],
) -> str:
    """What each setting reaches and costs, and how it differs from the reference.

    Args:
        outcomes: of all images and settings.
        reference: what the others are compared with.
        megabytes: by setting.
        names: of all classes.
    """
    settings = list(dict.fromkeys(o.setting for o in outcomes))
    first = [["tiles", *_columns(outcomes, names)]]
    first += [[s.name, *_cells(outcomes, s, megabytes, names)] for s in settings]
    better = f"{reference.name} better"
    second = [
        [
            *("tiles", f"Dice of {reference.name} less theirs", f"{better} or equal"),
            *(f"{better} by > {MARGIN}", f"tiles better by > {MARGIN}"),
        ]
    ]
    for setting in settings:
        if setting != reference:
            c = compare(outcomes, reference, setting)
            shares = (c.share(0), c.share(MARGIN, above=True), c.share_below(-MARGIN))
            second.append([setting.name, f"{c.mean:+.4f}", *(f"{s:.0%}" for s in shares)])
    tables = [table(first), *([table(second)] if len(second) > 1 else [])]
    images = len({o.image for o in outcomes})
    return "\n\n".join(tables) + f"\n\n{images} images; Dice and IoU are means over them.\n"


def _columns(outcomes: Sequence[Outcome], names: Sequence[str]) -> list[str]:
    classes = [f"IoU, {name}, of all pixels" for name in _classes(outcomes[0], names)]
    shares = ["false positives", "false negatives"]
    return ["Dice", "IoU", *classes, *shares, "network's pixels", "seconds", "memory"]


def _classes(outcome: Outcome, names: Sequence[str]) -> list[str]:
    """The classes of the foreground, and all of them as one where they are several."""
    foreground = [names[i] for i in outcome.foreground]
    return [*foreground, _ALL] if len(foreground) > 1 else foreground


def _cells(
    outcomes: Sequence[Outcome],
    setting: Setting,
    megabytes: Mapping[Setting, float],
    names: Sequence[str],
) -> list[str]:
    selected = [o for o in outcomes if o.setting == setting]
    total = torch.stack([o.confusion for o in selected]).sum(dim=0)
    members = {_ALL: [names[i] for i in selected[0].foreground]}
    by_class = iou_report(total, names, members)
    pixels = int(total.sum())
    return [
        f"{fmean(o.dice for o in selected):.4f}",
        f"{fmean(o.iou for o in selected):.4f}",
        *(
            f"{float(by_class[n]):.3f}" if n in by_class else "-"
            for n in _classes(selected[0], names)
        ),
        *(f"{sum(o.counts[n] for o in selected) / pixels:.2%}" for n in (1, 2)),
        f"{fmean(o.pixels for o in selected) / 1e6:.2f} M",
        f"{fmean(o.seconds for o in selected):.2f}",
        f"{megabytes[setting]:.0f} MB" if setting in megabytes else "-",
    ]


def difference_histogram(outcomes: Sequence[Outcome], reference: Setting) -> Figure:
    """How many images lose how much Dice by each tiling; one panel each, on one scale."""
    settings = [s for s in dict.fromkeys(o.setting for o in outcomes) if s != reference]
    differences = [compare(outcomes, reference, s).differences for s in settings]
    reach = max(1.2 * MARGIN, *(abs(d) for values in differences for d in values))
    edges = np.linspace(-reach, reach, _BINS + 1)
    figure = Figure(figsize=(6.4, 1.2 + 1.5 * len(settings)), layout="constrained")
    axes = figure.subplots(len(settings), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for panel, setting, values in zip(axes, settings, differences, strict=True):
        panel.hist(values, bins=list(edges), color=OKABE_ITO[0])
        panel.axvline(0, color="black", linewidth=0.8)
        for side in (-MARGIN, MARGIN):
            panel.axvline(side, color="0.5", linewidth=0.8, linestyle="--")
        panel.axvline(fmean(values), color=OKABE_ITO[5], linewidth=1.5)
        panel.set_title(f"{setting.name}: mean {fmean(values):+.3f}", fontsize="medium")
        panel.set_ylabel("images")
        panel.yaxis.get_major_locator().set_params(integer=True)
    axes[-1].set_xlabel(f"Dice of {reference.name} less that of tiles")
    return figure
