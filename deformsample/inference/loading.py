"""Which device a model works on, and downsamplers that need no checkpoint."""

from __future__ import annotations

import torch

from deformsample.conventions import Size
from deformsample.errors import ArgumentError
from deformsample.samplers import DetailSampler, Sampler, UniformSampler
from deformsample.samplers.downsampler import Downsampler

UNTRAINED: dict[str, type[Sampler]] = {"detail": DetailSampler, "uniform": UniformSampler}
"""Samplers that take the place of a checkpoint: they have no weights."""

_DEFAULT_SHARE = 64


def usable_device(device: str | torch.device | None) -> torch.device:
    """The device of that name; ``None`` is the first GPU if there is one, else the CPU.

    Raises:
        ArgumentError: this machine has no such device.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise ArgumentError(f"Expected a device of this machine, but {device!r} is not available.")
    return torch.device(device)


def untrained(name: str, sampled_size: Size | int) -> Downsampler:
    """A downsampler of :data:`UNTRAINED`, for a size or at most so many samples."""
    return Downsampler(UNTRAINED[name](), sampled_size)


def default_budget(size: Size) -> int:
    """How many samples an image of a size gets by default: 1/8 per side."""
    return max(4, size[0] * size[1] // _DEFAULT_SHARE)
