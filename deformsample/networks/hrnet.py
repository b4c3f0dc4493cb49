"""HRNet with the HRNetV2 segmentation head (Sun et al. 2019, "High-Resolution Representations")."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deformsample.errors import ArgumentError
from deformsample.networks.backbone import backbone
from deformsample.networks.head import upsampling_head

HRNetName = Literal[
    "hrnet_w18_small",
    "hrnet_w18_small_v2",
    "hrnet_w18",
    "hrnet_w30",
    "hrnet_w32",
    "hrnet_w40",
    "hrnet_w44",
    "hrnet_w48",
    "hrnet_w64",
]

_BRANCHES = 4  # resolutions from 1 to 1/8 of the finest branch


class HRNet(nn.Module):
    """timm's HRNet with its four branches concatenated at the finest resolution.

    The input is a small image, so the stride of the stem (4 in the original) is an option: 1 keeps
    every sample, 2 and 4 cost a fourth and a sixteenth.

    Args:
        num_classes: number of classes.
        name: name of the HRNet in timm.
        stem_stride: 1, 2 or 4.
        weights: ``None`` for random weights, ``"hub"`` for ImageNet weights (downloaded once by
            timm), ``"auto"`` for ImageNet weights or, with a warning, random ones if they cannot be
            downloaded, or the path of a file.
        logit_upsampling: factor s of the logits per side; above 1 only with a stem stride of 1.
    """

    def __init__(
        self,
        num_classes: int,
        name: HRNetName = "hrnet_w18_small",
        stem_stride: Literal[1, 2, 4] = 1,
        weights: str | None = None,
        logit_upsampling: int = 1,
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise ArgumentError(f"Expected `num_classes` of at least 2, but got {num_classes}.")
        if logit_upsampling > 1 and stem_stride > 1:
            raise ArgumentError(
                "Expected `logit_upsampling` above 1 with a `stem_stride` of 1 only, but got "
                f"{stem_stride}: the features are coarser than the samples."
            )
        self.trunk = backbone(
            name, weights, feature_location="", out_indices=tuple(range(1, _BRANCHES + 1))
        )
        self.trunk.conv1.stride = (2, 2) if stem_stride > 1 else (1, 1)
        self.trunk.conv2.stride = (2, 2) if stem_stride == 4 else (1, 1)
        self.logit_upsampling = logit_upsampling
        self.multiple = stem_stride * 2 ** (_BRANCHES - 1)
        channels = sum(self.trunk.feature_info.channels())
        self.head = nn.Sequential(
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            upsampling_head(channels, num_classes, logit_upsampling),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Normalised image (b, 3, h, w) of any size to logits (b, k, h', w').

        h' is (h - 1) s + 1 for the factor s of ``logit_upsampling``, w' likewise.
        """
        h, w = image.shape[2:]
        padded = _pad_to_multiple(image, self.multiple)
        branches = self.trunk(padded)
        size = branches[0].shape[2:]
        finest = [branches[0], *(_resize(branch, size) for branch in branches[1:])]
        logits: Tensor = self.head(torch.cat(finest, dim=1))
        if self.logit_upsampling > 1:
            return logits[
                ..., : (h - 1) * self.logit_upsampling + 1, : (w - 1) * self.logit_upsampling + 1
            ]
        return _resize(logits, padded.shape[2:])[..., :h, :w]


def _resize(values: Tensor, size: torch.Size) -> Tensor:
    if values.shape[2:] == size:
        return values
    return F.interpolate(values, size, mode="bilinear", align_corners=True)


def _pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Pad to a multiple by repeating the last row and column, for equal sizes of the branches."""
    h, w = image.shape[2:]
    return F.pad(image, (0, -w % multiple, 0, -h % multiple), mode="replicate")
