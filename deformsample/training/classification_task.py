"""Training of classifiers of whole images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from deformsample.classifiers import Classifier
from deformsample.metrics.scores import ClassificationMetrics, ImageMetrics, RegressionMetrics
from deformsample.training.task import BaseTask


class ClassificationTask(BaseTask):
    """Trains a classifier with cross-entropy, or the squared error for scores.

    Logs ``train/loss``, and ``loss`` for validation and test. For classes, also ``accuracy``,
    ``auroc`` (one-vs-rest, mean over the classes that occur in the split), ``auroc/CLASS``, and the
    confusion matrix ``confusion/TRUE/PREDICTED`` in images. For scores, also ``spearman``, the rank
    correlation. Metrics are computed over the whole split and all processes.

    Args:
        classifier: the classifier to train.
        classes: names in the order of the ids, empty for scores; the command line takes them from
            the data set.
        optimizer: optimizer from parameters.
        scheduler: learning rate schedule from an optimizer, stepped every epoch; ``None`` for a
            constant learning rate.
    """

    in_progress_bar = "loss"

    def __init__(
        self,
        classifier: Classifier,
        classes: Sequence[str],
        optimizer: OptimizerCallable,
        scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(optimizer, scheduler)
        self.classifier = classifier
        self.classes = list(classes)
        self.metrics: ImageMetrics = (
            ClassificationMetrics(self.classes) if classes else RegressionMetrics()
        )

    def forward(self, image: Tensor) -> Tensor:
        """Images (b, 3, H, W) to scores (b, k)."""
        scores: Tensor = self.classifier(image)
        return scores.float()

    def predict_step(self, batch: Mapping[str, Tensor], batch_index: int) -> Tensor:
        """Probabilities (b, k) of the classes, or scores (b, 1)."""
        scores: Tensor = self(batch["image"])
        return scores.softmax(dim=1) if self.classes else scores

    @override
    def loss_of(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        scores, label = self(batch["image"]), batch["label"]
        if self.classes:
            return scores, {"cross_entropy": F.cross_entropy(scores, label.long())}
        return scores, {"squared_error": F.mse_loss(scores[:, 0], label)}

    @override
    def measure(self, prediction: Tensor, batch: Mapping[str, Tensor]) -> None:
        self.metrics.update(prediction, batch["label"])

    @override
    def report(self) -> Mapping[str, Tensor]:
        metrics = self.metrics.compute()
        self.metrics.reset()
        return metrics

    @override
    def description(self) -> dict[str, Any]:
        return {
            "classifier": self.architecture,
            "classes": self.classes,
            "level": self.data_description().get("level", 0),
        }
