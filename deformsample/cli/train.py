"""``train.py`` and ``deformsample fit|validate|test|predict``: Lightning's command line."""

from __future__ import annotations

import inspect
import logging
import sys
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import ProgressBar, TQDMProgressBar
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import nn

from deformsample.checkpoints.archive import check_classes, check_fits
from deformsample.checkpoints.builder import architecture
from deformsample.cli.arguments import named_task, resolve_configs
from deformsample.cli.failures import reported
from deformsample.data.augmentation import ignore_padding_by_default
from deformsample.errors import ArgumentError
from deformsample.files.configs import configs_folder
from deformsample.training.kinds import KINDS
from deformsample.training.progress import LineProgress
from deformsample.training.resuming import AtomicCheckpointIO, ResumableCSVLogger, StepSeeds
from deformsample.training.run_folder import LAST, is_first_process, last_checkpoint, run_folder

_GPU_BAR_STEPS = 10

_CLASS_COUNTS = ("num_classes", "classes")
"""Arguments for the number of classes: of this package, and of segmentation-models-pytorch."""

_CKPT_KEYWORDS = ("best", "last", "hpc", "registry")
"""Values of --ckpt_path that are no files."""

_NOISE = (
    "LightningCLI's args parameter",  # used on purpose
    "Checkpoint directory .* exists and is not empty",  # `run_folder` checks it
    ".*does not have many workers",  # set by configs
    "You're resuming from a checkpoint that ended before the epoch",  # handled by the data module
    "The number of training batches .* is smaller than the logging interval",
    r"Found \d+ module\(s\) in eval mode",  # frozen or streamed
    "Metric .* will save all targets and predictions",  # they are small
    "It is recommended to use .*sync_dist=True",  # metrics are of all processes
    ".*LeafSpec.* is deprecated",  # between Lightning and torch
    r"\s*Dump of a value .*: a tuple is serialized as list",  # defaults of albumentations
)
"""Warnings that need no action."""


class TrainCli(LightningCLI):
    """Builds trainer, model and data of a run from YAML files and the command line.

    Args:
        args: subcommand and options.
        name: name of the run, for its folder.
        task: one of ``KINDS``.
        resources: closes the lock of the run folder.
    """

    def __init__(self, args: Sequence[str], name: str, task: str, resources: ExitStack) -> None:
        self.run_name = name
        self.resources = resources
        self.kind = KINDS[task]
        ignore_padding_by_default()
        defaults = [str(configs_folder() / file) for file in self.kind.defaults]
        per_command = {"default_config_files": defaults, "exit_on_error": False}
        super().__init__(
            self.kind.task,
            self.kind.data,
            args=list(args),
            auto_configure_optimizers=False,
            seed_everything_default=0,
            save_config_kwargs={"overwrite": True},  # `run_folder` checks the folder
            parser_kwargs={
                "exit_on_error": False,
                "prog": "train.py",
                "description": self.kind.purpose,
                **dict.fromkeys(self.subcommands(), per_command),
            },
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add `--output`, `--task` and the links from the data set to the model."""
        parser.add_argument(
            "--output",
            type=str | None,
            default=None,
            help="folder for logs and checkpoints: new or empty, or with `--ckpt_path last` that "
            "of the run to resume (default: runs/NAME/version_K)",
        )
        parser.add_argument(
            "--task",
            type=Literal[tuple(KINDS)],
            default="segmentation",
            help="the task; sets the classes of `model` and `data`",
        )
        link(parser, self.kind.part)

    def _parse_ckpt_path(self) -> None:
        """Do not read hyperparameters from the checkpoint, which could execute code.

        :func:`check_fits` checks the file.
        """

    def _dump_config(self) -> None:
        """Add `init_args` to networks without arguments, where Lightning sets linked arguments."""
        super()._dump_config()
        part = self.config_dump["model"][self.kind.part]
        part["init_args"]["network"].setdefault("init_args", {})

    def _prepare_subcommand_parser(
        self, klass: type, subcommand: str, **kwargs: Any
    ) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand == "predict":
            # Predictions are written image by image, not kept in memory.
            parser.set_defaults(return_predictions=False)
        return parser

    def instantiate_classes(self) -> None:
        """Build everything; pretrained weights are not downloaded if a checkpoint replaces them."""
        config = self.config[self.subcommand]
        network = config.model[self.kind.part].init_args.network.get("init_args") or {}
        weights = network.get("weights")
        replaced = weights in ("auto", "hub") and _has_checkpoint(config.ckpt_path, config.output)
        if replaced:
            network["weights"] = None
        super().instantiate_classes()
        if replaced:
            network["weights"] = weights  # for the config of the run

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """A trainer that logs to CSV, and TensorBoard if installed, in the folder of the run."""
        config, parts = self.config[self.subcommand], self.config_init[self.subcommand]
        if self.subcommand != "fit" and config.ckpt_path is None:
            raise ArgumentError(
                f"Expected `--ckpt_path FILE` with {self.subcommand}, but got none: without a "
                "checkpoint, weights are random."
            )
        # Report missing files before anything is written.
        self.datamodule.setup(self.subcommand)
        part = self.kind.part
        self.model.architecture = architecture(
            config.model[part].as_dict(),
            _class_count(getattr(self.model, part).network, self.datamodule.num_classes),
        )
        resume = self.subcommand == "fit" and config.ckpt_path == LAST
        if config.ckpt_path in (LAST, "best") and not resume:
            raise ArgumentError(
                f"Expected a file as `--ckpt_path` of {self.subcommand}, but got "
                f"{config.ckpt_path!r}: only `fit` accepts `last`."
            )
        if config.ckpt_path is not None and config.ckpt_path not in _CKPT_KEYWORDS:
            content = check_fits(Path(config.ckpt_path).expanduser(), self.model, part)
            if self.subcommand != "fit":
                trained = content["deformsample"]["classes"]
                check_classes(trained, self.datamodule.classes, config.ckpt_path, "the data set")
        folder = self.resources.enter_context(
            run_folder(config.output, Path("runs") / self.run_name, resume=resume)
        )
        # Absolute, since checkpoints store the path of their folder.
        logs, step = str(folder.absolute()), self._resume(folder) if resume else 0
        if parts.trainer.logger is None:
            metrics = ResumableCSVLogger(logs, step)
            kwargs["logger"] = [*_tensorboard(logs, step if resume else None), metrics]
        if parts.trainer.enable_progress_bar is not False:
            parts.trainer.callbacks = _with_progress(parts.trainer.callbacks or [])
        try:
            trainer = super().instantiate_trainer(default_root_dir=str(folder), **kwargs)
        except (MisconfigurationException, TypeError, ValueError) as error:  # such as no GPU
            raise ArgumentError(f"Cannot use these options of `trainer`: {error}") from error
        trainer.callbacks.insert(0, StepSeeds())  # type: ignore[attr-defined]
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        return trainer

    def _resume(self, folder: Path) -> int:
        """Set the last checkpoint of a folder, if there is one; returns its number of steps."""
        parts = self.config_init[self.subcommand]
        last = last_checkpoint(folder, parts.trainer.callbacks or [])
        parts.ckpt_path = None if last is None else str(last)
        steps = 0
        if last is not None:
            steps = int(check_fits(last, self.model, self.kind.part)["global_step"])
        if is_first_process():
            print(
                f"no checkpoint in {folder} yet: training starts from the beginning"
                if last is None
                else f"training resumes from step {steps}, {last}"
            )
        return steps


def link(parser: LightningArgumentParser, part: str) -> None:
    """Link the classes of the data set to the model, and their number to its network."""
    parser.link_arguments("data.classes", "model.classes", apply_on="instantiate")
    for name in _CLASS_COUNTS:
        parser.link_arguments(
            "data.num_classes",
            f"model.{part}.init_args.network.init_args.{name}",
            apply_on="instantiate",
        )


def _has_checkpoint(ckpt_path: str | None, output: str | None) -> bool:
    """Whether a run starts from a checkpoint. A first run with ``--ckpt_path last`` does not."""
    if ckpt_path != LAST or output is None:
        return ckpt_path is not None
    return any(Path(output).expanduser().glob(f"checkpoints/{LAST}*.ckpt"))


def _with_progress(callbacks: list[Callback]) -> list[Callback]:
    """The callbacks with progress for a log file or a GPU, unless they have any."""
    if any(isinstance(callback, ProgressBar) for callback in callbacks):
        return callbacks
    if not sys.stdout.isatty():
        return [*callbacks, LineProgress()]
    # A bar reads the loss when it is drawn, for which a GPU stops.
    return [*callbacks, TQDMProgressBar(_GPU_BAR_STEPS)] if torch.cuda.is_available() else callbacks


def _tensorboard(folder: str, purge_step: int | None) -> list[TensorBoardLogger]:
    """The logger of TensorBoard, if it is installed."""
    if find_spec("tensorboard") is not None:
        return [TensorBoardLogger(folder, name="", version="", purge_step=purge_step)]
    if is_first_process():
        print("TensorBoard is not installed: metrics are written only to metrics.csv")
    return []


def _class_count(network: nn.Module, count: int) -> dict[str, int]:
    parameters = inspect.signature(type(network)).parameters
    return {name: count for name in _CLASS_COUNTS if name in parameters}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in given
    return reported(lambda: _run([x for x in given if x != "--debug"]), debug=debug)


def _run(given: list[str]) -> None:
    if not given or given[0] not in {*TrainCli.subcommands(), "-h", "--help"}:
        given = ["fit", *given]
    arguments, names = resolve_configs(given)
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(_is_no_advertisement)
    with warnings.catch_warnings(), ExitStack() as resources:
        for message in _NOISE:
            warnings.filterwarnings("ignore", message=message)
        TrainCli(arguments, "-".join(names) or "run", _known(named_task(arguments)), resources)


def _known(task: str) -> str:
    if task not in KINDS:
        raise ArgumentError(f"Expected a `task` of {list(KINDS)}, but got {task!r}.")
    return task


def _is_no_advertisement(record: logging.LogRecord) -> bool:
    return "Tip: For seamless" not in record.getMessage()
