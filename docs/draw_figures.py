"""Draws the figures of the concepts page into docs/figures: `python -m docs.draw_figures`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from deformsample.conventions import IGNORE_INDEX, Colour, Size
from deformsample.data import BlueMarble
from deformsample.geometry import (
    ErrorCurves,
    area_mean,
    best_density,
    boundary_density,
    expected_error,
    image_pyramid,
    to_pixels,
    transport_grid,
    unwarp_labels,
    warp_pyramid,
)
from deformsample.geometry.mesh import triangle_corners
from deformsample.plotting import OKABE_ITO, draw_density, draw_image, draw_labels, draw_mesh

FOLDER = Path(__file__).parent / "figures"
REGION = "block06_band0", slice(380, 620), slice(0, 384)  # Italy and Greece
SAMPLES = (30, 48)
MINIMA = (0.6, 0.3, 0.1)


class Scene(NamedTuple):
    """A region of Blue Marble."""

    image: Tensor
    """(3, H, W) uint8."""

    labels: Tensor
    """(H, W) class ids."""

    classes: Mapping[str, Colour]
    """Name and colour of every class."""

    @property
    def size(self) -> Size:
        """(H, W)."""
        return self.labels.shape[0], self.labels.shape[1]


def main() -> None:
    """Draw all figures."""
    draw(FOLDER)


def draw(folder: Path) -> None:
    """Write all figures to a folder."""
    data = BlueMarble()
    name, rows, columns = REGION
    sample = next(sample for sample in data.samples() if sample.name == name)
    image = torch.from_numpy(data.read_image(sample)[rows, columns].transpose(2, 0, 1).copy())
    labels = torch.from_numpy(data.read_labels(sample)[rows, columns].copy())
    scene = Scene(image, labels, data.classes)
    folder.mkdir(exist_ok=True)
    for file, figure in (
        ("transport.jpg", transport_figure(scene)),
        ("unwarp.jpg", unwarp_figure(scene)),
    ):
        figure.savefig(folder / file, dpi=110, pil_kwargs={"quality": 65})
    with rc_context({"svg.hashsalt": "deformsample"}):  # the same file in every run
        error_curve_figure().savefig(folder / "error_curves.svg", metadata={"Date": None})


def transport_figure(scene: Scene) -> Figure:
    """A boundary density, and its transport grids for several minimum densities."""
    density = _density(scene)
    figure = Figure(figsize=(9.2, 6.1), layout="constrained")
    first, *others = figure.subplots(2, 2).flat
    draw_density(first, density[0, 0], scene.size)
    first.set_title("density map (x mean)")
    for axes, minimum in zip(others, MINIMA, strict=True):
        grid = transport_grid(density, SAMPLES, minimum=minimum)
        draw_mesh(axes, scene.image, grid[0])
        axes.set_title(f"transport grid, minimum {minimum:g}")
    return figure


def unwarp_figure(scene: Scene) -> Figure:
    """From logits at the samples to the label of every pixel."""
    grid = transport_grid(_density(scene), SAMPLES)
    known = scene.labels.where(scene.labels != IGNORE_INDEX, 0)
    shares = F.one_hot(known.long(), len(scene.classes)).movedim(-1, 0)[None].float()
    logits = warp_pyramid(image_pyramid(shares), grid, lod_bias=0.0)
    small = logits[0].argmax(dim=0)
    restored = unwarp_labels(logits, grid, scene.size)[0]
    figure = Figure(figsize=(9.2, 6.1), layout="constrained")
    (image, classes), (mesh, labels) = figure.subplots(2, 2)
    draw_image(image, warp_pyramid(image_pyramid(scene.image[None]), grid, -1.0)[0] / 255)
    image.set_title("small image, {} x {}".format(*SAMPLES))
    draw_labels(classes, small, scene.classes)
    classes.set_title("classes of its logits")
    _draw_triangles(mesh, grid[0], small, scene)
    mesh.set_title("triangles in the image; white: corners differ")
    draw_labels(labels, restored, scene.classes)
    labels.contour(known, levels=[0.5], colors="black", linewidths=0.6)
    labels.set_title("unwarped, {} x {}; line: ground truth".format(*scene.size))
    return figure


def error_curve_figure() -> Figure:
    """Three error curves, and where the closed form puts their densities."""
    # Shares of the area by the trapezoid rule of the map: 3/8, 1/4 and 3/8.
    kinds = {"flat region": (0.15, 0.3), "boundary": (1.0, 0.6), "texture": (0.5, 0.05)}
    cells = ["flat region", "flat region", "boundary", "texture", "texture"]
    parameters = torch.tensor([kinds[name] for name in cells])
    level_map, elasticity_map = parameters.T.view(2, 1, 1, 1, 5).expand(-1, -1, -1, 2, -1)
    curves = ErrorCurves(level_map.log(), elasticity_map)
    best = best_density(curves, minimum=0.1, maximum=20.0)
    uniform = torch.ones_like(best)
    totals = [float(area_mean(expected_error(curves, rho))) for rho in (uniform, best)]
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    x = np.linspace(0.1, 4, 200)
    for (name, (level, elasticity)), colour in zip(kinds.items(), OKABE_ITO, strict=False):
        formula = rf"$e = {level:g}\,\rho^{{-{elasticity:g}}}$"
        axes.plot(x, level * x**-elasticity, color=colour, label=f"{name}, {formula}")
        density = float(best[0, 0, 0, cells.index(name)])
        error = level * density**-elasticity
        axes.plot(1, level, marker="o", color=colour, markerfacecolor="white", linestyle="none")
        axes.plot(density, error, marker="o", color=colour, linestyle="none")
        slope = -elasticity * error / density
        near = np.array([density - 0.35, density + 0.35])
        axes.plot(near, error + slope * (near - density), color="black", linewidth=0.8)
    axes.set_xlim(0, 4)
    axes.set_ylim(0, 1.6)
    axes.set_xlabel("sampling density, relative to uniform sampling")
    axes.set_ylabel("expected error of a cell")
    title = "mean error: uniform {:.2f}, allocated {:.2f}".format(*totals)
    axes.set_title(title, fontsize="medium")
    axes.legend(fontsize="small")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _density(scene: Scene) -> Tensor:
    return boundary_density(
        scene.labels[None], SAMPLES, blur=0.5, floor=0.03, ignore_index=IGNORE_INDEX
    )


def _draw_triangles(axes: Axes, grid: Tensor, classes: Tensor, scene: Scene) -> None:
    """The triangles of a mesh in the colour of their corners, or white where these differ."""
    corners = triangle_corners((grid.shape[0], grid.shape[1]), grid.device)
    height, width = scene.size
    points = to_pixels(grid, scene.size).flatten(0, 1)[corners]
    ids = classes.flatten()[corners]
    palette = np.array(list(scene.classes.values())) / 255
    colours = palette[ids[:, 0].numpy()]
    colours[(ids != ids[:, :1]).any(dim=1).numpy()] = 1.0
    triangles = PolyCollection(
        list(points.numpy()), facecolors=colours, edgecolors="0.4", linewidths=0.3
    )
    axes.add_collection(triangles)
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])


if __name__ == "__main__":
    main()
