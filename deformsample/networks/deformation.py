"""The deformation module: from a thumbnail to the logits of the density map."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from deformsample.errors import ArgumentError


class DeformationNet(nn.Module):
    """Three 3 x 3 convolutions and a 1 x 1 convolution, at the resolution of the thumbnail.

    Widths of (192, 192, 24) give the module of Jin et al. 2022 (379,273 parameters). The default is
    small compared with a segmentation network.

    Args:
        widths: channels after each 3 x 3 convolution.

    Example:
        >>> import torch
        >>> DeformationNet()(torch.rand(1, 3, 32, 48)).shape
        torch.Size([1, 1, 32, 48])
    """

    def __init__(self, widths: Sequence[int] = (24, 24, 24)) -> None:
        super().__init__()
        if not widths or min(widths) < 1:
            raise ArgumentError(
                f"Expected `widths` to be positive channel counts, but got {list(widths)}."
            )
        layers: list[nn.Module] = []
        for index, (before, after) in enumerate(zip([3, *widths], widths, strict=False), start=1):
            activation = nn.ReLU(inplace=True) if index == len(widths) else nn.ReLU6(inplace=True)
            layers += [
                nn.Conv2d(before, after, 3, padding=1, padding_mode="replicate", bias=False),
                nn.BatchNorm2d(after),
                activation,
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 1))

    def forward(self, thumbnail: Tensor) -> Tensor:
        """Normalised thumbnail (b, 3, h, w) to density logits (b, 1, h, w)."""
        logits: Tensor = self.layers(thumbnail)
        return logits
