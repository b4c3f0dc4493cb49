"""A model as one graph, from the image to the logits at its samples: for other programs to run.

The way from the logits to the label of every pixel is not in the graph:
:func:`deformsample.kernels.unwarp_labels` takes it, without torch.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from deformsample.conventions import Size
from deformsample.errors import ArgumentError, DataError, DeformsampleError
from deformsample.files.writing import atomic_write
from deformsample.inference.model import SegmentationModel
from deformsample.segmenters import SampledPrediction, Segmenter

OUTPUTS = ("logits", "grid", "small")
"""What the graph gives for ``image`` (1, 3, H, W) uint8: logits (1, k, h', w'), where they are
(1, h', w', 2), and the image that the network saw (1, 3, h, w) in [0, 1]."""

_METADATA = "deformsample.json"


class _Graph(nn.Module):
    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        prediction: SampledPrediction = self.segmenter(image)
        return prediction.logits, prediction.grid, prediction.sampled.image


@torch.no_grad()
def export_program(model: SegmentationModel, image_size: Size) -> ExportedProgram:
    """Trace a model from the image to what :data:`OUTPUTS` says.

    Args:
        model: is left in eval mode.
        image_size: (H, W) of all images to come: the pyramid's levels follow from it.

    Returns:
        The program of ``torch.export``, for the device that the model is on.

    Raises:
        ArgumentError: an image of that size cannot be segmented, or a part of it is more than
            tensor operations, as :class:`~deformsample.samplers.EdgeOptimalSampler` is.
    """
    if min(image_size) < 2:
        raise ArgumentError(f"Expected an image size of at least 2 x 2, but got {image_size}.")
    sampler = model.downsampler.sampler
    graph = _Graph(model.segmenter).eval()
    image = torch.zeros(1, 3, *image_size, dtype=torch.uint8, device=model.device)
    graph(image)  # tells what is wrong with a model, and makes the constants that graphs hold
    try:
        return torch.export.export(graph, (image,), strict=False)
    except DeformsampleError:
        raise
    except Exception as error:  # whatever a part of the model does that is no tensor operation
        parts = type(sampler).__name__, type(model.segmenter.network).__name__
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ArgumentError(
            f"Expected {' and '.join(parts)} to be tensor operations alone, but torch.export "
            f"fails: {reason}"
        ) from error


def write_program(model: SegmentationModel, image_size: Size, target: Path) -> None:
    """Write a model for ``torch.export.load``.

    Beside the program, the file holds what :func:`describe` says as ``deformsample.json``.

    Args:
        model: as of :func:`export_program`.
        image_size: as of :func:`export_program`.
        target: file, ending in ``.pt2``; written whole or not at all.
    """
    program = export_program(model, image_size)
    extra = {_METADATA: json.dumps(describe(model, image_size))}
    with atomic_write(target) as partial:
        torch.export.save(program, partial, extra_files=extra)


def write_onnx(model: SegmentationModel, image_size: Size, target: Path) -> None:
    """Write a model as ONNX, with what :func:`describe` says as the file's metadata.

    Args:
        model: as of :func:`export_program`.
        image_size: as of :func:`export_program`.
        target: file, ending in ``.onnx``; written whole or not at all.

    Raises:
        ArgumentError: as of :func:`export_program`.
        DataError: ONNX is not installed.
    """
    if find_spec("onnx") is None or find_spec("onnxscript") is None:
        raise DataError(
            f"Expected onnx and onnxscript to write {target}: install them with "
            "`pip install 'deformsample[export]'`."
        )
    program = export_program(model, image_size)
    made = torch.onnx.export(
        program, dynamo=True, input_names=["image"], output_names=list(OUTPUTS), verbose=False
    )
    assert made is not None
    made.model.metadata_props.update(describe(model, image_size))
    with atomic_write(target) as partial:
        made.save(partial, external_data=False)


def describe(model: SegmentationModel, image_size: Size) -> dict[str, str]:
    """What a program that runs the graph must know.

    Returns:
        ``deformsample``, the version; ``image_size``, JSON [H, W]; ``classes``, JSON of a colour
        [red, green, blue] for each name, in the order of the ids.
    """
    return {
        "deformsample": version("deformsample"),
        "image_size": json.dumps(list(image_size)),
        "classes": json.dumps({name: list(colour) for name, colour in model.classes.items()}),
    }
