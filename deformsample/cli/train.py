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

from pytorch_lightning import Trainer
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import nn

from deformsample.checkpoints.archive import check_fits
from deformsample.checkpoints.builder import architecture
from deformsample.cli.arguments import named_task, resolve_configs
from deformsample.cli.failures import reported
from deformsample.errors import ArgumentError
from deformsample.files.configs import configs_folder
from deformsample.training.kinds import KINDS
from deformsample.training.resuming import AtomicCheckpointIO, ResumableCSVLogger, StepSeeds
from deformsample.training.run_folder import LAST, is_first_process, last_checkpoint, run_folder

_CLASS_COUNTS = ("num_classes", "classes")
"""What networks call their number of classes: ours, and those of segmentation-models-pytorch."""

_LIGHTNINGS_OWN = ("best", "last", "hpc", "registry")
"""Values of --ckpt_path that name no file."""

_NOISE = (
    "LightningCLI's args parameter",  # they are given as arguments on purpose
    "Checkpoint directory .* exists and is not empty",  # a run goes on in its folder, or it fails
    ".*does not have many workers",  # the configs choose
    "You're resuming from a checkpoint that ended before the epoch",  # the data module does it
    "The number of training batches .* is smaller than the logging interval",
    r"Found \d+ module\(s\) in eval mode",  # on purpose: frozen, or streamed
    "Metric .* will save all targets and predictions",  # a few numbers for each image
    ".*LeafSpec.* is deprecated",  # between Lightning and torch
)
"""Warnings that tell a user nothing to act on."""


class TrainCli(LightningCLI):
    """The parts of a run, from YAML files and the command line.

    Args:
        args: subcommand and options.
        name: of the run, for its folder.
        task: one of ``KINDS``.
        held: keeps the folder of the run to this process.
    """

    def __init__(self, args: Sequence[str], name: str, task: str, held: ExitStack) -> None:
        self.run_name = name
        self.held = held
        self.kind = KINDS[task]
        defaults = [str(configs_folder() / file) for file in self.kind.defaults]
        per_command = {"default_config_files": defaults, "exit_on_error": False}
        super().__init__(
            self.kind.task,
            self.kind.data,
            args=list(args),
            auto_configure_optimizers=False,
            seed_everything_default=0,
            save_config_kwargs={"overwrite": True},  # the folder is new, or the run goes on
            parser_kwargs={
                "exit_on_error": False,
                "prog": "train.py",
                "description": self.kind.purpose,
                **dict.fromkeys(self.subcommands(), per_command),
            },
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The folder of the run, and what the model learns from the data set."""
        parser.add_argument(
            "--output",
            type=str | None,
            default=None,
            help="folder for logs and checkpoints: new or empty, or with `--ckpt_path last` that "
            "of a run that goes on (default: runs/NAME/version_K)",
        )
        parser.add_argument(
            "--task",
            type=Literal[tuple(KINDS)],
            default="segmentation",
            help="what is trained; chooses the classes of `model` and `data`",
        )
        link(parser, self.kind.part)

    def _parse_ckpt_path(self) -> None:
        """Lightning's own looks for hyperparameters, and may execute what else is in the file.

        Runs of this package have none there. :func:`check_fits` reads the file first.
        """

    def _dump_config(self) -> None:
        """Lightning writes the number of classes into it, also of a network without arguments."""
        super()._dump_config()
        part = self.config_dump["model"][self.kind.part]
        part["init_args"]["network"].setdefault("init_args", {})

    def _prepare_subcommand_parser(
        self, klass: type, subcommand: str, **kwargs: Any
    ) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand == "predict":
            # Predictions are written image by image; nobody reads them from memory.
            parser.set_defaults(return_predictions=False)
        return parser

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """A trainer that logs to CSV, and TensorBoard if installed, in the folder of the run."""
        # Files that are missing shall be told of before anything is written.
        self.datamodule.setup(self.subcommand)
        part = self.kind.part
        self.model.architecture = architecture(
            self.config[self.subcommand].model[part].as_dict(),
            _class_count(getattr(self.model, part).network, self.datamodule.num_classes),
        )
        config, parts = self.config[self.subcommand], self.config_init[self.subcommand]
        resume = self.subcommand == "fit" and config.ckpt_path == LAST
        if config.ckpt_path in (LAST, "best") and not resume:
            raise ArgumentError(
                f"Expected a file as `--ckpt_path` of {self.subcommand}, but got "
                f"{config.ckpt_path!r}: only `fit` finds one by itself, by `last`."
            )
        if config.ckpt_path is not None and config.ckpt_path not in _LIGHTNINGS_OWN:
            check_fits(Path(config.ckpt_path).expanduser(), self.model, part)
        folder = self.held.enter_context(
            run_folder(config.output, Path("runs") / self.run_name, resume=resume)
        )
        # Absolute, since a checkpoint knows its folder by that name.
        logs, step = str(folder.absolute()), self._go_on(folder) if resume else 0
        if parts.trainer.logger is None:
            metrics = ResumableCSVLogger(logs, step)
            kwargs["logger"] = [*_tensorboard(logs, step if resume else None), metrics]
        trainer = super().instantiate_trainer(default_root_dir=str(folder), **kwargs)
        trainer.callbacks.insert(0, StepSeeds())  # type: ignore[attr-defined]
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        return trainer

    def _go_on(self, folder: Path) -> int:
        """Take the last checkpoint of a folder, if there is one; returns how many steps it has."""
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
                else f"training goes on from step {steps}, {last}"
            )
        return steps


def link(parser: LightningArgumentParser, part: str) -> None:
    """Let the data set tell the model its classes, and the network of a part their number."""
    parser.link_arguments("data.classes", "model.classes", apply_on="instantiate")
    for name in _CLASS_COUNTS:
        parser.link_arguments(
            "data.num_classes",
            f"model.{part}.init_args.network.init_args.{name}",
            apply_on="instantiate",
        )


def _tensorboard(folder: str, purge_step: int | None) -> list[TensorBoardLogger]:
    """The logger of TensorBoard; none where it is not installed."""
    if find_spec("tensorboard") is not None:
        return [TensorBoardLogger(folder, name="", version="", purge_step=purge_step)]
    if is_first_process():
        print("TensorBoard is not installed: metrics are written to metrics.csv alone")
    return []


def _class_count(network: nn.Module, number: int) -> dict[str, int]:
    parameters = inspect.signature(type(network)).parameters
    return {name: number for name in _CLASS_COUNTS if name in parameters}


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
    with warnings.catch_warnings(), ExitStack() as held:
        for message in _NOISE:
            warnings.filterwarnings("ignore", message=message)
        TrainCli(arguments, "-".join(names) or "run", _known(named_task(arguments)), held)


def _known(task: str) -> str:
    if task not in KINDS:
        raise ArgumentError(f"Expected a `task` of {list(KINDS)}, but got {task!r}.")
    return task


def _is_no_advertisement(record: logging.LogRecord) -> bool:
    return "Tip: For seamless" not in record.getMessage()
