"""Training of a classifier of whole images, with its sampler where it has one."""

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
    """Trains a classifier by cross-entropy, or, where labels are scores, by the squared error.

    Logged are ``train/loss``, and for validation and test ``loss``. For classes, further
    ``accuracy``, ``auroc`` (the mean over the classes of one against the rest; of those that the
    split has images of), ``auroc/CLASS``, and the confusion matrix ``confusion/TRUE/PREDICTED``,
    in images. For scores, further ``spearman``, the correlation of the ranks. All are of the whole
    split, over all processes.

    Args:
        classifier: what is trained.
        classes: their names in the order of their numbers, none for scores; on the command line
            they come from the data set.
        optimizer: makes the optimizer from the parameters.
        scheduler: makes the learning rate's schedule, stepped every epoch; ``None`` for a constant.
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
