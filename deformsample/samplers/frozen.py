"""A sampler that was trained before."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor
from typing_extensions import override

from deformsample.checkpoints.archive import read_checkpoint, weights_of
from deformsample.conventions import Size
from deformsample.errors import CheckpointError
from deformsample.samplers.sampler import Placement, Sampler

_PREFIX = "segmenter.downsampler.sampler."


class FrozenSampler(Sampler):
    """Takes a sampler from the checkpoint of an earlier run, and leaves it as it is.

    Args:
        sampler: built as it was in that run.
        weights: that run's checkpoint; ``None`` leaves the sampler's weights as they are, for a
            checkpoint that brings its own.
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

    def train(self, mode: bool = True) -> FrozenSampler:  # noqa: FBT001, FBT002 - torch's own
        """Stay in eval mode: batch statistics are frozen too."""
        super().train(mode)
        self.sampler.eval()
        return self


def _load(sampler: Sampler, path: Path) -> None:
    weights = weights_of(read_checkpoint(path), _PREFIX)
    own = sampler.state_dict()
    different = sorted(
        name
        for name in weights.keys() | own.keys()
        if name not in weights or name not in own or weights[name].shape != own[name].shape
    )
    if different:
        raise CheckpointError(
            f"Expected weights of the configured sampler in {path}, but {len(different)} differ "
            f"({different[0]}, ...): configure it as in the run that wrote them."
        )
    sampler.load_state_dict(weights)
