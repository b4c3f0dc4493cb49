"""Images as networks want them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Normalising(nn.Module):
    """Knows the mean and the deviation of the colours that pretrained networks saw."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def _normalised(self, image: Tensor) -> Tensor:
        # Convolutions are faster with the channels of a pixel side by side.
        return ((image - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
