"""How good the scores of images are."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torchmetrics import SpearmanCorrCoef
from torchmetrics.classification import MulticlassAUROC, MulticlassConfusionMatrix


class Measures(nn.Module, ABC):
    """Collects scores and labels of a split, over all processes."""

    @abstractmethod
    def update(self, scores: Tensor, label: Tensor) -> None:
        """Add a batch: scores (b, k) and labels (b,)."""

    @abstractmethod
    def compute(self) -> Mapping[str, Tensor]:
        """The measures of all batches, by name."""

    @abstractmethod
    def reset(self) -> None:
        """Forget all batches."""


class ClassMeasures(Measures):
    """Accuracy, area under the ROC curve, and confusion.

    Args:
        classes: their names in the order of their numbers.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        super().__init__()
        self.classes = classes
        self.confusion = MulticlassConfusionMatrix(len(classes), validate_args=False)
        self.auroc = MulticlassAUROC(len(classes), average="none", validate_args=False)

    def update(self, scores: Tensor, label: Tensor) -> None:
        """See :class:`Measures`."""
        self.confusion.update(scores.argmax(dim=1), label.long())
        self.auroc.update(scores.softmax(dim=1), label.long())

    def compute(self) -> dict[str, Tensor]:
        """``accuracy``, ``auroc``, ``auroc/CLASS``, and ``confusion/TRUE/PREDICTED`` in images."""
        confusion = self.confusion.compute()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "No (positive|negative) samples in targets")
            areas = self.auroc.compute()
        images, total = confusion.sum(dim=1), confusion.sum()
        # torchmetrics says 0 where there is no curve, for want of images with or without the class.
        areas = torch.where((images > 0) & (images < total), areas, torch.nan)
        measures = {"accuracy": confusion.diagonal().sum() / total, "auroc": areas.nanmean()}
        for true, name in enumerate(self.classes):
            measures[f"auroc/{name}"] = areas[true]
            for predicted, other in enumerate(self.classes):
                measures[f"confusion/{name}/{other}"] = confusion[true, predicted].float()
        return measures

    def reset(self) -> None:
        """See :class:`Measures`."""
        self.confusion.reset()
        self.auroc.reset()


class ScoreMeasures(Measures):
    """Spearman's correlation of the ranks."""

    def __init__(self) -> None:
        super().__init__()
        self.spearman = SpearmanCorrCoef()

    def update(self, scores: Tensor, label: Tensor) -> None:
        """See :class:`Measures`; scores are (b, 1)."""
        self.spearman.update(scores[:, 0], label.float())

    def compute(self) -> dict[str, Tensor]:
        """``spearman``; 0 where all scores, or all labels, are the same."""
        return {"spearman": self.spearman.compute()}

    def reset(self) -> None:
        """See :class:`Measures`."""
        self.spearman.reset()
