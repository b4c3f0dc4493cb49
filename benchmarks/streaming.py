"""Memory and time of a training step, streamed and whole: ``python benchmarks/streaming.py``.

A network of ten convolutions down to 1/32 of each side, pooling and a classifier take one step on
an image of bytes, in a process of its own for each case. Printed are the highest memory of that
process, Python and its libraries included, and the seconds of one core. Whole images beyond the
limit of memory are not run: a line through the two largest that were says what they would take.

Gaps in the heap count as memory of the process. With ``MALLOC_MMAP_THRESHOLD_=1000000`` in the
environment, glibc gives freed memory back at once: far less memory, and more than twice the time.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, StrMethodFormatter
from torch import Tensor, nn

from deformsample.networks import Streamed
from deformsample.plotting import OKABE_ITO

WIDTHS = (8, 16, 32, 64, 128)
WHOLE = 0
"""Tile side of a step on the whole image."""


class Case(NamedTuple):
    """One measured or extrapolated step."""

    side: int
    tile: int
    libraries: float
    """MB before the image was created."""

    megabytes: float
    seconds: float
    loss: float | None
    """``None`` if extrapolated."""


def main() -> None:
    """Measure case by case, printing and writing the results so far."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sides", type=int, nargs="+", default=[1024, 2048, 4096, 8192])
    parser.add_argument("--tiles", type=int, nargs="+", default=[1024])
    parser.add_argument("--limit", type=float, default=12, help="GB that a process may take")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--case", type=int, nargs=2, metavar=("SIDE", "TILE"), help="0: whole")
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(*options.case)))
        return
    cases: list[Case] = []
    for tile in (WHOLE, *options.tiles):
        for side in options.sides:
            case = extrapolated(cases, side) if tile == WHOLE else None
            if case is None or case.megabytes < 1000 * options.limit:
                case = run(side, tile)
            cases.append(case)
            print(row(case), flush=True)
            write(cases, options.output)


def write(cases: Sequence[Case], folder: Path) -> None:
    """Write a Markdown table, a CSV file and a plot of the results so far."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "streaming.md").write_text(markdown(cases), encoding="utf-8")
    with (folder / "streaming.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([Case._fields, *cases])
    plot(cases).savefig(folder / "streaming.png", dpi=120)


def run(side: int, tile: int) -> Case:
    """Measure a case in a separate process."""
    command = [sys.executable, __file__, "--case", str(side), str(tile)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Case(*json.loads(done.stdout))


def measure(side: int, tile: int) -> Case:
    """Take a warm-up step on a small image, then measure one."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers = body()
    streamed = Streamed(layers, tile, prepare) if tile else None
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTHS[-1], 5))
    optimizer = torch.optim.SGD([*layers.parameters(), *head.parameters()], lr=1e-3, momentum=0.9)

    def step(image: Tensor) -> float:
        features = streamed(image) if streamed else layers(prepare(image))
        loss = nn.functional.cross_entropy(head(features), torch.tensor([2]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    step(torch.randint(256, (1, 3, 64, 64), dtype=torch.uint8))
    libraries = peak()
    image = torch.randint(256, (1, 3, side, side), dtype=torch.uint8)
    start = time.process_time()
    loss = step(image)
    seconds = time.process_time() - start
    return Case(side, tile, libraries, peak(), seconds, loss)


def peak() -> float:
    """The peak memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def body() -> nn.Sequential:
    """Two convolutions with frozen norms and a pooling per width."""
    layers: list[nn.Module] = []
    before = 3
    for width in WIDTHS:
        for channels in (before, width):
            layers.append(nn.Conv2d(channels, width, 3, padding=1, bias=False))
            layers += [nn.BatchNorm2d(width).eval(), nn.ReLU(inplace=True)]
        layers.append(nn.MaxPool2d(2))
        before = width
    return nn.Sequential(*layers)


def prepare(part: Tensor) -> Tensor:
    """Normalise uint8 to about [-1, 1]."""
    return part.float().div_(127.5).sub_(1)


def extrapolated(cases: Sequence[Case], side: int) -> Case | None:
    """Extrapolate a whole image from the two largest measured ones."""
    if len(cases) < 2:
        return None
    small, large = cases[-2:]
    share = (side**2 - small.side**2) / (large.side**2 - small.side**2)
    megabytes, seconds = (
        a + share * (b - a)
        for a, b in ((small.megabytes, large.megabytes), (small.seconds, large.seconds))
    )
    return Case(side, WHOLE, large.libraries, megabytes, seconds, None)


def name(tile: int) -> str:
    """The name of a case."""
    return f"streamed, tiles of {tile}" if tile else "whole"


def row(case: Case) -> str:
    """A line of the table."""
    mark = " (extrapolated)" if case.loss is None else ""
    loss = "" if case.loss is None else f"{case.loss:.6f}"
    return (
        f"| {case.side} x {case.side} | {name(case.tile)}{mark} | {case.megabytes:.0f} | "
        f"{case.seconds:.1f} | {loss} |"
    )


def markdown(cases: Sequence[Case]) -> str:
    """The table, by image."""
    fields = Streamed(body(), 10_000)
    lines = [
        f"A training step of ten convolutions (receptive field {fields.field[0]}, stride "
        f"{fields.stride[0]} pixels), batch 1, float32, one thread; PyTorch {torch.__version__}. "
        f"Of the memory, {cases[-1].libraries:.0f} MB are Python and its libraries.\n",
        "| image | by | memory (MB) | core seconds | loss |",
        "|---|---|---|---|---|",
        *(row(case) for case in sorted(cases)),
    ]
    return "\n".join(lines) + "\n"


def plot(cases: Sequence[Case]) -> Figure:
    """Memory and time against the side of the image."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, 2)
    for tile, colour in zip(dict.fromkeys(case.tile for case in cases), OKABE_ITO, strict=False):
        selected = [case for case in cases if case.tile == tile]
        for panel, key, scale in ((panels[0], "megabytes", 1000), (panels[1], "seconds", 1)):
            values = [getattr(case, key) / scale for case in selected]
            panel.plot(
                [case.side for case in selected], values, "-", color=colour, label=name(tile)
            )
            for case, value in zip(selected, values, strict=True):
                fill = "white" if case.loss is None else colour
                panel.plot(case.side, value, "o", color=colour, markerfacecolor=fill)
    for panel, label in zip(panels, ("memory (GB)", "core seconds"), strict=True):
        panel.set(xscale="log", yscale="log", xlabel="side of the image (pixels)", ylabel=label)
        sides = sorted({case.side for case in cases})
        panel.set_xticks(sides, [str(side) for side in sides])
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        panel.minorticks_off()
        panel.grid(visible=True, alpha=0.25)
    panels[0].axhline(cases[-1].libraries / 1000, color="grey", linestyle=":", label="libraries")
    panels[0].legend(fontsize="small", title="hollow: extrapolated", title_fontsize="small")
    return figure


if __name__ == "__main__":
    main()
