"""Classification of the whole image at full resolution, by streaming (Pinckaers et al. 2020)."""

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

    Training sees every pixel of the image in every step, and has the exact gradient of it; see
    :class:`~deformsample.networks.Streamed`.

    Args:
        network: has a ``body``, from a normalised image to features (b, c, h, w), that can be
            streamed, and a ``head``, from all of the features to scores (b, k). The streamed body
            takes the place of the body, and stays in evaluation mode: statistics of a norm would be
            those of a tile.
        tile: pixels of the image that are in work at a time, per side, overlap included.

    Raises:
        ArgumentError: the network has not the two parts, or its body cannot be streamed so.
    """

    def __init__(self, network: nn.Module, tile: int = 1024) -> None:
        super().__init__(network)
        body, head = (getattr(network, name, None) for name in ("body", "head"))
        if not isinstance(body, nn.Module) or not isinstance(head, nn.Module):
            raise ArgumentError(
                "Expected a `network` with a `body` and a `head` to stream, but "
                f"{type(network).__name__} has not both: take deformsample.networks.TimmClassifier "
                "or ConvClassifier."
            )
        network.body = Streamed(body, tile, self._prepared)
        self.tile = tile
        self.train(self.training)

    @property
    def display_name(self) -> str:
        """The side of a tile."""
        return f"streamed in tiles of {self.tile}"

    @override
    def forward(self, image: Tensor) -> Tensor:
        white(image)  # before a part of it is looked at
        with record_function("network"):
            scores: Tensor = self.network(image)
        return scores

    def train(self, mode: bool = True) -> StreamedClassifier:  # noqa: FBT001, FBT002 - torch's own
        """Leave the body in evaluation mode."""
        super().train(mode)
        body: nn.Module = self.network.body  # type: ignore[assignment]
        body.eval()
        return self

    def _prepared(self, part: Tensor) -> Tensor:
        normalized: Tensor = self.normalize(part / white(part))
        return normalized
