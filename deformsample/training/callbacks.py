"""Callbacks that log pictures, and write predictions and scores."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import BasePredictionWriter
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor
from typing_extensions import override

from deformsample.files.images import write_image
from deformsample.files.writing import atomic_write
from deformsample.plotting import Picture, comparison_figure


class PictureLogger(pl.Callback):
    """Logs figures of the first validation image to TensorBoard.

    Args:
        every_n_epochs: number of training epochs between two figures.
    """

    def __init__(self, every_n_epochs: int = 10) -> None:
        self.every_n_epochs = every_n_epochs
        self._next_epoch = 0

    def state_dict(self) -> dict[str, Any]:
        """State for checkpoints: the epoch of the next figure."""
        return {"next_epoch": self._next_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        self._next_epoch = state_dict["next_epoch"]

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Mapping[str, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Log a figure if one is due."""
        due = trainer.current_epoch >= self._next_epoch and not trainer.sanity_checking
        board = next((x for x in trainer.loggers if isinstance(x, TensorBoardLogger)), None)
        if batch_idx or not due or board is None or not trainer.is_global_zero:
            return
        self._next_epoch = trainer.current_epoch + self.every_n_epochs
        image, ground_truth = batch["image"], batch["labels"]
        prediction = pl_module(image[:1], ground_truth[:1])
        labels = prediction.labels((image.shape[2], image.shape[3]))
        picture = Picture.of("validation", prediction.sampled, labels)
        figure = comparison_figure(image[0], ground_truth[0], [picture], pl_module.classes)
        board.experiment.add_figure("val/sampling", figure, trainer.global_step, close=False)


class PredictionWriter(BasePredictionWriter):
    """Writes predicted label maps in the format of the label files of the data set.

    Args:
        folder: target folder; ``None`` for ``predictions`` in the folder of the run.
    """

    def __init__(self, folder: str | None = None) -> None:
        super().__init__("batch")
        self.folder = folder
        self._target = Path()

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Share the folder with all processes."""
        folder = self.folder or str(Path(trainer.default_root_dir) / "predictions")
        self._target = Path(trainer.strategy.broadcast(folder))

    @override
    def write_on_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        prediction: Tensor,
        batch_indices: Sequence[int] | None,
        batch: Mapping[str, Tensor],
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        samples = data.parts[data.predict_split].samples
        for index, labels in zip(batch["index"].tolist(), prediction, strict=True):
            encoded = data.dataset.encode(labels.cpu().numpy())
            write_image(self._target / data.dataset.prediction_name(samples[index]), encoded)

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the folder."""
        if trainer.is_global_zero:
            print(f"predictions: {self._target}")  # noqa: T201 - output of the command


class ScoreWriter(BasePredictionWriter):
    """Writes a CSV file with one row per predicted image.

    The columns are ``path``, the probability of each class, and the most probable ``class``; for
    scores, ``path`` and ``score``.

    Args:
        file: target file; ``None`` for ``scores.csv`` in the folder of the run.
    """

    def __init__(self, file: str | None = None) -> None:
        super().__init__("epoch")
        self.file = file

    @override
    def write_on_epoch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        predictions: Sequence[Tensor],
        batch_indices: Sequence[Sequence[Sequence[int]]],
    ) -> None:
        indices = [index for batch in batch_indices[0] for index in batch]
        rows = list(zip(indices, torch.cat(list(predictions)).tolist(), strict=True))
        gathered: list[Any] = [rows]
        if trainer.world_size > 1:
            gathered = [None] * trainer.world_size
            torch.distributed.all_gather_object(gathered, rows)
        if not trainer.is_global_zero:
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        split, classes = data.parts[data.predict_split], data.classes
        target = Path(self.file or Path(trainer.default_root_dir) / "scores.csv").expanduser()
        with (
            atomic_write(target) as partial,
            partial.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["path", *classes, "class"] if classes else ["path", "score"])
            for index, scores in sorted(row for rows in gathered for row in rows):
                best = [classes[scores.index(max(scores))]] if classes else []
                writer.writerow([split.file(index), *(f"{x:.6g}" for x in scores), *best])
        print(f"scores: {target}")  # noqa: T201 - output of the command
