"""Faults of training that would otherwise go unnoticed: non-finite values, and collapse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor
from torch.optim import Optimizer

from deformsample.data.splits import Split
from deformsample.errors import SamplingError, TrainingError
from deformsample.geometry import sample_areas

COLLAPSED = 0.01
"""Of the image; uniform sampling has half of its samples on half of it."""


class NonFiniteGuard(pl.Callback):
    """Finds non-finite gradients, and samplers that put all samples in one place.

    Gradients are checked in every step, one step later, so that a GPU never waits. A sampler has
    collapsed if half of its samples stand for less than a hundredth of an image; it is checked in
    the first batch of every validation. Non-finite sampling coordinates end the run whatever
    ``action`` is; the error names the files.

    Args:
        action: ``stop`` ends the run with an error that names the files; ``skip`` sets the
            gradients of such a step to zero, warns, and continues.
    """

    def __init__(self, action: Literal["stop", "skip"] = "stop") -> None:
        self.action = action
        self._files: Sequence[str] = ()
        self._last: tuple[Tensor, int, Sequence[str]] | None = None

    def on_train_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Mapping[str, Tensor],
        batch_idx: int,
    ) -> None:
        """Check the step before, and keep the names of this step's files."""
        self._check()
        self._files = _files(trainer, batch, "train")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the last step before a checkpoint is written."""
        self._check()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the last step before its weights are measured."""
        self._check()

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Keep whether all gradients are finite."""
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        finite = torch.stack([gradient.norm() for gradient in gradients]).sum().isfinite()
        if self.action == "skip":
            for gradient in gradients:
                gradient.masked_fill_(~finite, 0.0)
        self._last = finite, trainer.global_step, self._files

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Name the files at which a sampler failed."""
        if isinstance(exception, SamplingError):
            rank_zero_warn(f"The last training step was of the files {', '.join(self._files)}.")

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Mapping[str, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Check the sampling locations of the first batch."""
        models = (m for m in pl_module.children() if hasattr(m, "downsampler"))
        downsampler: Any = next((model.downsampler for model in models), None)
        if batch_idx or trainer.sanity_checking or downsampler is None:
            return
        with torch.no_grad():
            grid = downsampler(batch["image"], batch.get("labels")).grid
        share = float(densest_half(grid).min())
        if share < COLLAPSED:
            files = ", ".join(_files(trainer, batch, "val"))
            self._report(
                f"Expected samples all over the images, but half of them lie on {share:.2%} of "
                f"one of {files}: give the density more floor, or the density loss more weight."
            )

    def _check(self) -> None:
        if self._last is None:
            return
        finite, step, files = self._last
        self._last = None
        if not bool(finite):
            self._report(
                f"Expected finite gradients, but those of step {step} are not, for the files "
                f"{', '.join(files)}: lower the learning rate, or look at these files."
            )

    def _report(self, text: str) -> None:
        if self.action == "stop":
            raise TrainingError(
                f"{text} Earlier checkpoints are kept; NonFiniteGuard's `action: skip` continues."
            )
        rank_zero_warn(text)


def densest_half(grid: Tensor) -> Tensor:
    """The share of each image that the denser half of its samples stand for.

    Args:
        grid: (b, h, w, 2).

    Returns:
        (b,), in [0, 0.5].
    """
    areas = sample_areas(grid).abs().flatten(1).sort(dim=1).values
    return areas[:, : areas.shape[1] // 2].sum(dim=1) / areas.sum(dim=1)


def _files(trainer: pl.Trainer, batch: Mapping[str, Tensor], split: Split) -> list[str]:
    part = trainer.datamodule.parts[split]  # type: ignore[attr-defined]
    return [str(part.file(index)) for index in batch["index"].tolist()]
