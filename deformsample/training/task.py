"""The base class of tasks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torchmetrics import MeanMetric

from deformsample.checkpoints.archive import FORMAT
from deformsample.checkpoints.card import model_card


class BaseTask(pl.LightningModule, ABC):
    """Trains a model, measures it on whole splits, and saves its description and card.

    Logs ``train/loss`` and, if there are several, the terms of the loss; for validation and test,
    their means and the metrics of the subclass.

    Args:
        optimizer: optimizer from parameters.
        scheduler: learning rate schedule from an optimizer, stepped every epoch; ``None`` for a
            constant learning rate.
    """

    in_progress_bar: ClassVar[str]
    """The metric in the progress bar."""

    def __init__(
        self, optimizer: OptimizerCallable, scheduler: LRSchedulerCallable | None = None
    ) -> None:
        super().__init__()
        self.optimizer = optimizer
        self.scheduler = scheduler
        # Not `log(sync_dist=True)`, which rounds the mean batch size of uneven processes.
        self.mean_loss = MeanMetric()
        self.mean_terms: dict[str, MeanMetric] = {}
        self.architecture: dict[str, Any] | None = None
        """Class paths and arguments of the model, for checkpoints."""
        self.card = model_card(None, {})
        """The model card of the next checkpoint, without metrics."""

    @abstractmethod
    def loss_of(self, batch: Mapping[str, Tensor]) -> tuple[Any, dict[str, Tensor]]:
        """The prediction for a batch, and the terms of its loss, which are summed."""

    @abstractmethod
    def measure(self, prediction: Any, batch: Mapping[str, Tensor]) -> None:
        """Add a batch of validation or test to the metrics."""

    @abstractmethod
    def report(self) -> Mapping[str, Tensor]:
        """The metrics of all measured batches, over all processes; resets them."""

    @abstractmethod
    def description(self) -> dict[str, Any]:
        """The description of the model in checkpoints."""

    def data_description(self) -> Mapping[str, Any]:
        """``describe()`` of the data module; empty without a data module."""
        describe = getattr(self._datamodule(), "describe", dict)
        described: Mapping[str, Any] = describe()
        return described

    def training_step(self, batch: Mapping[str, Tensor], batch_index: int) -> Tensor:
        """One step."""
        _, terms = self.loss_of(batch)
        loss = _total(terms)
        size = len(batch["image"])
        self.log("train/loss", loss, prog_bar=True, on_step=True, on_epoch=False, batch_size=size)
        if len(terms) > 1:
            for name, value in terms.items():
                self.log(f"train/{name}", value, on_step=True, on_epoch=False, batch_size=size)
        return loss

    def validation_step(self, batch: Mapping[str, Tensor], batch_index: int) -> None:
        """Measure one batch."""
        prediction, terms = self.loss_of(batch)
        size = len(batch["image"])
        self.mean_loss.update(_total(terms), weight=size)
        for name, value in terms.items():
            if name not in self.mean_terms:
                self.mean_terms[name] = MeanMetric().to(self.device)
            self.mean_terms[name].update(value, weight=size)
        self.measure(prediction, batch)

    def test_step(self, batch: Mapping[str, Tensor], batch_index: int) -> None:
        """Measure one batch."""
        self.validation_step(batch, batch_index)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics."""
        self._log_metrics("val")

    def on_test_epoch_end(self) -> None:
        """Log the metrics."""
        self._log_metrics("test")

    def configure_optimizers(self) -> Any:
        """Optimizer, and schedule by epoch."""
        optimizer = self.optimizer(self.parameters())
        if self.scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": self.scheduler(optimizer)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the card until its metrics are measured again."""
        self.card |= checkpoint["deformsample"].get("card", {})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the description and the card."""
        measured = {**self.card["metrics"], **self.trainer.callback_metrics}
        card = model_card(self.data_description().get("data"), measured)
        checkpoint["deformsample"] = {
            "format": FORMAT,
            **self.description(),
            "card": {**self.card, **card},
        }

    def _datamodule(self) -> Any:
        return getattr(self.trainer, "datamodule", None)

    def _log_metrics(self, stage: str) -> None:
        # Summed over processes, so that all of them log the same values.
        metrics = {"loss": self.mean_loss.compute()}
        self.mean_loss.reset()
        for name, mean in self.mean_terms.items():
            if len(self.mean_terms) > 1:
                metrics[name] = mean.compute()
            mean.reset()
        for name, value in {**metrics, **self.report()}.items():
            self.log(f"{stage}/{name}", value, prog_bar=name == self.in_progress_bar)


def _total(terms: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()
