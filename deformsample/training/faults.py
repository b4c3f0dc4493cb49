"""Detection of non-finite gradients and collapsed samplers."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from deformsample.data.splits import Split
from deformsample.errors import SamplingError, TrainingError
from deformsample.geometry import sample_areas
from deformsample.geometry.dispatch import is_readable
from deformsample.geometry.mesh import snapped
from deformsample.kernels.checks import check_border
from deformsample.samplers.downsampler import Downsampled, Downsampler, non_finite
from deformsample.training.readback import Readback

COLLAPSED = 0.01
"""Share of the image area; for uniform sampling, half of the samples represent half of the area."""


class _Step(NamedTuple):
    """What is checked after a step of training."""

    facts: Readback
    """1 if all gradients are finite, and the distance of border samples to the border (NaN if
    coordinates are not finite)."""

    number: int
    images: Tensor
    """Numbers of the images, on their device."""


class NonFiniteGuard(pl.Callback):
    """Detects non-finite gradients, invalid sampling locations and collapsed samplers.

    A GPU is never waited for within an epoch: every step is checked in a later one, as soon as its
    results have reached the host, and at the latest at the end of the epoch. On a CPU, gradients
    are checked one step later, and locations at once by the model. A sampler has collapsed if half
    of its samples represent less than a hundredth of an image, which is checked in the first batch
    of every validation. Non-finite sampling locations, and border samples that do not lie on the
    image border, always end the run; the error names the files.

    Args:
        action: ``stop`` ends the run with an error that names the files; ``skip`` sets the
            gradients of such a step to zero, warns, and continues.
    """

    def __init__(self, action: Literal["stop", "skip"] = "stop") -> None:
        self.action = action
        self._index = torch.zeros(0)
        self._sampler = ""
        self._distance: Tensor | None = None
        self._steps: deque[_Step] = deque()
        self._hooks: list[RemovableHandle] = []

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Watch the sampling locations."""
        self._hooks = [
            module.register_forward_hook(self._watch)
            for module in pl_module.modules()
            if isinstance(module, Downsampler)
        ]

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Watch no longer."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._steps.clear()

    def on_train_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Mapping[str, Tensor],
        batch_idx: int,
    ) -> None:
        """Check earlier steps, and keep the numbers of the images of this step."""
        self._check(trainer, wait=False)
        self._index, self._distance = batch["index"], None

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the last steps before a checkpoint is written."""
        self._check(trainer, wait=True)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the last steps before the weights are validated."""
        self._check(trainer, wait=True)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Record whether all gradients are finite."""
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        finite = torch.stack([gradient.norm() for gradient in gradients]).sum().isfinite()
        if self.action == "skip":
            for gradient in gradients:
                gradient.masked_fill_(~finite, 0.0)
        distance = finite.new_zeros((), dtype=torch.float32)
        if self._distance is not None:
            distance = self._distance.float()
        facts = Readback(torch.stack((finite.float(), distance)))
        self._steps.append(_Step(facts, trainer.global_step, self._index))

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Name the files of a failed sampler."""
        if isinstance(exception, SamplingError):
            files = ", ".join(_files(trainer, self._index, "train"))
            rank_zero_warn(f"Files of the failed training step: {files}.")

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
            files = ", ".join(_files(trainer, batch["index"], "val"))
            self._report(
                f"Expected samples all over the images, but half of them lie on {share:.2%} of "
                f"one of {files}: increase the floor of the density, or the weight of its loss."
            )

    def _watch(self, downsampler: Downsampler, _: Any, sampled: Downsampled) -> None:
        # On a CPU the model checks its grid itself.
        if downsampler.training and not is_readable(sampled.grid):
            distance = snapped(sampled.grid)[1].amax()
            earlier = distance if self._distance is None else self._distance
            self._distance = torch.maximum(distance, earlier)
            self._sampler = type(downsampler.sampler).__name__

    def _check(self, trainer: pl.Trainer, *, wait: bool) -> None:
        while self._steps and (wait or self._steps[0].facts.is_ready()):
            facts, number, self._index = self._steps.popleft()
            finite, distance = facts.read().tolist()
            if not math.isfinite(distance):
                raise non_finite(self._sampler)
            check_border(distance)
            if not finite:
                files = ", ".join(_files(trainer, self._index, "train"))
                self._report(
                    f"Expected finite gradients, but those of step {number} are not, for the files "
                    f"{files}: lower the learning rate, or check these files."
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


def _files(trainer: pl.Trainer, index: Tensor, split: Split) -> list[str]:
    items = trainer.datamodule.parts[split]  # type: ignore[attr-defined]
    return [str(items.file(number)) for number in index.tolist()]
