"""Transport map compared with the inverse of the grid's mesh: ``python -m benchmarks.transport_map``.

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
    resize_grid,
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
    labels: Tensor | None


class Transported(NamedTuple):
    """A transport grid, and the steps that lead to it."""

    mapped: Tensor
    """(b, h, w, 2), the normalised points of the small image of the vertices of the map."""

    grid: Tensor
    """(b, gh, gw, 2)."""

    first_limit: float
    second_limit: float
    """The scale of the displacements, 1 where no limit acts."""


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
        _scale(free, mapped),
        _scale(inverse, grid),
    )


def _scale(before: Tensor, after: Tensor) -> float:
    uniform = transport._vertices(before)
    shift = (before - uniform).flatten()
    return float((shift @ (after - uniform).flatten()) / (shift @ shift).clamp_min(1e-12))


def cases() -> Iterator[Case]:
    for size, image_size in (((64, 128), (512, 1024)), ((60, 81), (966, 1296))):
        for finer in (1, 2):
            cells = tuple((n - 1) * finer + 1 for n in size)
            for contrast in (0.75, 1.5):
                for seed in range(3):
                    density = smooth(1, cells, seed, torch.device("cpu")).mul(contrast).exp()
                    logits = smooth(19, size, 100 + seed, torch.device("cpu"))
                    name = f"smooth, deviation {contrast}, {size[0]} x {size[1]}"
                    yield Case(f"{name}, map {finer}x", density, size, image_size, logits, None)
    data = BlueMarble()
    model = deformsample.load("blue-marble", kind=deformsample.SegmentationModel)
    tiles = [sample for sample in data.samples() if sample.split in ("val", "test")]
    for sample in tiles:
        labels = torch.from_numpy(data.read_labels(sample).copy())[None]
        image = torch.from_numpy(data.read_image(sample).transpose(2, 0, 1).copy())[None]
        image_size = (image.shape[2], image.shape[3])
        for size in ((41, 24), (82, 48)):
            for finer in (1, 2):
                cells = tuple((n - 1) * finer + 1 for n in size)
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
    steps = transported(case.density, case.size)
    rows, columns = (axis(n, steps.grid) for n in case.image_size)
    mesh = inverse_coordinates(steps.grid, rows, columns)
    pixels = identity_grid(case.image_size, steps.grid)
    linear = interpolate_mesh(steps.mapped.movedim(-1, 1), pixels).movedim(1, -1)
    bilinear = F.grid_sample(steps.mapped.movedim(-1, 1), pixels, align_corners=True).movedim(1, -1)
    result = {"first": steps.first_limit, "second": steps.second_limit}
    logits = case.logits
    if logits is None:
        assert case.labels is not None
        ids = warp_labels(case.labels, steps.grid).long().clamp_max(1)
        logits = F.one_hot(ids).movedim(-1, 1).float()
    exact = interpolate_mesh(logits, mesh).argmax(1)
    for name, points in (("linear", linear), ("bilinear", bilinear)):
        apart = (to_pixels(points, case.size) - to_pixels(mesh, case.size)).norm(dim=-1).flatten()
        result[f"{name} max"] = float(apart.max())
        result[f"{name} 99.9"] = float(apart.kthvalue(math.ceil(0.999 * len(apart))).values)
        result[f"{name} mean"] = float(apart.mean())
        result[f"{name} over"] = float((apart > 0.05).float().mean())
        labels = interpolate_mesh(logits, points).argmax(1)
        result[f"{name} labels"] = float((labels != exact).float().mean())
        if case.labels is not None:
            known = case.labels != 255
            result[f"{name} gain"] = float(
                (labels == case.labels)[known].float().mean()
                - (exact == case.labels)[known].float().mean()
            )
    return result


def main() -> None:
    groups: dict[str, list[dict[str, float]]] = {}
    for case in cases():
        groups.setdefault(case.name, []).append(measured(case))
    for name, results in groups.items():
        print(name, len(results))
        print(
            "   second limit acts:",
            sum(r["second"] < 1 - 1e-6 for r in results),
            "least scale",
            round(min(r["second"] for r in results), 4),
            "| first:",
            sum(r["first"] < 1 - 1e-6 for r in results),
            round(min(r["first"] for r in results), 4),
        )
        for kind in ("linear", "bilinear"):
            print(
                f"   {kind}: max {max(r[f'{kind} max'] for r in results):.3f} (median of max {median(r[f'{kind} max'] for r in results):.3f}), 99.9 {max(r[f'{kind} 99.9'] for r in results):.3f} (median {median(r[f'{kind} 99.9'] for r in results):.3f}) mean {median(r[f'{kind} mean'] for r in results):.4f} over .05 {median(r[f'{kind} over'] for r in results):.4f} labels {median(r[f'{kind} labels'] for r in results):.5f} max {max(r[f'{kind} labels'] for r in results):.5f} gain {sum(r.get(f'{kind} gain', 0) for r in results) / len(results):.6f}",
                flush=True,
            )


if __name__ == "__main__":
    with torch.no_grad():
        main()
