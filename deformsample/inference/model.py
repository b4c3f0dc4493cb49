"""Trained models."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from deformsample.checkpoints.model_folder import write_folder
from deformsample.classifiers import Classifier
from deformsample.conventions import Colour, Pixels, Size
from deformsample.errors import ArgumentError
from deformsample.geometry import unwarp
from deformsample.inference.inputs import ImageLike, as_batch, labels_like, open_source
from deformsample.samplers import Downsampled, Downsampler, Focus, ImageSource, InMemoryImage
from deformsample.segmenters import SampledSegmenter, Segmenter


class Model(nn.Module, ABC):
    """A trained segmenter or classifier, with the names of its classes.

    Methods take a file, a NumPy array (h, w, 3) or (b, h, w, 3), or a tensor (3, h, w) or
    (b, 3, h, w), uint8 or float in [0, 1], and run on the device of the model
    (``model.to("cuda")``).

    Args:
        part: the segmenter or classifier.
        description: description of the model from its checkpoint, with classes and card.
    """

    def __init__(self, part: Segmenter | Classifier, description: Mapping[str, Any]) -> None:
        super().__init__()
        self.description = description
        self.eval()

    @property
    @abstractmethod
    def part(self) -> Segmenter | Classifier:
        """The segmenter or classifier."""

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return self.part.device

    @property
    def downsampler(self) -> Downsampler:
        """The downsampler of the model.

        Raises:
            ArgumentError: the model does not sample images.
        """
        if self.part.downsampler is None:
            raise ArgumentError(
                "Expected a model that samples images, but this one works on "
                f"{self.part.display_name}, at full resolution."
            )
        return self.part.downsampler

    @torch.inference_mode()
    def downsample(self, image: ImageLike, focus: Focus | None = None) -> Downsampled:
        """The small image (b, 3, h, w) in [0, 1], with its sampling grid and density map.

        Slides, OME-Zarr images and large TIFFs are read in parts.

        Args:
            image: one or more images.
            focus: regions of all images with a higher sampling density.

        Raises:
            ArgumentError: the model does not sample images, an image of another shape, a region
                outside of the image, or a focus for a sampler without a density.
            DataError: a file that cannot be read.
        """
        downsampler = self.downsampler
        with open_source(image, self.device) as source:
            sampled: Downsampled = downsampler(source, focus=focus)
        return sampled

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors``, the layout of the Hugging Face hub.

        :func:`deformsample.load` reads the folder.
        """
        write_folder(Path(folder).expanduser(), self.description, self.part)


class SegmentationModel(Model):
    """A trained segmenter with the names and colours of its classes."""

    def __init__(self, segmenter: Segmenter, description: Mapping[str, Any]) -> None:
        super().__init__(segmenter, description)
        self.segmenter = segmenter.eval()
        self.classes: dict[str, Colour] = {
            name: (red, green, blue) for name, (red, green, blue) in description["classes"].items()
        }

    @property
    def part(self) -> Segmenter:
        """The segmenter."""
        return self.segmenter

    def segment(self, image: ImageLike, *, focus: Focus | None = None, guided: bool = False) -> Any:
        """The class of every pixel, uint8.

        Args:
            image: one image or a batch.
            focus: regions of all images with a higher sampling density.
            guided: whether boundaries between samples follow the colours of the image
                (:func:`deformsample.geometry.guided_labels`).

        Returns:
            (h, w), or (b, h, w) for a batch: a tensor for a tensor, otherwise a NumPy array.

        Raises:
            ArgumentError: as in :meth:`.Model.downsample`, or ``guided`` for a model of tiles.
            DataError: a file that cannot be read.
        """
        with torch.inference_mode():
            batch = as_batch(image).to(self.device)
            labels = self.segmenter.segment(batch, focus=focus, guided=guided)
        return labels_like(image, labels)

    def stream(self, frames: Iterable[ImageLike], keep: int = 5) -> Iterator[Any]:
        """The class of every pixel of each frame of a video, as from :meth:`segment`.

        The sampling grid is predicted for every ``keep``-th frame; the frames after it are sampled
        at the same locations. After a cut, it fits again at most ``keep`` - 1 frames later.
        Two-pass models look at every frame as a whole, and predict a grid for each.

        Args:
            frames: images of one size.
            keep: number of frames with one sampling grid.

        Raises:
            ArgumentError: frames of different sizes, ``keep`` below 1, or a model of tiles.
            DataError: a file that cannot be read.
        """
        if keep < 1:
            raise ArgumentError(f"Expected `keep` of at least 1, but got {keep}.")
        segmenter = self.segmenter
        if not isinstance(segmenter, SampledSegmenter):
            raise ArgumentError(
                "Expected a model that samples images for a stream, but this one works on "
                f"{segmenter.display_name}, at full resolution."
            )
        sampled: Downsampled | None = None
        size: Size | None = None
        for index, frame in enumerate(frames):
            with torch.inference_mode():
                source = InMemoryImage(as_batch(frame).to(self.device))
                if size is not None and source.size != size:
                    raise ArgumentError(
                        f"Expected frames of one size, but got {source.size} after {size}."
                    )
                is_two_pass = sampled is not None and sampled.first_logits is not None
                if sampled is None or is_two_pass or index % keep == 0:
                    sampled = segmenter.downsampler(source)
                else:
                    small = source.sample(sampled.grid, segmenter.downsampler.lod_bias)
                    sampled = sampled._replace(image=small)
                size = source.size
                labels = segmenter.predict(sampled).labels(size)
            yield labels_like(frame, labels)

    def label_bands(
        self, source: ImageSource, *, focus: Focus | None = None, guided: bool = False
    ) -> Iterator[Pixels]:
        """The class of every pixel of one image, (n, W) uint8, from top to bottom.

        The image is read in parts; options as in :meth:`segment`. ``guided`` reads every row once
        more. The bands are the input of :func:`deformsample.files.label_tiff.write_label_tiff`.
        """
        with torch.inference_mode():
            for band in self.segmenter.label_bands(source, focus=focus, guided=guided):
                yield band.numpy()

    @torch.inference_mode()
    def restore(self, values: Tensor, grid: Tensor, size: Size) -> Tensor:
        """Unwarp values (b, c, h, w) at the samples of a grid to a full size (H, W)."""
        return unwarp(values, grid, size)


class Classification(NamedTuple):
    """The scores and classes of images."""

    scores: Tensor
    """(b, k), probabilities of the classes, or scores (k = 1)."""

    classes: list[str]
    """The most probable class of each image; empty for scores."""


class ClassificationModel(Model):
    """A trained classifier with the names of its classes.

    Files are read at the level of training; arrays and tensors are not halved.
    """

    def __init__(self, classifier: Classifier, description: Mapping[str, Any]) -> None:
        super().__init__(classifier, description)
        self.classifier = classifier.eval()
        self.classes: list[str] = list(description["classes"])
        self.level: int = description.get("level", 0)

    @property
    def part(self) -> Classifier:
        """The classifier."""
        return self.classifier

    @torch.inference_mode()
    def classify(self, image: ImageLike) -> Classification:
        """Classify one or more images."""
        scores = self.classifier(as_batch(image, self.level).to(self.device)).float()
        if not self.classes:
            return Classification(scores, [])
        best = [self.classes[class_id] for class_id in scores.argmax(dim=1).tolist()]
        return Classification(scores.softmax(dim=1), best)
