"""Metrics of the scores of images."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import MetricCollection, SpearmanCorrCoef
from torchmetrics.classification import MulticlassAUROC, MulticlassConfusionMatrix
from typing_extensions import override


class ImageMetrics(MetricCollection):
    """Metrics of the scores (b, k) of images and their labels (b,), over all processes."""


class ClassificationMetrics(ImageMetrics):
    """Accuracy, area under the ROC curve, and confusion.

    Args:
        classes: names in the order of the ids.

    Example:
        >>> metrics = ClassificationMetrics(["healthy", "ill"])
        >>> scores = torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]])
        >>> metrics.update(scores, torch.tensor([0, 1, 1]))
        >>> round(float(metrics.compute()["accuracy"]), 3)
        0.667
    """

    def __init__(self, classes: Sequence[str]) -> None:
        super().__init__(
            {
                "confusion": MulticlassConfusionMatrix(len(classes), validate_args=False),
                "auroc": MulticlassAUROC(len(classes), average="none", validate_args=False),
            },
            compute_groups=False,
        )
        self.classes = classes

    @override
    def update(self, scores: Tensor, label: Tensor) -> None:  # type: ignore[override]
        super().update(scores.softmax(dim=1), label.long())

    @override
    def compute(self) -> dict[str, Tensor]:
        """``accuracy``, ``auroc``, ``auroc/CLASS``, and ``confusion/TRUE/PREDICTED`` in images."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "No (positive|negative) samples in targets")
            computed = super().compute()
        confusion, areas = computed["confusion"], computed["auroc"]
        images, total = confusion.sum(dim=1), confusion.sum()
        # torchmetrics returns 0 if all or no images have the class.
        areas = torch.where((images > 0) & (images < total), areas, torch.nan)
        metrics = {"accuracy": confusion.diagonal().sum() / total, "auroc": areas.nanmean()}
        for true, name in enumerate(self.classes):
            metrics[f"auroc/{name}"] = areas[true]
            for predicted, other in enumerate(self.classes):
                metrics[f"confusion/{name}/{other}"] = confusion[true, predicted].float()
        return metrics


class RegressionMetrics(ImageMetrics):
    """``spearman``, the rank correlation; 0 if all scores or all labels are equal."""

    def __init__(self) -> None:
        super().__init__({"spearman": SpearmanCorrCoef()})

    @override
    def update(self, scores: Tensor, label: Tensor) -> None:  # type: ignore[override]
        super().update(scores[:, 0], label.float())
