"""Transport map and the inverse of the mesh: ``python -m benchmarks.transport_map``.

The potential of a transport grid gives a map y(p) from the image to the small image on the vertices
of the density map. The sampling grid is its inverse at the samples, with limited displacements.
This prints how far y, interpolated at the pixels, is from the exact inverse of the mesh of the
samples, in sample distances, and the share of pixels whose label differs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

import deformsample
from benchmarks.speed import smooth
from deformsample.conventions import Size
from deformsample.data import BlueMarble
from deformsample.geometry import (
    boundary_density,
    from_pixels,
    identity_grid,
    interpolate_mesh,
    inverse_coordinates,
    to_pixels,
    transport,
    warp_labels,
)
from deformsample.geometry.coordinates import axis

MINIMUM = 0.1


class Case(NamedTuple):
    """A density, and logits at the samples of its grid."""

    name: str
    density: Tensor
    size: Size
    image_size: Size
    logits: Tensor | None
    labels: Tensor
    """(1, H, W), warped to the samples where there are no logits."""


class Transported(NamedTuple):
    """A transport grid, and the steps that lead to it."""

    mapped: Tensor
    """(b, h, w, 2), the normalised points of the small image of the vertices of the map."""

    grid: Tensor
    """(b, gh, gw, 2)."""

    second_limit: float
    """The scale of the displacements of the grid; 1 where no limit acts."""


def transported(density: Tensor, size: Size) -> Transported:
    """The steps of :func:`deformsample.geometry.transport_grid`."""
    exact = transport.with_minimum(transport.relative_density(density[:, 0]), MINIMUM)
    free = transport._mapped(transport._potential(exact, 8))
    mapped = transport._limited(free, transport._LEAST_OF_MINIMUM * MINIMUM, math.inf)
    inverse = transport._inverted(mapped, size)
    grid = transport._limited(inverse, transport._LEAST_AREA, 1 / MINIMUM)
    cells = (mapped.shape[1], mapped.shape[2])
    return Transported(
        from_pixels(mapped, cells),
        from_pixels(grid, size),
        _scale(inverse, grid),
    )


def _scale(before: Tensor, after: Tensor) -> float:
    uniform = transport._vertices(before)
    shift = (before - uniform).flatten()
    return float((shift @ (after - uniform).flatten()) / (shift @ shift).clamp_min(1e-12))


def cases() -> Iterator[Case]:
    """Random smooth densities, boundary densities of labels, and densities of a shipped model."""
    for size, image_size in (((64, 128), (512, 1024)), ((60, 81), (966, 1296))):
        for finer in (1, 2):
            cells = ((size[0] - 1) * finer + 1, (size[1] - 1) * finer + 1)
            for contrast in (0.75, 1.5):
                for seed in range(3):
                    density = smooth(1, cells, seed, torch.device("cpu")).mul(contrast).exp()
                    logits = smooth(19, size, 100 + seed, torch.device("cpu"))
                    name = f"smooth, deviation {contrast}, {size[0]} x {size[1]}"
                    none = torch.zeros(0)
                    yield Case(f"{name}, map {finer}x", density, size, image_size, logits, none)
    data = BlueMarble()
    model = deformsample.load("blue-marble", kind=deformsample.SegmentationModel)
    tiles = [sample for sample in data.samples() if sample.split in ("val", "test")]
    for sample in tiles:
        labels = torch.from_numpy(data.read_labels(sample).copy())[None]
        image = torch.from_numpy(data.read_image(sample).transpose(2, 0, 1).copy())[None]
        image_size = (image.shape[2], image.shape[3])
        for size in ((41, 24), (82, 48)):
            for finer in (1, 2):
                cells = ((size[0] - 1) * finer + 1, (size[1] - 1) * finer + 1)
                density = boundary_density(labels, cells, blur=0.5, floor=0.03, ignore_index=255)
                name = f"boundary density, {size[0]} x {size[1]}, map {finer}x"
                yield Case(name, density, size, image_size, None, labels)
                model.downsampler.sampled_size = size
                model.downsampler.thumbnail_scale = float(finer)
                with torch.no_grad():
                    prediction = model.segmenter(image)
                density = prediction.sampled.density
                name = f"blue-marble, {size[0]} x {size[1]}, map {finer}x"
                yield Case(name, density, size, image_size, prediction.logits, labels)


def measured(case: Case) -> dict[str, float]:
    """Distances in sample distances, and the share of pixels whose label differs."""
    steps = transported(case.density, case.size)
    rows, columns = (axis(n, steps.grid) for n in case.image_size)
    exact = inverse_coordinates(steps.grid, rows, columns)
    pixels = identity_grid(case.image_size, steps.grid)
    mapped = interpolate_mesh(steps.mapped.movedim(-1, 1), pixels).movedim(1, -1)
    apart = (to_pixels(mapped, case.size) - to_pixels(exact, case.size)).norm(dim=-1).flatten()
    logits = case.logits
    if logits is None:
        ids = warp_labels(case.labels, steps.grid).long().clamp_max(1)
        logits = F.one_hot(ids, 2).movedim(-1, 1).float()
    labels = (interpolate_mesh(logits, points).argmax(dim=1) for points in (mapped, exact))
    return {
        "scale": steps.second_limit,
        "max": float(apart.max()),
        "quantile": float(apart.kthvalue(math.ceil(0.999 * len(apart))).values),
        "above": float((apart > 0.05).float().mean()),
        "labels": float(next(labels).ne(next(labels)).float().mean()),
    }


def main() -> None:
    """Measure all cases, and print a row for each kind of density."""
    groups: dict[str, list[dict[str, float]]] = {}
    for case in cases():
        groups.setdefault(case.name, []).append(measured(case))
    print("| density | second limit acts | least scale | max | 99.9 % | above 0.05 | labels |")
    print("|---|---|---|---|---|---|---|")
    for name, results in groups.items():
        acts = sum(r["scale"] < 1 - 1e-6 for r in results)
        least = min(r["scale"] for r in results)
        print(
            f"| {name} | {acts} of {len(results)} | {least:.3f} | {_range(results, 'max', '.2f')} "
            f"| {_range(results, 'quantile', '.2f')} | {_range(results, 'above', '.1%')} "
            f"| {_range(results, 'labels', '.2%')} |"
        )


def _range(results: list[dict[str, float]], key: str, form: str) -> str:
    """Median and largest value of a measure."""
    values = [result[key] for result in results]
    return f"{median(values):{form}} ({max(values):{form}})"


if __name__ == "__main__":
    with torch.no_grad():
        main()
