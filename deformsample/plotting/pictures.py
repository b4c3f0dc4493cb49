"""The data of one image and one method to draw."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from deformsample.conventions import Size
from deformsample.geometry import unwarp
from deformsample.samplers.downsampler import Downsampled


@dataclass(frozen=True)
class Picture:
    """One image as sampled by one method, with its labels if the method segments."""

    title: str
    grid: Tensor
    """(h, w, 2)."""

    density: Tensor
    """(h', w'), sum 1."""

    small: Tensor
    """(3, h, w) in [0, 1]."""

    labels: Tensor | None = None
    """(H, W) uint8, full resolution."""

    @classmethod
    def of(cls, title: str, downsampled: Downsampled, labels: Tensor | None = None) -> Picture:
        """The picture of the first image of a batch.

        Args:
            title: name of the method.
            downsampled: the batch after downsampling.
            labels: (b, H, W) predicted class ids.
        """
        return cls(
            title,
            downsampled.grid[0],
            downsampled.density[0, 0],
            downsampled.image[0],
            None if labels is None else labels[0],
        )

    def restored(self, size: Size) -> Tensor:
        """The small image unwarped to (H, W): (3, H, W) in [0, 1]."""
        return unwarp(self.small[None], self.grid[None], size)[0].clamp(0, 1)
