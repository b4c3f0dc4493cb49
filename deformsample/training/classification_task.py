"""Training of a classifier of whole images, with its sampler where it has one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MeanMetric

from deformsample.checkpoints.archive import FORMAT
from deformsample.checkpoints.card import model_card
from deformsample.classifiers import Classifier
from deformsample.data import ClassificationBatch, ClassificationDataModule
from deformsample.metrics.scores import ClassMeasures, Measures, ScoreMeasures


class ClassificationTask(pl.LightningModule):
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

    def __init__(
        self,
        classifier: Classifier,
        classes: Sequence[str],
        optimizer: OptimizerCallable,
        scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.classes = list(classes)
        self.optimizer = optimizer
        self.scheduler = scheduler
        # Not by `log(sync_dist=True)`, which rounds the mean batch size of uneven processes.
        self.mean_loss = MeanMetric()
        self.measures: Measures = ClassMeasures(self.classes) if classes else ScoreMeasures()
        self.architecture: dict[str, Any] | None = None
        """Class paths and arguments that build the classifier; a checkpoint holds them."""
        self.measured: dict[str, float] = {}
        """What was measured before the checkpoint that a run goes on from."""

    def forward(self, image: Tensor) -> Tensor:
        """Images (b, 3, H, W) to scores (b, k)."""
        scores: Tensor = self.classifier(image)
        return scores

    def training_step(self, batch: ClassificationBatch, batch_index: int) -> Tensor:
        """One step."""
        loss = self._loss(self(batch["image"]), batch["label"])
        size = len(batch["image"])
        self.log("train/loss", loss, prog_bar=True, on_step=True, on_epoch=False, batch_size=size)
        return loss

    def validation_step(self, batch: ClassificationBatch, batch_index: int) -> None:
        """Measure one batch."""
        self._measure(batch)

    def test_step(self, batch: ClassificationBatch, batch_index: int) -> None:
        """Measure one batch."""
        self._measure(batch)

    def predict_step(self, batch: ClassificationBatch, batch_index: int) -> Tensor:
        """Probabilities (b, k) of the classes, or scores (b, 1)."""
        scores: Tensor = self(batch["image"]).float()
        return scores.softmax(dim=1) if self.classes else scores

    def on_validation_epoch_end(self) -> None:
        """Log what was measured."""
        self._report("val")

    def on_test_epoch_end(self) -> None:
        """Log what was measured."""
        self._report("test")

    def configure_optimizers(self) -> Any:
        """Optimizer, and schedule by epoch."""
        optimizer = self.optimizer(self.parameters())
        if self.scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": self.scheduler(optimizer)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what its card says, until it is measured anew."""
        self.measured = checkpoint["deformsample"].get("card", {}).get("metrics", {})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what it takes to rebuild the classifier without the configuration, and its card."""
        data = getattr(self.trainer, "datamodule", None)
        own = data if isinstance(data, ClassificationDataModule) else None
        checkpoint["deformsample"] = {
            "format": FORMAT,
            "classifier": self.architecture,
            "classes": self.classes,
            "level": own.level if own else 0,
            "card": model_card(
                type(own.dataset).__name__ if own else None,
                {**self.measured, **self.trainer.callback_metrics},
            ),
        }

    def _loss(self, scores: Tensor, label: Tensor) -> Tensor:
        if self.classes:
            return F.cross_entropy(scores, label.long())
        return F.mse_loss(scores[:, 0], label)

    def _measure(self, batch: ClassificationBatch) -> None:
        scores, label = self(batch["image"]).float(), batch["label"]
        self.mean_loss.update(self._loss(scores, label), weight=len(label))
        self.measures.update(scores, label)

    def _report(self, stage: str) -> None:
        # Summed over processes, so that all of them log the same.
        self.log(f"{stage}/loss", self.mean_loss.compute(), prog_bar=True)
        self.mean_loss.reset()
        for name, value in self.measures.compute().items():
            self.log(f"{stage}/{name}", value)
        self.measures.reset()
