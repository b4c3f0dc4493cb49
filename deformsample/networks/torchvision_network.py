"""Segmentation networks of torchvision."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from deformsample.errors import ArgumentError


class TorchvisionNetwork(nn.Module):
    """A segmentation network of torchvision, such as DeepLabV3 or LR-ASPP.

    Args:
        name: name in torchvision, such as ``lraspp_mobilenet_v3_large``.
        num_classes: number of classes.
        weights: ``"hub"`` for a pretrained backbone (downloaded once by torchvision), or ``None``
            for random weights.

    Raises:
        ArgumentError: no such network.
    """

    def __init__(self, name: str, num_classes: int, weights: Literal["hub"] | None = None) -> None:
        super().__init__()
        from torchvision.models import get_model, list_models, segmentation  # slow to import

        names = list_models(module=segmentation)
        if name not in names:
            raise ArgumentError(
                f"Expected `name` to be a segmentation network of torchvision, {', '.join(names)}, "
                f"but got {name!r}."
            )
        backbone = None if weights is None else "DEFAULT"
        self.network = get_model(
            name, weights=None, weights_backbone=backbone, num_classes=num_classes
        )

    def forward(self, image: Tensor) -> Tensor:
        """Image (b, 3, h, w), normalised by ImageNet's mean and deviation, to (b, k, h, w)."""
        logits: Tensor = self.network(image)["out"]
        return logits
