"""Export of a model as one graph, from the image to its labels, or to the logits at its samples.

Logits at the samples are unwarped by :func:`deformsample.kernels.unwarp_labels`, without torch.
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
"""Outputs of the graph for ``image`` (1, 3, H, W) uint8: logits (1, k, h', w'), their locations
(1, h', w', 2), and the small image (1, 3, h, w) in [0, 1]."""

UNWARPED_OUTPUTS = ("labels",)
"""The output of a graph with unwarping, the class of every pixel as (1, H, W) uint8."""

_METADATA = "deformsample.json"


class _Graph(nn.Module):
    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        prediction: SampledPrediction = self.segmenter(image)
        return prediction.logits, prediction.grid, prediction.sampled.image


class _UnwarpedGraph(nn.Module):
    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, image: Tensor) -> Tensor:
        return self.segmenter.segment(image)


@torch.no_grad()
def export_program(
    model: SegmentationModel, image_size: Size, *, unwarp: bool = False
) -> ExportedProgram:
    """Trace a model from the image to :data:`OUTPUTS` or :data:`UNWARPED_OUTPUTS`.

    Args:
        model: the model; it is set to eval mode.
        image_size: (H, W) of all images, which determines the levels of the pyramid.
        unwarp: whether the graph returns the labels of :meth:`.SegmentationModel.segment`, for any
            sampler whose grid does not fold. They are equal except at ties of the logits.

    Returns:
        The program of ``torch.export``, for the device of the model.

    Raises:
        ArgumentError: an image of that size cannot be segmented, or the model has operations that
            cannot be exported, such as :class:`~deformsample.samplers.EdgeOptimalSampler`.
    """
    if min(image_size) < 2:
        raise ArgumentError(f"Expected an image size of at least 2 x 2, but got {image_size}.")
    sampler = model.downsampler.sampler
    graph = (_UnwarpedGraph if unwarp else _Graph)(model.segmenter).eval()
    image = torch.zeros(1, 3, *image_size, dtype=torch.uint8, device=model.device)
    graph(image)  # reports errors of the model, and creates cached constants
    try:
        return torch.export.export(graph, (image,), strict=False)
    except DeformsampleError:
        raise
    except Exception as error:  # for operations that cannot be traced
        names = type(sampler).__name__, type(model.segmenter.network).__name__
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ArgumentError(
            f"Cannot export {' and '.join(names)} with torch.export: {reason}"
        ) from error


def write_program(
    model: SegmentationModel, image_size: Size, target: Path, *, unwarp: bool = False
) -> None:
    """Write a model for ``torch.export.load``.

    The file also has the result of :func:`describe` as ``deformsample.json``.

    Args:
        model: as in :func:`export_program`.
        image_size: as in :func:`export_program`.
        target: file with the suffix ``.pt2``, written atomically.
        unwarp: as in :func:`export_program`.
    """
    program = export_program(model, image_size, unwarp=unwarp)
    extra = {_METADATA: json.dumps(describe(model, image_size))}
    with atomic_write(target) as partial:
        torch.export.save(program, partial, extra_files=extra)


def write_onnx(
    model: SegmentationModel, image_size: Size, target: Path, *, unwarp: bool = False
) -> None:
    """Write a model as ONNX, with the result of :func:`describe` as metadata.

    Args:
        model: as in :func:`export_program`.
        image_size: as in :func:`export_program`.
        target: file with the suffix ``.onnx``, written atomically.
        unwarp: as in :func:`export_program`.

    Raises:
        ArgumentError: as in :func:`export_program`.
        DataError: ONNX is not installed.
    """
    if find_spec("onnx") is None or find_spec("onnxscript") is None:
        raise DataError(
            f"Expected onnx and onnxscript to write {target}: install them with "
            "`pip install 'deformsample[export]'`."
        )
    program = export_program(model, image_size, unwarp=unwarp)
    outputs = list(UNWARPED_OUTPUTS if unwarp else OUTPUTS)
    exported = torch.onnx.export(
        program,
        dynamo=True,
        input_names=["image"],
        output_names=outputs,
        verbose=False,
        optimize=False,  # its time is quadratic in the number of operations: minutes with unwarping
    )
    assert exported is not None
    from onnxscript import optimizer  # an optional dependency

    optimizer.fold_constants(exported.model)
    optimizer.remove_unused_nodes(exported.model)
    exported.model.metadata_props.update(describe(model, image_size))
    with atomic_write(target) as partial:
        exported.save(partial, external_data=False)


def describe(model: SegmentationModel, image_size: Size) -> dict[str, str]:
    """Metadata for programs that run the graph.

    Returns:
        ``deformsample``, the version; ``image_size``, JSON [H, W]; ``classes``, JSON of a colour
        [red, green, blue] by name, in the order of the ids.
    """
    return {
        "deformsample": version("deformsample"),
        "image_size": json.dumps(list(image_size)),
        "classes": json.dumps({name: list(colour) for name, colour in model.classes.items()}),
    }
