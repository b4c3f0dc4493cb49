"""Using a checkpoint, without the configuration it was trained with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import torch
from jsonargparse import ArgumentParser
from torch import Tensor, nn

from deformsample.checkpoint import read_checkpoint
from deformsample.data.images import read_image
from deformsample.data.labels import Colour
from deformsample.errors import ArgumentError, CheckpointError
from deformsample.geometry import Size, unwarp
from deformsample.plotting import SampledPicture, picture_of
from deformsample.segmenters import Downsampled, SampledSegmenter

ImageLike: TypeAlias = "str | Path | npt.NDArray[Any] | Tensor"
"""A file, an array (h, w, 3), or a tensor (3, h, w) or (b, 3, h, w), uint8 or float in [0, 1]."""


class Model(nn.Module):
    """A trained segmenter with the names of its classes.

    Every method takes a file, a NumPy array (h, w, 3) or a tensor (3, h, w) or (b, 3, h, w), uint8
    or float in [0, 1], and works on the device that the model is on (``model.to("cuda")``).

    Args:
        segmenter: the trained segmenter.
        classes: name and colour of every class, in the order of the ids.
    """

    def __init__(self, segmenter: SampledSegmenter, classes: Mapping[str, Colour]) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.classes = classes
        self.eval()

    @torch.inference_mode()
    def downsample(self, image: ImageLike) -> Downsampled:
        """The small image (b, 3, h, w) in [0, 1], with its sampling grid and density map."""
        return self.segmenter.downsample(self._batch(image))

    def segment(self, image: ImageLike) -> Any:
        """The class of every pixel, uint8.

        Returns:
            For a tensor (b, 3, h, w) a tensor (b, h, w); for a tensor (3, h, w) a tensor (h, w);
            for a file or an array a NumPy array (h, w).
        """
        with torch.inference_mode():
            labels = self.segmenter.segment(self._batch(image))
        if isinstance(image, Tensor):
            return labels if image.ndim == 4 else labels[0]
        return labels[0].cpu().numpy()

    @torch.inference_mode()
    def upsample(self, values: Tensor, grid: Tensor, size: Size) -> Tensor:
        """Bring values (b, c, h, w) at the samples of a grid back to a full size (H, W)."""
        return unwarp(values, grid, size)

    def picture(self, image: ImageLike, title: str) -> SampledPicture:
        """All that :func:`deformsample.plotting.comparison_figure` draws of one image."""
        return picture_of(self.segmenter, self._batch(image), title)

    def _batch(self, image: ImageLike) -> Tensor:
        return as_batch(image).to(self.segmenter.mean.device)


def load(checkpoint: str | Path, device: str | torch.device = "cpu") -> Model:
    """Load a checkpoint of this package, ready to use.

    Args:
        checkpoint: file that training wrote, such as ``last.ckpt``.
        device: where the model shall live.

    Returns:
        ``Model`` in eval mode.

    Raises:
        CheckpointError: no such file, not a checkpoint, or not one of this package. No code in the
            file is executed.
    """
    path = Path(checkpoint).expanduser()
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise ArgumentError(f"Expected a device of this machine, but {device!r} is not available.")
    content = read_checkpoint(path)
    description = content["deformsample"]
    segmenter = build_segmenter(description["segmenter"], path)
    prefix = "segmenter."
    weights = {
        name.removeprefix(prefix): value
        for name, value in content["state_dict"].items()
        if name.startswith(prefix)
    }
    try:
        segmenter.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"Expected weights that fit the segmenter of {path}, but: {reason}"
        ) from None
    classes = {name: tuple(colour) for name, colour in description["classes"].items()}
    return Model(segmenter, cast("dict[str, Colour]", classes)).to(device)


def build_segmenter(architecture: Mapping[str, Any], source: object) -> SampledSegmenter:
    """Make a segmenter from class paths and arguments.

    Args:
        architecture: ``class_path`` and ``init_args`` of a
            :class:`~deformsample.segmenters.SampledSegmenter`.
        source: what an error names.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--segmenter", type=SampledSegmenter)
    try:
        parsed = parser.parse_object({"segmenter": dict(architecture)})
        built = parser.instantiate(parsed).segmenter
    except Exception as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"Expected {source} to describe a segmenter that this version can build, but: {reason}"
        ) from None
    assert isinstance(built, SampledSegmenter)
    return built


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
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ArgumentError(f"Expected an array of shape (h, w, 3), but got {tuple(pixels.shape)}.")
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]
