"""Any segmentation network with a downsampler and a loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_weights
from safetensors.torch import save as save_weights
from segmentation_models_pytorch.losses import LovaszLoss
from torch import Tensor, nn

from deformsample.conventions import IGNORE_INDEX
from deformsample.errors import ArgumentError, CheckpointError
from deformsample.files.writing import atomic_write
from deformsample.geometry import unwarp
from deformsample.inference.inputs import ImageLike, as_batch
from deformsample.losses import BoundaryKLLoss, FullResolutionLoss
from deformsample.networks import UNet
from deformsample.samplers import Downsampler, LearnedSampler, Sampler
from deformsample.segmenters import SampledPrediction, SampledSegmenter


class TrainableSegmenter(nn.Module):
    """A segmenter with its loss, for any training loop; see :func:`segmenter`.

    Args:
        segmenter: downsampler and network.
        criterion: loss of the prediction and the sampler, such as
            :class:`~deformsample.losses.FullResolutionLoss`.
    """

    def __init__(self, segmenter: SampledSegmenter, criterion: nn.Module) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.criterion = criterion

    def forward(self, image: Tensor) -> Tensor:
        """Logits at full resolution.

        Args:
            image: (b, 3, H, W), uint8, or float in [0, 1].

        Returns:
            (b, k, H, W) float, differentiable in all parameters.
        """
        prediction: SampledPrediction = self.segmenter(image)
        height, width = image.shape[2:]
        return unwarp(prediction.logits.float(), prediction.grid, (height, width))

    def loss(self, image: Tensor, labels: Tensor, progress: float = 1.0) -> Tensor:
        """The loss to minimise: that of the segmentation and of the sampler.

        Args:
            image: (b, 3, H, W), uint8, or float in [0, 1].
            labels: (b, H, W) class ids, an integer dtype; 255 for pixels without a class.
            progress: progress of training, from 0 to 1, for losses with a schedule.

        Returns:
            A scalar.

        Raises:
            ArgumentError: labels of another size or dtype.
        """
        shape = (len(image), *image.shape[2:])
        if labels.shape != shape or labels.is_floating_point():
            raise ArgumentError(
                f"Expected `labels` of shape {shape} and an integer dtype, but got "
                f"{tuple(labels.shape)} of {labels.dtype}."
            )
        terms = self.criterion(self.segmenter(image), labels, progress)
        return torch.stack(list(terms.values())).sum()

    @torch.no_grad()
    def segment(self, image: ImageLike) -> Tensor:
        """The class of every pixel.

        Args:
            image: a file, an array (h, w, 3) or (b, h, w, 3), or a tensor (3, h, w) or
                (b, 3, h, w), uint8 or float in [0, 1].

        Returns:
            (b, H, W) uint8, on the device of the model.
        """
        was_training = self.training
        self.eval()
        try:
            return self.segmenter.segment(as_batch(image).to(self.segmenter.device))
        finally:
            self.train(was_training)

    def save(self, path: str | Path) -> None:
        """Write the weights to a safetensors file, atomically.

        Raises:
            WriteError: the file cannot be written.
        """
        weights = {k: v.cpu().contiguous() for k, v in self.segmenter.state_dict().items()}
        with atomic_write(Path(path).expanduser()) as partial:
            partial.write_bytes(save_weights(weights))

    def load(self, path: str | Path) -> TrainableSegmenter:
        """Load weights of :meth:`save`; returns the model itself.

        Raises:
            CheckpointError: no such file, another format, or weights of another model. No code in
                the file is executed.
        """
        file = Path(path).expanduser()
        try:
            self.segmenter.load_state_dict(load_weights(file.read_bytes()))
        except (OSError, ValueError, SafetensorError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(
                f"Cannot read the weights of this model from {file}: {reason[:300]}"
            ) from None
        return self


def segmenter(
    network: nn.Module,
    num_samples: tuple[int, int] | int = (64, 128),
    *,
    sampler: Sampler | None = None,
    criterion: nn.Module | None = None,
    network_multiple: int = 1,
    **downsampling: Any,
) -> TrainableSegmenter:
    """Put a learned downsampler before a network, and unwarp its prediction to full resolution.

    The defaults are those of ``configs/method/learned.yaml``: a small U-Net predicts a boundary
    density from a thumbnail, an optimal-transport grid follows it, and the loss is cross-entropy
    and Lovasz at full resolution.

    Args:
        network: normalised image (b, 3, h, w) to logits (b, k, h', w') with aligned corners: a
            tensor, a dictionary with ``out``, or an object with ``logits``.
        num_samples: (height, width) of the small image, or the maximum number of its pixels, in the
            aspect of each image.
        sampler: predicts the sampling locations.
        criterion: from the prediction, the labels and the progress to a dictionary of scalar terms.
        network_multiple: pad the input of the network to a multiple of this (most encoder-decoders:
            32).
        downsampling: further arguments of :class:`~deformsample.samplers.Downsampler`.

    Returns:
        A module with ``loss``, ``segment``, ``save`` and ``load``.

    Raises:
        ArgumentError: an argument has an invalid value.
    """
    if not isinstance(network, nn.Module):
        raise ArgumentError(
            f"Expected `network` to be a torch.nn.Module, but got {type(network).__name__}."
        )
    if sampler is None:
        sampler = LearnedSampler(UNet(num_classes=1, widths=(16, 32, 48)))
    if criterion is None:
        criterion = FullResolutionLoss(
            grid_gradient=False,
            aux_loss=LovaszLoss("multiclass", ignore_index=IGNORE_INDEX),
            density=BoundaryKLLoss(weight=1.0),
        )
    options = {"sample_gradient": False, **downsampling}
    downsampler = Downsampler(sampler, num_samples, **options)
    return TrainableSegmenter(SampledSegmenter(downsampler, network, network_multiple), criterion)
