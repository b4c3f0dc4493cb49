"""A figure of the predicted error for other numbers of samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from deformsample.plotting.figures import OKABE_ITO


class MeasuredPoint(NamedTuple):
    """The measured error of a trained model."""

    title: str
    samples: int
    error: float
    """Relative to uniform sampling, like the predictions."""


def budget_figure(
    curve: Mapping[str, Sequence[float]], samples: int, points: Sequence[MeasuredPoint]
) -> Figure:
    """Prediction error against the number of samples, with measured points.

    Args:
        curve: ``budgets``, ``uniform`` and ``sampled`` of a model card.
        samples: number of samples in training.
        points: measured errors, drawn beside the predicted curves.
    """
    figure = Figure(figsize=(5.6, 3.8), layout="constrained")
    axes = figure.subplots()
    x = np.asarray(curve["budgets"]) * samples
    for name, title, colour in (
        ("uniform", "uniform, predicted", OKABE_ITO[1]),
        ("sampled", "learned, predicted", OKABE_ITO[0]),
    ):
        axes.plot(x, curve[name], color=colour, label=title, linewidth=1.5)
    for title in dict.fromkeys(point.title for point in points):
        selected = [point for point in points if point.title == title]
        axes.plot(
            [point.samples for point in selected],
            [point.error for point in selected],
            color=OKABE_ITO[1] if title == "uniform" else OKABE_ITO[0],
            marker="s" if title == "uniform" else "o",
            linestyle="none",
            label=f"{title}, measured",
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks(x, [f"{n:,.0f}" for n in x])
    axes.set_xlabel("samples of an image")
    axes.set_ylabel(f"error, relative to uniform\nsampling with {samples:,} samples")
    axes.axvline(samples, color="0.7", linewidth=0.8, linestyle=":")
    axes.grid(visible=True, alpha=0.25)
    axes.legend(fontsize="small")
    return figure
