"""Detection of non-finite gradients and collapsed samplers."""

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
"""Share of the image area; for uniform sampling, half of the samples represent half of the area."""


class NonFiniteGuard(pl.Callback):
    """Detects non-finite gradients and collapsed samplers.

    The gradients of every step are checked one step later, without synchronising the GPU. A sampler
    has collapsed if half of its samples represent less than a hundredth of an image, which is
    checked in the first batch of every validation. Non-finite sampling locations always end the
    run; the error names the files.

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
        """Check the previous step, and keep the file names of this step."""
        self._check()
        self._files = _files(trainer, batch, "train")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the last step before a checkpoint is written."""
        self._check()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the last step before its weights are validated."""
        self._check()

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Record whether all gradients are finite."""
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        finite = torch.stack([gradient.norm() for gradient in gradients]).sum().isfinite()
        if self.action == "skip":
            for gradient in gradients:
                gradient.masked_fill_(~finite, 0.0)
        self._last = finite, trainer.global_step, self._files

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Name the files of a failed sampler."""
        if isinstance(exception, SamplingError):
            rank_zero_warn(f"Files of the last training step: {', '.join(self._files)}.")

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
                f"one of {files}: increase the floor of the density, or the weight of its loss."
            )

    def _check(self) -> None:
        if self._last is None:
            return
        finite, step, files = self._last
        self._last = None
        if not bool(finite):
            self._report(
                f"Expected finite gradients, but those of step {step} are not, for the files "
                f"{', '.join(files)}: lower the learning rate, or check these files."
            )

    def _report(self, text: str) -> None:
        if self.action == "stop":
            raise TrainingError(
                f"{text} Earlier checkpoints are kept; NonFiniteGuard's `action: skip` continues."
            )
        rank_zero_warn(text)


def densest_half(grid: Tensor) -> Tensor:
    """The share of the image area that the denser half of the samples represents.

    Args:
        grid: (b, h, w, 2).

    Returns:
        (b,), in [0, 0.5].
    """
    areas = sample_areas(grid).abs().flatten(1).sort(dim=1).values
    return areas[:, : areas.shape[1] // 2].sum(dim=1) / areas.sum(dim=1)


def _files(trainer: pl.Trainer, batch: Mapping[str, Tensor], split: Split) -> list[str]:
    items = trainer.datamodule.parts[split]  # type: ignore[attr-defined]
    return [str(items.file(index)) for index in batch["index"].tolist()]
