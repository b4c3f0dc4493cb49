"""Using a checkpoint of a classifier, without the configuration it was trained with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from deformsample.checkpoints.archive import read_checkpoint, weights_of
from deformsample.checkpoints.builder import build_part, load_weights_into
from deformsample.classifiers import Classifier
from deformsample.errors import CheckpointError
from deformsample.files.levels import read_level
from deformsample.inference.loading import usable_device
from deformsample.inference.model import ImageLike, as_batch


class Classified(NamedTuple):
    """What is known of images."""

    scores: Tensor
    """(b, k), the probability of each class; a single score (k = 1) is what it is."""

    classes: list[str]
    """The most probable class of each image; empty where the model gives scores."""


class ImageClassifier(nn.Module):
    """A trained classifier with the names of its classes.

    Args:
        classifier: the trained classifier.
        classes: their names in the order of the scores; none for a model of scores.
        level: how often images were halved in training. Files are, too, when they are read; arrays
            and tensors are taken as they are.
    """

    def __init__(self, classifier: Classifier, classes: Sequence[str], level: int = 0) -> None:
        super().__init__()
        self.classifier = classifier
        self.classes = list(classes)
        self.level = level
        self.eval()

    @torch.inference_mode()
    def classify(self, image: ImageLike) -> Classified:
        """Classify an image, or several.

        Args:
            image: a file (any that is read, slides included), an array (h, w, 3) or (b, h, w, 3),
                or a tensor (3, h, w) or (b, 3, h, w), uint8 or float in [0, 1].
        """
        given = image
        if not isinstance(given, (Tensor, np.ndarray)):
            given = read_level(Path(given).expanduser(), self.level)
        scores = self.classifier(as_batch(given).to(self.classifier.mean.device)).float()
        if not self.classes:
            return Classified(scores, [])
        best = [self.classes[number] for number in scores.argmax(dim=1).tolist()]
        return Classified(scores.softmax(dim=1), best)


def load_classifier(
    checkpoint: str | Path, device: str | torch.device | None = "cpu", trust: Sequence[str] = ()
) -> ImageClassifier:
    """Load a checkpoint of a classifier of this package, ready to use.

    Args:
        checkpoint: file that training wrote, such as ``last.ckpt``.
        device: where the model shall live; ``None`` for a GPU if there is one.
        trust: as of :func:`deformsample.load`.

    Returns:
        ``ImageClassifier`` in eval mode.

    Raises:
        CheckpointError: as :func:`deformsample.load`, or not one of a classifier. No code in the
            file is executed.
    """
    path = Path(checkpoint).expanduser()
    target = usable_device(device)
    content = read_checkpoint(path, "classifier")
    description = content["deformsample"]
    given = description["classifier"]
    classifier = build_part(Classifier, given, path, trust)  # type: ignore[type-abstract]
    weights = weights_of(content, "classifier.")
    load_weights_into(classifier, weights, path)
    level = description.get("level", 0)
    if not isinstance(level, int) or not 0 <= level < 32:
        raise CheckpointError(f"Expected {path} to say how often images are halved, not {level!r}.")
    return ImageClassifier(classifier, description["classes"], level).to(target)
