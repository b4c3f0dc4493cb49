"""``train.py`` and ``deformsample fit|validate|test|predict``: Lightning's command line."""

from __future__ import annotations

import inspect
import logging
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pytorch_lightning import Trainer
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from torch import nn

from deformsample.checkpoint import read_checkpoint
from deformsample.cli.configs import named_task, resolve_configs
from deformsample.cli.errors import reported
from deformsample.cli.kinds import KINDS
from deformsample.errors import ArgumentError, CheckpointError
from deformsample.shipped import configs_folder

SUBCOMMANDS = {
    "fit": "train (python train.py)",
    "validate": "measure a checkpoint on the validation split",
    "test": "measure a checkpoint on the test split",
    "predict": "write label maps, or scores, of a split",
}

_CLASS_COUNTS = ("num_classes", "classes")
"""What networks call their number of classes: ours, and those of segmentation-models-pytorch."""

_LIGHTNINGS_OWN = ("best", "last", "hpc", "registry")
"""Values of --ckpt_path that name no file."""

_NOISE = (
    "LightningCLI's args parameter",  # they are given as arguments on purpose
    "Experiment logs directory .* exists",  # two loggers share a folder that was new
    ".*does not have many workers",  # the configs choose
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
    """

    def __init__(self, args: Sequence[str], name: str, task: str) -> None:
        self.run_name = name
        self.kind = KINDS[task]
        defaults = [str(configs_folder() / file) for file in self.kind.defaults]
        per_command = {"default_config_files": defaults, "exit_on_error": False}
        super().__init__(
            self.kind.task,
            self.kind.data,
            args=list(args),
            auto_configure_optimizers=False,
            seed_everything_default=0,
            parser_kwargs={
                "exit_on_error": False,
                "prog": "train.py",
                "description": self.kind.purpose,
                **dict.fromkeys(SUBCOMMANDS, per_command),
            },
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The folder of the run, and what the model learns from the data set."""
        parser.add_argument(
            "--output",
            type=str | None,
            default=None,
            help="folder for logs and checkpoints, new or empty (default: runs/NAME/version_K)",
        )
        parser.add_argument(
            "--task",
            type=Literal[tuple(KINDS)],
            default="segmentation",
            help="what is trained; chooses the classes of `model` and `data`",
        )
        link(parser, self.kind.part)

    def _prepare_subcommand_parser(
        self, klass: type, subcommand: str, **kwargs: Any
    ) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand == "predict":
            # Predictions are written image by image; nobody reads them from memory.
            parser.set_defaults(return_predictions=False)
        return parser

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """A trainer that logs to TensorBoard and CSV in the folder of the run."""
        # Files that are missing shall be told of before anything is written.
        self.datamodule.setup(self.subcommand)
        part = self.kind.part
        self.model.architecture = architecture(
            self.config[self.subcommand].model[part].as_dict(),
            _class_count(getattr(self.model, part).network, self.datamodule.num_classes),
        )
        checkpoint = self.config[self.subcommand].ckpt_path
        if checkpoint is not None and checkpoint not in _LIGHTNINGS_OWN:
            check_fits(Path(checkpoint).expanduser(), self.model, part)
        output = self.config[self.subcommand].output
        folder = _new_folder(Path("runs") / self.run_name) if output is None else _empty(output)
        if self.config_init[self.subcommand].trainer.logger is None:
            kwargs["logger"] = [
                logger(str(folder), name="", version="")
                for logger in (TensorBoardLogger, CSVLogger)
            ]
        return super().instantiate_trainer(default_root_dir=str(folder), **kwargs)


def check_fits(checkpoint: Path, task: nn.Module, part: str) -> None:
    """Make sure that a checkpoint can be loaded into a task.

    Args:
        checkpoint: file.
        task: what it is loaded into.
        part: what the checkpoint should describe, as of :func:`read_checkpoint`.

    Raises:
        CheckpointError: it is none of this package, or of a model with other weights.
    """
    weights = read_checkpoint(checkpoint, part)["state_dict"]
    theirs = {key: value.shape for key, value in weights.items()}
    ours = {key: value.shape for key, value in task.state_dict().items()}
    different = sorted(k for k in theirs.keys() | ours.keys() if theirs.get(k) != ours.get(k))
    if different:
        raise CheckpointError(
            f"Expected a checkpoint of the configured model, but {checkpoint} differs in "
            f"{len(different)} weights ({different[0]}, ...): give the config.yaml of its run."
        )


def link(parser: LightningArgumentParser, part: str) -> None:
    """Let the data set tell the model its classes, and the network of a part their number."""
    parser.link_arguments("data.classes", "model.classes", apply_on="instantiate")
    for name in _CLASS_COUNTS:
        parser.link_arguments(
            "data.num_classes",
            f"model.{part}.init_args.network.init_args.{name}",
            apply_on="instantiate",
        )


def architecture(part: Mapping[str, Any], class_count: Mapping[str, int]) -> dict[str, Any]:
    """Class paths and arguments of a segmenter or classifier, complete enough to build it.

    Args:
        part: as configured.
        class_count: what the network gets beside, from the data set.
    """
    init_args = dict(part["init_args"])
    network = dict(init_args["network"])
    network["init_args"] = {**network.get("init_args", {}), **class_count}
    plain: dict[str, Any] = _plain({**part, "init_args": {**init_args, "network": network}})
    return plain


def _class_count(network: nn.Module, number: int) -> dict[str, int]:
    parameters = inspect.signature(type(network)).parameters
    return {name: number for name in _CLASS_COUNTS if name in parameters}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in given
    return reported(lambda: _run([x for x in given if x != "--debug"]), debug=debug)


def _run(given: list[str]) -> None:
    if not given or given[0] not in {*SUBCOMMANDS, "-h", "--help"}:
        given = ["fit", *given]
    arguments, names = resolve_configs(given)
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(_is_no_advertisement)
    with warnings.catch_warnings():
        for message in _NOISE:
            warnings.filterwarnings("ignore", message=message)
        TrainCli(arguments, name="-".join(names) or "run", task=_known(named_task(arguments)))


def _known(task: str) -> str:
    if task not in KINDS:
        raise ArgumentError(f"Expected a `task` of {list(KINDS)}, but got {task!r}.")
    return task


def _is_no_advertisement(record: logging.LogRecord) -> bool:
    return "Tip: For seamless" not in record.getMessage()


def _new_folder(parent: Path) -> Path:
    numbers = [
        int(folder.name.removeprefix("version_"))
        for folder in parent.glob("version_*")
        if folder.name.removeprefix("version_").isdigit()
    ]
    return parent / f"version_{max(numbers, default=-1) + 1}"


def _empty(output: str) -> Path:
    folder = Path(output).expanduser()
    started_by_another_process = "LOCAL_RANK" in os.environ
    if folder.is_dir() and any(folder.iterdir()) and not started_by_another_process:
        raise ArgumentError(
            f"Expected `--output` to be a new or empty folder, but {folder} holds files, which a "
            "new run would overwrite: choose another, or remove it."
        )
    return folder


def _plain(value: Any) -> Any:
    """Only dictionaries, lists and scalars, as a checkpoint may hold them.

    Files of ``weights`` are left out: those of the checkpoint take their place.
    """
    if isinstance(value, Mapping):
        return {str(key): None if key == "weights" else _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (bool, int, float, type(None))) else str(value)
