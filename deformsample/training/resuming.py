"""Exact resumption of interrupted runs."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.plugins.io import TorchCheckpointIO

from deformsample.data.seeding import seed_all, seed_of
from deformsample.files.writing import atomic_write


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints atomically.

    Lightning writes to the folder for temporary files first. If that is on another disk, the final
    copy can be interrupted.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a file; Lightning handles other storage (``s3://``).

        Raises:
            WriteError: the disk is full, or the folder cannot be written to.
        """
        if storage_options is not None or "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        # Not directly to the file: torch would hide the reason of a disk error.
        content = io.BytesIO()
        torch.save(checkpoint, content)
        with atomic_write(Path(path)) as partial, partial.open("wb") as file:
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())


class StepSeeds(pl.Callback):
    """Seeds every training step by the seed of the run, the epoch, the batch and the process.

    The random numbers of a step, such as those of dropout, are equal after resuming.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep a run stopped that had stopped early."""
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, EarlyStopping) and callback.stopped_epoch > 0:
                trainer.should_stop = True

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed the generators."""
        seed = trainer.datamodule.seed  # type: ignore[attr-defined]
        seed_all(seed_of("step", seed, trainer.current_epoch, batch_idx, trainer.global_rank))


class ResumableCSVLogger(CSVLogger):
    """``metrics.csv`` that continues at the step of a checkpoint.

    Args:
        folder: folder of the run.
        step: rows from this step on are dropped, since they will be written again.
    """

    def __init__(self, folder: str, step: int = 0) -> None:
        super().__init__(folder, name="", version="")
        self.step = step

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The writer of the rows."""
        if self._experiment is None:
            self._experiment = _Rows(self.log_dir, self.step)
        return self._experiment


class _Rows(ExperimentWriter):
    def __init__(self, log_dir: str, step: int) -> None:
        super().__init__(log_dir)
        file = Path(self.metrics_file_path)
        if file.is_file():
            self.metrics_keys, rows = _read_rows(file)
            self._write(self.metrics_keys, [row for row in rows if int(row["step"]) < step])

    def _check_log_dir_exists(self) -> None:
        """Keep earlier rows, which Lightning would remove."""

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        """Rewrite atomically; Lightning would empty the file first."""
        self._write(fieldnames, _read_rows(Path(self.metrics_file_path))[1])

    def _write(self, names: list[str], rows: list[dict[str, str]]) -> None:
        with (
            atomic_write(Path(self.metrics_file_path)) as partial,
            partial.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, fieldnames=names)
            writer.writeheader()
            writer.writerows(rows)


def _read_rows(file: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Names and rows, without an incomplete last row."""
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    rows = csv.DictReader([line for line in lines if line.endswith("\n")])
    return list(rows.fieldnames or []), list(rows)
