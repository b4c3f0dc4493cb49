"""What happens beside training: pictures in the log, predictions and scores on disk."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger

from deformsample.data import (
    ClassificationBatch,
    ClassificationDataModule,
    SegmentationBatch,
    SegmentationDataModule,
)
from deformsample.files.images import write_image
from deformsample.files.writing import whole_file
from deformsample.plotting import comparison_figure, picture_of
from deformsample.training.classification_task import ClassificationTask
from deformsample.training.segmentation_task import SegmentationTask


class PictureLogger(pl.Callback):
    """Draws the first validation image as sampled and segmented, for TensorBoard.

    Args:
        every_n_epochs: how many training epochs must lie between two pictures.
    """

    def __init__(self, every_n_epochs: int = 10) -> None:
        self.every_n_epochs = every_n_epochs
        self._next_epoch = 0

    def state_dict(self) -> dict[str, Any]:
        """When the next picture is due."""
        return {"next_epoch": self._next_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._next_epoch = state_dict["next_epoch"]

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: SegmentationBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw, where it is due."""
        due = trainer.current_epoch >= self._next_epoch and not trainer.sanity_checking
        board = next((x for x in trainer.loggers if isinstance(x, TensorBoardLogger)), None)
        if batch_idx or not due or board is None or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, SegmentationTask)
        self._next_epoch = trainer.current_epoch + self.every_n_epochs
        picture = picture_of(
            pl_module.segmenter, batch["image"][:1], "validation", batch["labels"][:1]
        )
        figure = comparison_figure(
            batch["image"][0], batch["labels"][0], [picture], pl_module.classes
        )
        board.experiment.add_figure("val/sampling", figure, trainer.global_step, close=False)


class PredictionWriter(pl.Callback):
    """Writes every predicted label map as the data set's own label files are written.

    Args:
        folder: where to; ``None`` for ``predictions`` in the folder of the run.
    """

    def __init__(self, folder: str | None = None) -> None:
        self.folder = folder
        self._target = Path()

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Agree on a folder over all processes."""
        own = self.folder or str(Path(trainer.default_root_dir) / "predictions")
        self._target = Path(trainer.strategy.broadcast(own))

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: SegmentationBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write one batch."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, SegmentationDataModule)
        samples = data.parts[data.predict_split].samples
        for index, labels in zip(batch["index"].tolist(), outputs, strict=True):
            sample = samples[index]
            encoded = data.dataset.encode(labels.cpu().numpy())
            write_image(self._target / data.dataset.prediction_name(sample), encoded)

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say where they are."""
        if trainer.is_global_zero:
            print(f"predictions: {self._target}")  # noqa: T201 - what the user asked for


class ScoreWriter(pl.Callback):
    """Writes a CSV with a row for each predicted image.

    Its columns are ``path``, the probability of each class, and the most probable ``class``; where
    labels are scores, ``path`` and ``score``.

    Args:
        file: where to; ``None`` for ``scores.csv`` in the folder of the run.
    """

    def __init__(self, file: str | None = None) -> None:
        self.file = file
        self._rows: list[tuple[int, list[float]]] = []

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget earlier predictions."""
        self._rows = []

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: ClassificationBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the scores of one batch."""
        self._rows += zip(batch["index"].tolist(), outputs.tolist(), strict=True)

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the rows of all processes, and say where they are."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(pl_module, ClassificationTask)
        assert isinstance(data, ClassificationDataModule)
        parts: list[Any] = [self._rows]
        if trainer.world_size > 1:
            parts = [None] * trainer.world_size
            torch.distributed.all_gather_object(parts, self._rows)
        if not trainer.is_global_zero:
            return
        part, classes = data.parts[data.predict_split], pl_module.classes
        target = Path(self.file or Path(trainer.default_root_dir) / "scores.csv").expanduser()
        with whole_file(target) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["path", *classes, "class"] if classes else ["path", "score"])
            for index, scores in sorted(row for part in parts for row in part):
                best = [classes[max(range(len(scores)), key=scores.__getitem__)]] if classes else []
                writer.writerow([part.file(index), *(f"{x:.6g}" for x in scores), *best])
        print(f"scores: {target}")  # noqa: T201 - what the user asked for
