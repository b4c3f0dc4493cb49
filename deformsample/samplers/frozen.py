"""A pretrained, frozen sampler."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor
from typing_extensions import override

from deformsample.checkpoints.archive import different_weights, read_checkpoint, weights_of
from deformsample.conventions import Size
from deformsample.errors import CheckpointError
from deformsample.samplers.sampler import Placement, Sampler

_PREFIX = "segmenter.downsampler.sampler."


class FrozenSampler(Sampler):
    """A sampler from the checkpoint of an earlier run, with frozen weights.

    Args:
        sampler: sampler with the configuration of that run.
        weights: checkpoint of that run; ``None`` if another checkpoint provides the weights.
    """

    def __init__(self, sampler: Sampler, weights: str | None) -> None:
        super().__init__()
        self.sampler = sampler
        self.display_name = sampler.display_name
        if weights is not None:
            _load(sampler, Path(weights).expanduser())
        sampler.requires_grad_(requires_grad=False)

    @override
    def forward(self, thumbnail: Tensor, size: Size, labels: Tensor | None = None) -> Placement:
        placement: Placement = self.sampler(thumbnail, size, labels)
        return placement

    @override
    def regrid(self, density: Tensor, size: Size) -> Tensor:
        return self.sampler.regrid(density, size)

    def train(self, mode: bool = True) -> FrozenSampler:  # noqa: FBT001, FBT002 - signature of torch
        """Keep the sampler in eval mode, so that batch statistics are frozen too."""
        super().train(mode)
        self.sampler.eval()
        return self


def _load(sampler: Sampler, path: Path) -> None:
    weights = weights_of(read_checkpoint(path), _PREFIX)
    if different := different_weights(weights, sampler.state_dict()):
        raise CheckpointError(
            f"Expected weights of the configured sampler in {path}, but {len(different)} differ "
            f"({different[0]}, ...): configure the sampler as in that run."
        )
    sampler.load_state_dict(weights)
