"""Classification networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from deformsample.errors import ArgumentError
from deformsample.networks.backbone import timm_model


class TimmClassifier(nn.Module):
    """A convolutional network of timm, global average pooling, and a linear layer.

    Args:
        name: name of the model in timm.
        num_classes: number of scores.
        weights: weights of the features: ``None`` for random weights, ``"hub"`` for pretrained
            weights (downloaded once by timm), ``"auto"`` for pretrained weights or, with a warning,
            random ones if they cannot be downloaded, or the path of a file.
        options: further arguments of the model in timm.

    Raises:
        ArgumentError: no such model, no feature maps, or weights that cannot be loaded.
    """

    def __init__(
        self,
        name: str = "resnet18",
        num_classes: int = 2,
        weights: str | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        try:
            self.body = timm_model(name, weights, num_classes=0, global_pool="", **(options or {}))
        except TypeError as error:
            raise ArgumentError(
                f"Expected a convolutional model and valid `options`, but {name} does not take "
                f"{error}."
            ) from None
        self.head = _pooling_head(self.body.num_features, num_classes)

    def forward(self, image: Tensor) -> Tensor:
        """Normalised image (b, 3, h, w) to scores (b, k)."""
        features: Tensor = self.body(image)
        if features.ndim != 4:
            raise ArgumentError(
                "Expected a convolutional model with feature maps (b, c, h, w), but got "
                f"{tuple(features.shape)} from {type(self.body).__name__}."
            )
        scores: Tensor = self.head(features)
        return scores


class ConvClassifier(nn.Module):
    """3 x 3 convolutions of stride 2, global average pooling, and a linear layer.

    The network has no norms, so it can be streamed: the receptive field of ``n`` convolutions is
    ``2 ** (n + 1) - 1`` pixels per side.

    Args:
        widths: channels after each convolution.
        num_classes: number of scores.
    """

    def __init__(self, widths: Sequence[int] = (16, 32, 64, 128), num_classes: int = 2) -> None:
        super().__init__()
        if not widths or min(widths) < 1:
            raise ArgumentError(
                f"Expected `widths` to be positive channel counts, but got {list(widths)}."
            )
        layers: list[nn.Module] = []
        for before, after in zip([3, *widths], widths, strict=False):
            convolution = nn.Conv2d(before, after, 3, stride=2, padding=1)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            layers += [convolution, nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.head = _pooling_head(widths[-1], num_classes)

    def forward(self, image: Tensor) -> Tensor:
        """Normalised image (b, 3, h, w) to scores (b, k)."""
        scores: Tensor = self.head(self.body(image))
        return scores


def _pooling_head(channels: int, num_classes: int) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
