"""Joint training of sampler and segmentation network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torchmetrics.classification import MulticlassConfusionMatrix
from typing_extensions import override

from deformsample.conventions import IGNORE_INDEX, Colour
from deformsample.errors import ArgumentError
from deformsample.metrics.iou import iou_report, mean_iou
from deformsample.samplers import ErrorCurveSampler
from deformsample.segmenters import Prediction, Segmenter
from deformsample.training.budget_curve import BudgetCurve
from deformsample.training.preparation import prepare_loss
from deformsample.training.task import BaseTask


class SegmentationTask(BaseTask):
    """Trains a segmenter, and measures it at full resolution and on the warped image.

    Logs ``train/loss`` and its terms; for validation and test ``loss`` and its terms
    (``segmentation`` is the cross-entropy at full resolution), ``miou`` at full resolution,
    ``miou_warped`` on the small image with warped labels (equal to ``miou`` without sampling), and
    ``iou/CLASS`` at full resolution. IoUs come from one confusion matrix over the whole split and
    all processes.

    Args:
        segmenter: the segmenter to train.
        loss: from the output of the segmenter, labels (b, H, W) and the progress of training to a
            dictionary of terms, which are summed. Before training, validation or test, the method
            ``prepare`` of its modules is called with the names of the classes, and a function that
            returns their shares in the training split.
        classes: name and colour of every class; the command line takes them from the data set.
        optimizer: optimizer from parameters.
        scheduler: learning rate schedule from an optimizer, stepped every epoch; ``None`` for a
            constant learning rate.
        class_groups: groups of classes that are measured as one class, by name.
    """

    in_progress_bar = "miou"

    def __init__(
        self,
        segmenter: Segmenter,
        loss: nn.Module,
        classes: Mapping[str, Colour],
        optimizer: OptimizerCallable,
        scheduler: LRSchedulerCallable | None = None,
        class_groups: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        super().__init__(optimizer, scheduler)
        self.segmenter = segmenter
        self.loss = loss
        self.classes = classes
        self.class_groups = class_groups or {}
        for name, members in self.class_groups.items():
            if unknown := set(members) - set(classes):
                raise ArgumentError(
                    f"Expected group {name!r} of `class_groups` to name classes of "
                    f"{list(classes)}, but got {sorted(unknown)}."
                )
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

    def on_fit_start(self) -> None:
        """Prepare the loss."""
        self._prepare_loss()

    def on_validation_start(self) -> None:
        """Prepare the loss, unless this validation is part of a fit."""
        if self.trainer.state.fn != TrainerFn.FITTING:
            self._prepare_loss()

    def on_test_start(self) -> None:
        """Prepare the loss."""
        self._prepare_loss()

    def forward(self, image: Tensor, labels: Tensor | None = None) -> Prediction:
        """The prediction for images (b, 3, H, W); only oracles use the labels (b, H, W)."""
        prediction: Prediction = self.segmenter(image, labels)
        return prediction

    def predict_step(self, batch: Mapping[str, Tensor], batch_index: int) -> Tensor:
        """Full-resolution labels (b, H, W) uint8."""
        return self.segmenter.segment(batch["image"])

    @override
    def loss_of(self, batch: Mapping[str, Tensor]) -> tuple[Prediction, dict[str, Tensor]]:
        prediction = self(batch["image"], batch["labels"])
        return prediction, self.loss(prediction, batch["labels"], self._progress())

    @override
    def measure(self, prediction: Prediction, batch: Mapping[str, Tensor]) -> None:
        labels = batch["labels"]
        if self.budget_curve is not None:
            assert prediction.sampled.curves is not None
            self.budget_curve.update(prediction.sampled.curves)
        self.warped.update(prediction.logits.argmax(dim=1), prediction.targets(labels).long())
        height, width = labels.shape[1:]
        self.full.update(prediction.labels((height, width)).long(), labels.long())

    @override
    def report(self) -> Mapping[str, Tensor]:
        full, warped = self.full.compute(), self.warped.compute()
        self.full.reset()
        self.warped.reset()
        if self.budget_curve is not None:
            self.card["budget_curve"] = self.budget_curve.compute()
            self.budget_curve.reset()
        ious = iou_report(full, list(self.classes), self.class_groups)
        return {
            "miou": mean_iou(full).float(),
            "miou_warped": mean_iou(warped).float(),
            **{f"iou/{name}": value.float() for name, value in ious.items()},
        }

    @override
    def description(self) -> dict[str, Any]:
        return {
            "segmenter": self.architecture,
            "classes": {name: list(colour) for name, colour in self.classes.items()},
        }

    def _prepare_loss(self) -> None:
        prepare_loss(self.loss, list(self.classes), self._class_shares)

    def _class_shares(self) -> Sequence[float]:
        """Class shares, computed by the first process."""
        data = self._datamodule()
        if not hasattr(data, "class_shares"):
            raise ArgumentError(
                "Expected a data module with `class_shares` for `class_weights: balanced`, but got "
                f"{type(data).__name__}."
            )
        counted = data.class_shares() if self.trainer.is_global_zero else []
        data.shares = shares = self.trainer.strategy.broadcast(counted)
        return shares

    def _progress(self) -> float:
        """Progress of training, from 0 to 1; 1 outside of training."""
        if self.trainer.state.fn != TrainerFn.FITTING:
            return 1.0
        return min(1.0, self.global_step / self.trainer.estimated_stepping_batches)


def _confusion(classes: int) -> MulticlassConfusionMatrix:
    return MulticlassConfusionMatrix(classes, ignore_index=IGNORE_INDEX, validate_args=False)
