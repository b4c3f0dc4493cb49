"""Progress of a run as lines of text, for log files."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar
from typing_extensions import override


class LineProgress(ProgressBar):
    """Prints a line after each training epoch, and one per interval within long epochs.

    Progress bars redraw a line, which is unreadable in a file.

    Args:
        interval: seconds between two lines within an epoch.
    """

    def __init__(self, interval: float = 60) -> None:
        super().__init__()
        self.interval = interval
        self._is_enabled = True
        self._is_validated = False
        self._last_line = time.monotonic()

    @override
    def disable(self) -> None:
        self._is_enabled = False

    @override
    def enable(self) -> None:
        self._is_enabled = True

    @override
    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self._batch_done(_epoch(trainer), batch_idx, self.total_train_batches)

    @override
    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._batch_done("validation", batch_idx, sum(trainer.num_val_batches))

    @override
    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._batch_done("test", batch_idx, sum(trainer.num_test_batches))

    @override
    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._batch_done("prediction", batch_idx, sum(trainer.num_predict_batches))

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._is_validated = not trainer.sanity_checking

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Metrics of an earlier validation are still there.
        metrics = [
            f"{name} {value:.4f}"
            for name, value in trainer.progress_bar_metrics.items()
            if self._is_validated or not name.startswith("val/")
        ]
        self._is_validated = False
        self._line(f"{_epoch(trainer)}: {', '.join(metrics)}")

    def _batch_done(self, stage: str, index: int, total: float) -> None:
        if time.monotonic() - self._last_line >= self.interval:
            self._line(f"{stage}: batch {index + 1} of {total}")

    def _line(self, text: str) -> None:
        self._last_line = time.monotonic()
        if self._is_enabled:
            print(text, flush=True)  # noqa: T201 - output of the command


def _epoch(trainer: pl.Trainer) -> str:
    epochs = "" if trainer.max_epochs in (None, -1) else f" of {trainer.max_epochs}"
    return f"epoch {trainer.current_epoch + 1}{epochs}"
