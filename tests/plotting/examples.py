"""An image, its ground truth and a picture of it, to draw."""

from __future__ import annotations

import torch
from torch import Tensor

from deformsample.geometry import boundary_density, sampling_grid, warp
from deformsample.plotting import Picture

CLASSES = {"ground": (10, 20, 30), "thing": (200, 100, 0)}


def scene() -> tuple[Tensor, Tensor, Picture]:
    ground_truth = torch.zeros(60, 90, dtype=torch.uint8)
    ground_truth[20:30, 40:60] = 1
    ground_truth[:5] = 255
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, 60, 90), dtype=torch.uint8, generator=generator)
    density = boundary_density(ground_truth[None], (12, 18), blur=0.5, floor=0.1, ignore_index=255)
    grid = sampling_grid(density, (12, 18), 2.0)
    small = warp(image[None].float() / 255, grid)[0]
    picture = Picture("learned", grid[0], density[0, 0], small, shifted(ground_truth))
    return image, ground_truth, picture


def shifted(ground_truth: Tensor) -> Tensor:
    """A prediction that is wrong at the borders of the thing."""
    return ground_truth.roll(3, dims=1).where(ground_truth != 255, 0)
