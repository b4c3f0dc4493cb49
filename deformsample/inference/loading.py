"""Loading models from checkpoints and folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar, overload

import torch

from deformsample.checkpoints.archive import check_description, weights_of
from deformsample.checkpoints.builder import build_part, load_weights_into
from deformsample.checkpoints.sources import find_model, read_model
from deformsample.classifiers import Classifier
from deformsample.conventions import Size
from deformsample.errors import ArgumentError, CheckpointError
from deformsample.inference.model import ClassificationModel, Model, SegmentationModel
from deformsample.samplers import DetailSampler, Downsampler, Sampler, UniformSampler
from deformsample.segmenters import Segmenter

Kind = TypeVar("Kind", bound=Model)

UNTRAINED: dict[str, type[Sampler]] = {"detail": DetailSampler, "uniform": UniformSampler}
"""Samplers without training, by the name that commands accept instead of a checkpoint."""

_DEFAULT_SHARE = 64


@overload
def load(
    path: str | Path, device: str | torch.device | None = "cpu", trust: Sequence[str] = ()
) -> Model: ...


@overload
def load(
    path: str | Path,
    device: str | torch.device | None = "cpu",
    trust: Sequence[str] = (),
    *,
    kind: type[Kind],
) -> Kind: ...


def load(
    path: str | Path,
    device: str | torch.device | None = "cpu",
    trust: Sequence[str] = (),
    *,
    kind: type[Model] | None = None,
) -> Model:
    """Load a trained model.

    Args:
        path: checkpoint such as ``last.ckpt``, folder of a run (its last checkpoint) or of
            :meth:`.Model.save_pretrained`, or name of a model of the package: ``blue-marble``.
        device: device of the model; ``None`` for a GPU if there is one.
        trust: further packages whose networks the file can name; they are imported.
        kind: expected class, :class:`.SegmentationModel` or :class:`.ClassificationModel`; ``None``
            for either.

    Returns:
        The model in eval mode.

    Raises:
        ArgumentError: there is no such device.
        CheckpointError: no such file, no model of this package, another kind, or a file that names
            classes other than networks of trusted packages. No code in the file is executed.

    Example:
        >>> model = load("blue-marble", kind=SegmentationModel)
        >>> model.segment(torch.rand(3, 660, 384)).shape, list(model.classes)
        (torch.Size([660, 384]), ['water', 'land'])
    """
    chosen = chosen_device(device)
    source = find_model(path)
    content = read_model(source)
    description = content["deformsample"]
    part = check_description(description, source)
    described = SegmentationModel if part == "segmenter" else ClassificationModel
    if kind is not None and not issubclass(described, kind):
        raise CheckpointError(
            f"Expected a {kind.__name__} in {source}, but got a {described.__name__}."
        )
    model: Model
    if part == "segmenter":
        segmenter = build_part(Segmenter, description[part], source, trust)
        model = SegmentationModel(segmenter, description)
    else:
        classifier = build_part(Classifier, description[part], source, trust)
        model = ClassificationModel(classifier, description)
    load_weights_into(model.part, weights_of(content, f"{part}."), source)
    return model.to(chosen)


def chosen_device(device: str | torch.device | None) -> torch.device:
    """The device of a name; ``None`` for a GPU if there is one.

    Raises:
        ArgumentError: there is no such device.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (AssertionError, NotImplementedError, RuntimeError) as error:
        raise ArgumentError(
            f"Expected a device of this machine, such as cpu or cuda, but {str(device)!r} is not "
            "available."
        ) from error
    return chosen


def untrained(name: str, wanted: tuple[int, int] | int) -> Downsampler:
    """A downsampler of :data:`UNTRAINED`, for a size or a maximum number of samples."""
    return Downsampler(UNTRAINED[name](), wanted)


def default_budget(size: Size) -> int:
    """The default number of samples of an image: 1/8 per side."""
    return max(4, size[0] * size[1] // _DEFAULT_SHARE)
