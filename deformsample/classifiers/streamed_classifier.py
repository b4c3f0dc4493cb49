"""Full-resolution classification by streaming (Pinckaers et al. 2020)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.autograd.profiler import record_function
from typing_extensions import override

from deformsample.classifiers.classifier import Classifier
from deformsample.errors import ArgumentError
from deformsample.networks import Streamed
from deformsample.samplers.image_source import white


class StreamedClassifier(Classifier):
    """Classify a whole image at full resolution, in the memory of a tile.

    Every training step sees all pixels and has their exact gradient; see
    :class:`~deformsample.networks.Streamed`.

    Args:
        network: network with a ``body`` that can be streamed, from a normalised image to features
            (b, c, h, w), and a ``head`` from all features to scores (b, k). The body is replaced by
            its streamed version, and stays in evaluation mode, since statistics of norms would be
            those of a tile.
        tile: side of a tile in image pixels, including overlap.

    Raises:
        ArgumentError: the network has no body and head, or its body cannot be streamed.
    """

    def __init__(self, network: nn.Module, tile: int = 1024) -> None:
        super().__init__(network)
        body, head = (getattr(network, name, None) for name in ("body", "head"))
        if not isinstance(body, nn.Module) or not isinstance(head, nn.Module):
            raise ArgumentError(
                "Expected a `network` with a `body` and a `head` to stream, but got "
                f"{type(network).__name__}: use deformsample.networks.TimmClassifier or "
                "ConvClassifier."
            )
        network.body = Streamed(body, tile, self._prepared)
        self.tile = tile
        self.train(self.training)

    @property
    def display_name(self) -> str:
        """The side of the tiles."""
        return f"streamed in tiles of {self.tile}"

    @override
    def forward(self, image: Tensor) -> Tensor:
        white(image)  # checks the image
        with record_function("network"):
            scores: Tensor = self.network(image)
        return scores

    def train(self, mode: bool = True) -> StreamedClassifier:  # noqa: FBT001, FBT002 - signature of torch
        """Keep the body in evaluation mode."""
        super().train(mode)
        body: nn.Module = self.network.body  # type: ignore[assignment]
        body.eval()
        return self

    def _prepared(self, tile: Tensor) -> Tensor:
        normalized: Tensor = self.normalize(tile / white(tile))
        return normalized
