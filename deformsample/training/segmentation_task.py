"""Joint training of sampler and segmentation network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassConfusionMatrix

from deformsample.checkpoints.archive import FORMAT
from deformsample.checkpoints.card import model_card
from deformsample.conventions import IGNORE_INDEX, Colour
from deformsample.data import SegmentationBatch, SegmentationDataModule
from deformsample.errors import ArgumentError
from deformsample.losses import DensityTerm
from deformsample.metrics.budget_curve import BudgetCurve
from deformsample.metrics.iou import iou_report, mean_iou
from deformsample.samplers import ErrorCurveSampler
from deformsample.segmenters import Prediction, Segmenter


class SegmentationTask(pl.LightningModule):
    """Trains a segmenter, and measures it at full resolution and on the warped image.

    Logged are ``train/loss`` and its terms; for validation and test ``loss`` and its terms
    (``segmentation`` is the cross-entropy at full resolution), ``miou`` (every pixel
    of the image, which is what counts), ``miou_warped`` (the small image and its warped labels,
    what the network itself gets right; the same as ``miou`` where it sees every pixel) and
    ``iou/CLASS`` at full resolution. All IoUs come from one confusion matrix over the whole split,
    summed over processes.

    Args:
        segmenter: what is trained.
        loss: what the segmenter's forward gives, labels (b, H, W) and the progress of training to a
            dictionary of terms, which are summed.
        classes: name and colour of every class; on the command line they come from the data set.
        optimizer: makes the optimizer from the parameters.
        scheduler: makes the learning rate's schedule, stepped every epoch; ``None`` for a constant.
        merged: further IoUs to log, each of several classes taken as one.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        loss: nn.Module,
        classes: Mapping[str, Colour],
        optimizer: OptimizerCallable,
        scheduler: LRSchedulerCallable | None = None,
        merged: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.loss = loss
        self.classes = classes
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.merged = merged or {}
        for name, members in self.merged.items():
            if unknown := set(members) - set(classes):
                raise ArgumentError(
                    f"Expected `merged` class {name!r} to name classes of {list(classes)}, but got "
                    f"{sorted(unknown)}."
                )
        # Not by `log(sync_dist=True)`, which rounds the mean batch size of uneven processes.
        self.mean_loss = MeanMetric()
        self.mean_terms: dict[str, MeanMetric] = {}
        if getattr(loss, "needs_grid", False) and segmenter.downsampler is None:
            raise ArgumentError(
                f"Expected a loss that needs no sampling grid for {type(segmenter).__name__}, but "
                f"got {type(loss).__name__}: set `model.loss.class_path` to "
                "`deformsample.losses.TileLoss`."
            )
        sampler = segmenter.downsampler.sampler if segmenter.downsampler else None
        self.budget_curve = (
            BudgetCurve(sampler.minimum, sampler.maximum)
            if isinstance(sampler, ErrorCurveSampler)
            else None
        )
        self.full = _confusion(len(classes))
        self.warped = _confusion(len(classes))
        self.architecture: dict[str, Any] | None = None
        """Class paths and arguments that build the segmenter; a checkpoint holds them."""
        self.measured: dict[str, float] = {}
        """What was measured before the checkpoint that a run goes on from."""
        self.predicted: dict[str, Any] | None = None
        """What :class:`~deformsample.metrics.budget_curve.BudgetCurve` predicted last."""

    def on_fit_start(self) -> None:
        """Tell the sampler's loss what there is to know of the classes."""
        self._prepare_loss()

    def on_validation_start(self) -> None:
        """See :meth:`on_fit_start`, which a validation within a fit has behind it."""
        if self.trainer.state.fn != TrainerFn.FITTING:
            self._prepare_loss()

    def on_test_start(self) -> None:
        """See :meth:`on_fit_start`."""
        self._prepare_loss()

    def forward(self, image: Tensor, labels: Tensor | None = None) -> Prediction:
        """Look at images (b, 3, H, W); oracles see the labels (b, H, W)."""
        prediction: Prediction = self.segmenter(image, labels)
        return prediction

    def training_step(self, batch: SegmentationBatch, batch_index: int) -> Tensor:
        """One step of joint training."""
        image, labels = batch["image"], batch["labels"]
        terms = self.loss(self(image, labels), labels, self._progress())
        loss: Tensor = torch.stack(list(terms.values())).sum()
        size = len(image)
        self.log("train/loss", loss, prog_bar=True, on_step=True, on_epoch=False, batch_size=size)
        if len(terms) > 1:
            for name, value in terms.items():
                self.log(f"train/{name}", value, on_step=True, on_epoch=False, batch_size=size)
        return loss

    def validation_step(self, batch: SegmentationBatch, batch_index: int) -> None:
        """Measure one batch."""
        self._measure(batch, "val")

    def test_step(self, batch: SegmentationBatch, batch_index: int) -> None:
        """Measure one batch."""
        self._measure(batch, "test")

    def predict_step(self, batch: SegmentationBatch, batch_index: int) -> Tensor:
        """Full-resolution labels (b, H, W) uint8."""
        return self.segmenter.segment(batch["image"])

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
        card = checkpoint["deformsample"].get("card", {})
        self.measured = card.get("metrics", {})
        self.predicted = card.get("budget_curve")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what it takes to rebuild the segmenter without the configuration, and its card."""
        checkpoint["deformsample"] = {
            "format": FORMAT,
            "segmenter": self.architecture,
            "classes": {name: list(colour) for name, colour in self.classes.items()},
            "card": model_card(
                type(data.dataset).__name__ if (data := self._data()) else None,
                {**self.measured, **self.trainer.callback_metrics},
            ),
        }
        if self.predicted is not None:
            checkpoint["deformsample"]["card"]["budget_curve"] = self.predicted

    def _prepare_loss(self) -> None:
        for module in self.loss.modules():
            if isinstance(module, DensityTerm):
                module.prepare(list(self.classes), self._class_shares)

    def _class_shares(self) -> Sequence[float]:
        """Counted by the first process for all of them."""
        if (data := self._data()) is None:
            raise ArgumentError("Expected SegmentationDataModule for `class_weights: balanced`.")
        counted = data.class_shares() if self.trainer.is_global_zero else []
        data.shares = shares = self.trainer.strategy.broadcast(counted)
        return shares

    def _data(self) -> SegmentationDataModule | None:
        data = getattr(self.trainer, "datamodule", None)
        return data if isinstance(data, SegmentationDataModule) else None

    def _progress(self) -> float:
        """How far training is, from 0 to 1; 1 outside of training."""
        if self.trainer.state.fn != TrainerFn.FITTING:
            return 1.0
        return min(1.0, self.global_step / self.trainer.estimated_stepping_batches)

    def _measure(self, batch: SegmentationBatch, stage: str) -> None:
        image, labels = batch["image"], batch["labels"]
        prediction = self(image, labels)
        terms = self.loss(prediction, labels, self._progress())
        self.mean_loss.update(torch.stack(list(terms.values())).sum(), weight=len(image))
        for name, value in terms.items():
            if name not in self.mean_terms:
                self.mean_terms[name] = MeanMetric().to(self.device)
            self.mean_terms[name].update(value, weight=len(image))
        if self.budget_curve is not None:
            assert prediction.sampled.curves is not None
            self.budget_curve.update(prediction.sampled.curves)
        self.warped.update(prediction.logits.argmax(dim=1), prediction.targets(labels).long())
        height, width = labels.shape[1:]
        self.full.update(prediction.labels((height, width)).long(), labels.long())

    def _report(self, stage: str) -> None:
        # Summed over processes, so that all of them log the same.
        loss, full, warped = (m.compute() for m in (self.mean_loss, self.full, self.warped))
        for metric in (self.mean_loss, self.full, self.warped):
            metric.reset()
        self.log(f"{stage}/loss", loss)
        for name, mean in self.mean_terms.items():
            if len(self.mean_terms) > 1:
                self.log(f"{stage}/{name}", mean.compute())
            mean.reset()
        if self.budget_curve is not None:
            self.predicted = self.budget_curve.compute()
            self.budget_curve.reset()
        self.log(f"{stage}/miou", mean_iou(full).float(), prog_bar=True)
        self.log(f"{stage}/miou_warped", mean_iou(warped).float())
        for name, value in iou_report(full, list(self.classes), self.merged).items():
            self.log(f"{stage}/iou/{name}", value.float())


def _confusion(classes: int) -> MulticlassConfusionMatrix:
    return MulticlassConfusionMatrix(classes, ignore_index=IGNORE_INDEX, validate_args=False)
