"""Any segmentation network with a downsampler and a loss."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser
from torch import Tensor, nn

from deformsample.checkpoints.archive import FORMAT
from deformsample.checkpoints.builder import load_weights_into
from deformsample.checkpoints.model_folder import read_folder, write_folder
from deformsample.conventions import IGNORE_INDEX
from deformsample.errors import ArgumentError, CheckpointError
from deformsample.geometry import unwarp
from deformsample.inference.inputs import ImageLike, as_batch, labels_like
from deformsample.losses import BoundaryKLLoss, FullResolutionLoss, LovaszLoss
from deformsample.networks import UNet
from deformsample.samplers import Downsampler, LearnedSampler, Sampler
from deformsample.segmenters import SampledPrediction, SampledSegmenter
from deformsample.training.preparation import prepare_loss

_KIND = "trainable_segmenter"


class TrainableSegmenter(nn.Module):
    """A segmenter with its loss, for any training loop; see :func:`segmenter`.

    Args:
        segmenter: downsampler and network.
        criterion: loss of the prediction and the sampler, such as
            :class:`~deformsample.losses.FullResolutionLoss`.
        num_classes: expected number of logits per pixel; ``None`` for any.
        classes: names of the classes in the order of their ids, or ``None``.
    """

    def __init__(
        self,
        segmenter: SampledSegmenter,
        criterion: nn.Module,
        num_classes: int | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.criterion = criterion
        self.num_classes = num_classes
        self.classes = None if classes is None else list(classes)

    def forward(self, image: Tensor) -> Tensor:
        """Logits at full resolution.

        Args:
            image: (b, 3, H, W), uint8, or float in [0, 1].

        Returns:
            (b, k, H, W) float, differentiable in all parameters.

        Raises:
            ArgumentError: an image of another shape or dtype, or a network with other outputs.
        """
        prediction = self._predict(image)
        height, width = image.shape[2:]
        return unwarp(prediction.logits.float(), prediction.grid, (height, width))

    def loss(self, image: Tensor, labels: Tensor, progress: float = 1.0) -> Tensor:
        """The loss to minimise: the sum of the losses of the segmentation and the sampler.

        Args:
            image: (b, 3, H, W), uint8, or float in [0, 1].
            labels: (b, H, W) class ids in [0, k), an integer dtype; 255 for pixels without a class.
            progress: progress of training, from 0 to 1, for losses with a schedule.

        Returns:
            A scalar.

        Raises:
            ArgumentError: as for :meth:`forward`, or labels of another size, dtype or range.
        """
        prediction = self._predict(image)
        _check_labels(labels, (len(image), *image.shape[2:]), prediction.logits.shape[1])
        terms = self.criterion(prediction, labels, progress)
        return torch.stack(list(terms.values())).sum()

    @torch.no_grad()
    def segment(self, image: ImageLike) -> Any:
        """The class of every pixel, in eval mode.

        Args:
            image: a file, an array (h, w, 3) or (b, h, w, 3), or a tensor (3, h, w) or
                (b, 3, h, w), uint8 or float in [0, 1].

        Returns:
            (h, w), or (b, h, w) for a batch, uint8: a tensor for a tensor, otherwise a NumPy array.
        """
        training = [module for module in self.modules() if module.training]
        self.eval()
        try:
            labels = self.segmenter.segment(as_batch(image).to(self.segmenter.device))
        finally:
            for module in training:
                module.training = True
        return labels_like(image, labels)

    def save(self, folder: str | Path) -> None:
        """Write ``model.safetensors`` (all weights) and ``config.json`` (all options).

        Raises:
            WriteError: a file cannot be written.
        """
        downsampler = self.segmenter.downsampler
        options = {
            "sampler": type(downsampler.sampler).__name__,
            "downsampler": {
                "sampled_size": downsampler.sampled_size,
                "thumbnail_scale": downsampler.thumbnail_scale,
                "lod_bias": downsampler.lod_bias,
                "sample_gradient": downsampler.sample_gradient,
            },
            "network_multiple": self.segmenter.network_multiple,
            "num_classes": self.num_classes,
            "classes": self.classes,
        }
        write_folder(Path(folder).expanduser(), {"format": FORMAT, _KIND: options}, self.segmenter)

    def load(self, folder: str | Path) -> TrainableSegmenter:
        """Load weights and options of :meth:`save` into a model with the same modules.

        The options of the folder replace those of the model. Network, sampler and loss are not
        built: give the same ones to :func:`segmenter`.

        Args:
            folder: folder of :meth:`save`. No code in it is executed.

        Returns:
            The model itself.

        Raises:
            CheckpointError: missing or invalid files, another sampler, or weights of another
                network.

        Example:
            >>> from tempfile import TemporaryDirectory
            >>> with TemporaryDirectory() as folder:
            ...     segmenter(UNet(num_classes=3), num_samples=(32, 48)).save(folder)
            ...     model = segmenter(UNet(num_classes=3)).load(folder)
            >>> model.segmenter.downsampler.sampled_size
            (32, 48)
        """
        source = Path(folder).expanduser()
        description, weights = read_folder(source)
        options = _checked_options(description, source)
        device, sampler = self.segmenter.device, self.segmenter.downsampler.sampler
        if options.sampler != type(sampler).__name__:
            raise CheckpointError(
                f"Expected a model with a {type(sampler).__name__} in {source}, but got one with a "
                f"{options.sampler}: set `sampler` of the model."
            )
        try:
            downsampler = Downsampler(sampler, **options.downsampler.as_dict())
            segmenter = SampledSegmenter(
                downsampler, self.segmenter.network, options.network_multiple
            )
        except ArgumentError as error:
            raise CheckpointError(f"Cannot read the options of {source}: {error}") from None
        load_weights_into(segmenter, weights, source)
        self.segmenter = segmenter.train(self.segmenter.training).to(device)
        self.num_classes, self.classes = options.num_classes, options.classes
        return self

    def _predict(self, image: Tensor) -> SampledPrediction:
        prediction: SampledPrediction = self.segmenter(image)
        count = prediction.logits.shape[1]
        if self.num_classes not in (None, count):
            raise ArgumentError(
                f"Expected logits of {self.num_classes} classes from "
                f"{type(self.segmenter.network).__name__}, but got {count}: set the number of "
                "classes of the network, or `num_classes`."
            )
        return prediction


def segmenter(
    network: nn.Module,
    num_samples: tuple[int, int] | int = (64, 128),
    *,
    num_classes: int | None = None,
    classes: Sequence[str] | None = None,
    sampler: Sampler | None = None,
    loss: nn.Module | None = None,
    network_multiple: int = 1,
    thumbnail_scale: float = 1.0,
    lod_bias: float | None = -1.0,
    sample_gradient: bool = False,
) -> TrainableSegmenter:
    """Put a learned downsampler before a network, and unwarp its logits to full resolution.

    The defaults are those of ``configs/method/learned.yaml``: a small U-Net predicts a boundary
    density from a thumbnail, and an optimal-transport grid follows it. The loss is cross-entropy
    and Lovász at full resolution, and the divergence from the boundary density of the labels.

    Args:
        network: image (b, 3, h, w), normalised by the mean and deviation of ImageNet, to logits
            (b, k, h', w') with aligned corners: a tensor, a dictionary with ``out`` (torchvision),
            or an object with ``logits`` (transformers). Coarser logits are interpolated.
        num_samples: (height, width) of the small image, or the maximum number of its pixels, in the
            aspect of each image.
        num_classes: expected number of logits per pixel; ``None`` for any.
        classes: names of the classes in the order of their ids, for losses with weights by name.
        sampler: predicts the sampling locations; ``None`` for a :class:`.LearnedSampler`.
        loss: from the prediction, the labels and the progress to a dictionary of scalar terms;
            ``None`` for a :class:`.FullResolutionLoss`.
        network_multiple: pad the input of the network to a multiple of this by repeating the last
            row and column (most encoder-decoders need 32).
        thumbnail_scale: as in :class:`.Downsampler`.
        lod_bias: as in :class:`.Downsampler`.
        sample_gradient: as in :class:`.Downsampler`.

    Returns:
        A module with ``loss``, ``segment``, ``save`` and ``load``.

    Raises:
        ArgumentError: an argument has an invalid value.

    Example:
        >>> model = segmenter(UNet(num_classes=3, widths=(8, 16)), num_samples=(32, 48))
        >>> image, labels = torch.rand(1, 3, 256, 384), torch.zeros(1, 256, 384, dtype=torch.long)
        >>> model.loss(image, labels).backward()
        >>> model(image).shape, model.segment(image).dtype
        (torch.Size([1, 3, 256, 384]), torch.uint8)
    """
    if not isinstance(network, nn.Module):
        raise ArgumentError(
            f"Expected `network` to be a torch.nn.Module, but got {type(network).__name__}."
        )
    if classes is not None and num_classes not in (None, len(classes)):
        raise ArgumentError(
            f"Expected `classes` to name {num_classes} classes, as `num_classes`, but got "
            f"{list(classes)}."
        )
    downsampler = Downsampler(
        LearnedSampler(UNet(num_classes=1, widths=(16, 32, 48))) if sampler is None else sampler,
        num_samples,
        thumbnail_scale,
        lod_bias,
        sample_gradient,
    )
    criterion = _default_loss() if loss is None else loss
    if classes is not None:
        prepare_loss(criterion, classes, _no_shares)
    return TrainableSegmenter(
        SampledSegmenter(downsampler, network, network_multiple),
        criterion,
        num_classes if classes is None else len(classes),
        classes,
    )


def _default_loss() -> nn.Module:
    return FullResolutionLoss(
        grid_gradient=False,
        aux_loss=LovaszLoss(),
        density=BoundaryKLLoss(),
    )


def _no_shares() -> Sequence[float]:
    raise ArgumentError(
        "Expected `class_weights` as numbers, but got 'balanced', which needs the class shares of "
        "a data set: call `prepare(classes, shares)` of the loss."
    )


def _check_labels(labels: Tensor, shape: tuple[int, ...], num_classes: int) -> None:
    if labels.shape != shape or labels.is_floating_point():
        raise ArgumentError(
            f"Expected `labels` of shape {shape} and an integer dtype, but got "
            f"{tuple(labels.shape)} of {labels.dtype}."
        )
    if torch.compiler.is_compiling():
        return
    invalid = labels[(labels != IGNORE_INDEX) & ((labels < 0) | (labels >= num_classes))]
    if len(invalid):
        raise ArgumentError(
            f"Expected class ids in [0, {num_classes}), or {IGNORE_INDEX} for pixels without a "
            f"class, in `labels`, but got {int(invalid[0])}."
        )


def _checked_options(description: object, source: Path) -> Any:
    """The options of a description, with checked types."""
    given = description if isinstance(description, dict) else {}
    if given.get("format") != FORMAT or not isinstance(given.get(_KIND), dict):
        raise CheckpointError(
            f"Expected a folder of `save` of a wrapped network, but {source} has none of its "
            "options: `deformsample.load` reads models of trainings."
        )
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Downsampler, "downsampler", skip={"sampler"})
    parser.add_argument("--sampler", type=str, required=True)
    parser.add_argument("--network_multiple", type=int, required=True)
    parser.add_argument("--num_classes", type=int | None)
    parser.add_argument("--classes", type=list[str] | None)
    try:
        return parser.parse_object(given[_KIND])
    except Exception as error:  # readers raise any exception on invalid content
        reason = " ".join(str(error).split())
        raise CheckpointError(f"Cannot read the options of {source}: {reason}") from None
