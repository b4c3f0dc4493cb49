"""Oracle upper bounds of grids: ``python benchmarks/upper_bounds.py --root HRF``.

Gives every sample its true class, puts the classes back into the full image, and prints the IoU of
every class: what no network can exceed that answers once for each sample. The second half of the
columns is for answers twice as dense, between the samples too. All grids but the uniform one are
placed by the true boundaries.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from deformsample.conventions import IGNORE_INDEX, Size
from deformsample.data.from_config import build_data, class_groups, read_config
from deformsample.geometry import (
    boundary_density,
    identity_grid,
    local_stretch,
    resize_grid,
    sampling_grid,
    transport_grid,
    unwarp_labels,
    warp_labels,
)
from deformsample.metrics.iou import confusion, iou_report
from deformsample.samplers import EdgeOptimalOracle

GridOf = Callable[[Tensor], Tensor]
"""Labels (1, H, W) to a grid (1, h, w, 2)."""


def main() -> None:
    """Print a Markdown table, one line per grid."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--config", default="hrf.yaml")
    parser.add_argument("--root")
    parser.add_argument("--size", type=int, nargs=2, default=(146, 219), metavar=("H", "W"))
    parser.add_argument("--images", type=int, default=3, help="of the validation split")
    options = parser.parse_args()
    content = read_config(options.config)
    data = build_data(content, options.root, options.config)
    groups = class_groups(content)
    names = [*data.classes, *groups]
    chosen = data.splits["val"][: options.images]
    images = [torch.from_numpy(data.dataset.read_labels(s).copy())[None] for s in chosen]
    print("| grid |", " | ".join([*names, *(f"{name}, twice as dense" for name in names)]), "|")
    print("|---" * (1 + 2 * len(names)), "|", sep="")
    for title, grid_of in grids(tuple(options.size)).items():
        counts = torch.zeros(2, len(data.classes), len(data.classes), dtype=torch.long)
        for labels in images:
            grid = grid_of(labels)
            dense = resize_grid(grid, (2 * grid.shape[1] - 1, 2 * grid.shape[2] - 1))
            for count, used in zip(counts, (grid, dense), strict=True):
                count += confusion(best_labels(labels, used, len(data.classes)), labels, len(count))
        scores = [iou_report(count, list(data.classes), groups) for count in counts]
        print(f"| {title} |", *(f"{float(s[name]):.3f} |" for s in scores for name in names))


def grids(size: Size) -> dict[str, GridOf]:
    """The grids to compare, by name."""
    by_name: dict[str, GridOf] = {"uniform": lambda labels: identity_grid(size, labels.float())}
    for floor in (0.03, 0.1, 0.3):
        for sigmas in ((2.0,), (1.5,), (8.0, 2.0), (2.0, 2.0), (1.5, 1.5)):
            title = f"sigma {', then '.join(f'{s:g}' for s in sigmas)}, floor {floor:g}"
            by_name[title] = partial(by_density, size=size, sigmas=sigmas, floor=floor)
    for minimum in (0.05, 0.1, 0.2, 0.3):
        by_name[f"transport, minimum {minimum:g}"] = partial(
            by_transport, size=size, minimum=minimum
        )
    for coarse, smoothness in (((8, 8), 1.0), ((32, 48), 0.1), ((64, 96), 0.1), (size, 0.1)):
        title = "edge-optimal at {} x {}".format(*coarse) + f", lambda {smoothness:g}"
        by_name[title] = partial(by_edges, size=size, coarse=coarse, smoothness=smoothness)
    return by_name


def by_density(labels: Tensor, size: Size, sigmas: Sequence[float], floor: float) -> Tensor:
    """Gaussian grids of the boundary density; a second kernel works in the warped image."""
    density = boundary_density(labels, size, blur=0.5, floor=floor, ignore_index=IGNORE_INDEX)
    grid = identity_grid(size, density)
    image_size = (labels.shape[1], labels.shape[2])
    for sigma in sigmas:
        area = local_stretch(grid, image_size).square().unsqueeze(1)
        warped = F.grid_sample(density, grid, align_corners=True, padding_mode="border") * area
        step = sampling_grid(warped, size, sigma)
        channels = F.grid_sample(
            grid.movedim(-1, 1), step, align_corners=True, padding_mode="border"
        )
        grid = channels.movedim(1, -1)
    return grid


def by_transport(labels: Tensor, size: Size, minimum: float) -> Tensor:
    """Transport grids of the boundary density."""
    density = boundary_density(labels, size, blur=0.5, floor=0.03, ignore_index=IGNORE_INDEX)
    return transport_grid(density, size, minimum=minimum)


def by_edges(labels: Tensor, size: Size, coarse: Size, smoothness: float) -> Tensor:
    """The grid of Marin et al. 2019."""
    return EdgeOptimalOracle(coarse, smoothness).from_labels(labels, size, size).grid


def best_labels(labels: Tensor, grid: Tensor, classes: int) -> Tensor:
    """Full-size labels from the true classes of the samples."""
    small = warp_labels(labels, grid).long()
    known = F.one_hot(small.clamp_max(classes), classes + 1)[..., :classes]  # 0 for ignored pixels
    size = (labels.shape[1], labels.shape[2])
    return unwarp_labels(known.movedim(-1, 1).float(), grid, size)


if __name__ == "__main__":
    main()
