"""Networks that give an image its scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from deformsample.errors import ArgumentError
from deformsample.networks.backbone import timm_model


class TimmClassifier(nn.Module):
    """A convolutional network of timm, the mean of its features, and a linear layer.

    Args:
        name: of the model in timm.
        num_classes: scores of an image.
        weights: of the features: ``None`` for random ones, ``"hub"`` for timm's own (downloaded
            once by timm), or the path of a file.
        options: further arguments of the model's constructor in timm.

    Raises:
        ArgumentError: no such model, one without feature maps, or weights that cannot be had.
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
                f"Expected a convolutional model and `options` that it takes, but {name} does not "
                f"take {error}."
            ) from None
        self.head = _pooling_head(self.body.num_features, num_classes)

    def forward(self, image: Tensor) -> Tensor:
        """Normalised image (b, 3, h, w) to scores (b, k)."""
        features: Tensor = self.body(image)
        if features.ndim != 4:
            raise ArgumentError(
                "Expected a convolutional model, whose features are maps (b, c, h, w), but got "
                f"{tuple(features.shape)} from {type(self.body).__name__}."
            )
        scores: Tensor = self.head(features)
        return scores


class ConvClassifier(nn.Module):
    """3 x 3 convolutions that each halve the map, the mean of its cells, and a linear layer.

    Without norms, which would look at more of the image than the receptive field: a network of
    ``n`` convolutions sees ``2 ** (n + 1) - 1`` pixels per side, and can be streamed.

    Args:
        widths: channels after each of the convolutions.
        num_classes: scores of an image.
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
