"""Using a checkpoint, without the configuration it was trained with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_weights
from safetensors.torch import save
from torch import Tensor, nn

from deformsample.checkpoints.archive import are_classes, read_checkpoint, weights_of
from deformsample.checkpoints.builder import build_part, load_weights_into
from deformsample.conventions import Colour, Size
from deformsample.errors import ArgumentError, CheckpointError
from deformsample.files.images import read_image
from deformsample.files.reading import read_text
from deformsample.files.writing import whole_file
from deformsample.geometry import unwarp
from deformsample.inference.loading import usable_device
from deformsample.plotting import SegmentedPicture, picture_of
from deformsample.samplers.downsampler import Downsampled, Downsampler
from deformsample.segmenters import Segmenter

ImageLike: TypeAlias = "str | Path | npt.NDArray[Any] | Tensor"
"""A file, an array (h, w, 3) or (b, h, w, 3), or a tensor (3, h, w) or (b, 3, h, w).

uint8, or float in [0, 1]."""

_CONFIG = "config.json"
_WEIGHTS = "model.safetensors"
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError)


class Model(nn.Module):
    """A trained segmenter with the names of its classes.

    Every method takes a file, a NumPy array (h, w, 3) or (b, h, w, 3), or a tensor (3, h, w) or
    (b, 3, h, w), uint8 or float in [0, 1], and works on the device that the model is on
    (``model.to("cuda")``).

    Args:
        segmenter: the trained segmenter.
        classes: name and colour of every class, in the order of the ids.
        description: how to build the segmenter, and its card, as checkpoints hold them.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        classes: Mapping[str, Colour],
        description: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.classes = classes
        self.description = description
        self.eval()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors``, the layout of the Hugging Face hub.

        Raises:
            ArgumentError: the model does not come from a checkpoint, and nobody knows its parts.
        """
        if self.description is None:
            raise ArgumentError("Expected a model that was loaded from a checkpoint.")
        target = Path(folder).expanduser()
        weights = {k: v.cpu().contiguous() for k, v in self.segmenter.state_dict().items()}
        for name, content in (
            (_WEIGHTS, save(weights)),
            (_CONFIG, json.dumps(self.description, indent=1).encode()),
        ):
            with whole_file(target / name) as partial:
                partial.write_bytes(content)

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, device: str | torch.device = "cpu", trust: Sequence[str] = ()
    ) -> Model:
        """Load what :meth:`save_pretrained` wrote; arguments as of :func:`load`.

        Raises:
            CheckpointError: a file is missing, or does not hold what it should. No code in it is
                executed.
        """
        source = Path(folder).expanduser()
        try:
            description = json.loads(read_text(source / _CONFIG, "a description", CheckpointError))
            weights = load_weights((source / _WEIGHTS).read_bytes())
            architecture = description["segmenter"]
            if not are_classes(classes := description["classes"]):
                raise ValueError("the classes are no names with colours")
        except (*_UNREADABLE, CheckpointError) as error:
            raise CheckpointError(
                f"Expected {_CONFIG} and {_WEIGHTS} of a model in {source}, but they cannot be "
                f"read: {error}"
            ) from None
        return _assembled(architecture, classes, weights, description, source, trust).to(device)

    @torch.inference_mode()
    def downsample(self, image: ImageLike) -> Downsampled:
        """The small image (b, 3, h, w) in [0, 1], with its sampling grid and density map."""
        return self.downsampler.downsample(self._batch(image))

    @property
    def downsampler(self) -> Downsampler:
        """The segmenter, if it works on a downsampled image.

        Raises:
            ArgumentError: it does not.
        """
        if not isinstance(self.segmenter, Downsampler):
            raise ArgumentError(
                "Expected a checkpoint that samples images, but this one segments "
                f"{self.segmenter.title}, at full resolution: it can only segment."
            )
        return self.segmenter

    def segment(self, image: ImageLike) -> Any:
        """The class of every pixel, uint8.

        Returns:
            (h, w), or (b, h, w) for a batch: a tensor for a tensor, otherwise a NumPy array.
        """
        with torch.inference_mode():
            labels = self.segmenter.segment(self._batch(image))
        is_batch = isinstance(image, (Tensor, np.ndarray)) and image.ndim == 4
        own = labels if is_batch else labels[0]
        return own if isinstance(image, Tensor) else own.cpu().numpy()

    @torch.inference_mode()
    def restore(self, values: Tensor, grid: Tensor, size: Size) -> Tensor:
        """Bring values (b, c, h, w) at the samples of a grid back to a full size (H, W)."""
        return unwarp(values, grid, size)

    def picture(self, image: ImageLike, title: str) -> SegmentedPicture:
        """All that :func:`deformsample.plotting.comparison_figure` draws of one image."""
        return picture_of(self.segmenter, self._batch(image), title)

    def _batch(self, image: ImageLike) -> Tensor:
        return as_batch(image).to(self.segmenter.mean.device)


def load(
    checkpoint: str | Path, device: str | torch.device | None = "cpu", trust: Sequence[str] = ()
) -> Model:
    """Load a checkpoint of this package, ready to use.

    Args:
        checkpoint: file that training wrote, such as ``last.ckpt``.
        device: where the model shall live; ``None`` for a GPU if there is one.
        trust: packages of your own whose networks the checkpoint may name; they are imported.

    Returns:
        ``Model`` in eval mode.

    Raises:
        CheckpointError: no such file, not a checkpoint, not one of this package, or one that names
            other classes than networks of known packages. No code in the file is executed.
    """
    path = Path(checkpoint).expanduser()
    target = usable_device(device)
    content = read_checkpoint(path)
    description = content["deformsample"]
    weights = weights_of(content, "segmenter.")
    parts = description["segmenter"], description["classes"], weights
    return _assembled(*parts, description, path, trust).to(target)


def _assembled(
    architecture: Mapping[str, Any],
    classes: Mapping[str, Sequence[int]],
    weights: Mapping[str, Tensor],
    description: Mapping[str, Any],
    source: Path,
    trust: Sequence[str],
) -> Model:
    segmenter = build_segmenter(architecture, source, trust)
    load_weights_into(segmenter, weights, source)
    colours = {name: tuple(colour) for name, colour in classes.items()}
    return Model(segmenter, cast("dict[str, Colour]", colours), description)


def build_segmenter(architecture: object, source: object, trust: Sequence[str] = ()) -> Segmenter:
    """Make a segmenter from class paths and arguments, as :func:`build_part`."""
    return build_part(Segmenter, architecture, source, trust)  # type: ignore[type-abstract]


def as_batch(image: ImageLike) -> Tensor:
    """Bring any image to a tensor (b, 3, h, w), uint8 or float.

    Raises:
        ArgumentError: another shape or channel count.
        DataError: a file that cannot be read.
    """
    if isinstance(image, Tensor):
        batch = image if image.ndim == 4 else image[None]
        if image.ndim not in (3, 4) or batch.shape[1] != 3:
            raise ArgumentError(
                "Expected a tensor of shape (3, h, w) or (b, 3, h, w), but got "
                f"{tuple(image.shape)}: are the channels last?"
            )
        return batch
    pixels = image if isinstance(image, np.ndarray) else read_image(Path(image).expanduser())
    if pixels.ndim not in (3, 4) or pixels.shape[-1] != 3:
        raise ArgumentError(
            f"Expected an array of shape (h, w, 3) or (b, h, w, 3), but got {tuple(pixels.shape)}."
        )
    pixels = pixels if pixels.ndim == 4 else pixels[None]
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
