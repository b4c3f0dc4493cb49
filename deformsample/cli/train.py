"""``train.py`` and ``deformsample fit|validate|test|predict``: Lightning's command line."""

from __future__ import annotations

import inspect
import logging
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning import Trainer
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from torch import nn

from deformsample.checkpoint import read_checkpoint
from deformsample.cli.errors import reported
from deformsample.data import SegmentationData
from deformsample.errors import ArgumentError, CheckpointError
from deformsample.shipped import configs_folder
from deformsample.task import SegmentationTask

SUBCOMMANDS = {
    "fit": "train (python train.py)",
    "validate": "measure a checkpoint on the validation split",
    "test": "measure a checkpoint on the test split",
    "predict": "write label maps of a split as the data set's own files are written",
}
DEFAULTS = ("trainer.yaml", "method/learned.yaml")
"""Read before all others: every run starts from these."""

_CLASS_COUNTS = ("num_classes", "classes")
"""What networks call their number of classes: ours, and those of segmentation-models-pytorch."""

_LIGHTNINGS_OWN = ("best", "last", "hpc", "registry")
"""Values of --ckpt_path that name no file."""

_NOISE = (
    "LightningCLI's args parameter",  # they are given as arguments on purpose
    "Experiment logs directory .* exists",  # two loggers share a folder that was new
    ".*does not have many workers",  # the configs choose
    "The number of training batches .* is smaller than the logging interval",
    ".*LeafSpec.* is deprecated",  # between Lightning and torch
)
"""Warnings that tell a user nothing to act on."""


class TrainCli(LightningCLI):
    """The parts of a run, from YAML files and the command line.

    Args:
        args: subcommand and options.
        name: of the run, for its folder.
    """

    def __init__(self, args: Sequence[str], name: str) -> None:
        self.run_name = name
        defaults = [str(configs_folder() / file) for file in DEFAULTS]
        per_command = {"default_config_files": defaults, "exit_on_error": False}
        super().__init__(
            SegmentationTask,
            SegmentationData,
            args=list(args),
            auto_configure_optimizers=False,
            seed_everything_default=0,
            parser_kwargs={
                "exit_on_error": False,
                "prog": "train.py",
                "description": "Train a downsampler and a segmentation network together.",
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
        link(parser)

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
        self.model.architecture = architecture(
            self.config[self.subcommand].model.segmenter.as_dict(),
            _class_count(self.model.segmenter.network, self.datamodule.num_classes),
        )
        checkpoint = self.config[self.subcommand].ckpt_path
        if checkpoint is not None and checkpoint not in _LIGHTNINGS_OWN:
            check_fits(Path(checkpoint).expanduser(), self.model)
        output = self.config[self.subcommand].output
        folder = _new_folder(Path("runs") / self.run_name) if output is None else _empty(output)
        if self.config_init[self.subcommand].trainer.logger is None:
            kwargs["logger"] = [
                logger(str(folder), name="", version="")
                for logger in (TensorBoardLogger, CSVLogger)
            ]
        return super().instantiate_trainer(default_root_dir=str(folder), **kwargs)


def check_fits(checkpoint: Path, task: SegmentationTask) -> None:
    """Make sure that a checkpoint can be loaded into a task.

    Raises:
        CheckpointError: it is none of this package, or of a model with other weights.
    """
    theirs = {key: value.shape for key, value in read_checkpoint(checkpoint)["state_dict"].items()}
    ours = {key: value.shape for key, value in task.state_dict().items()}
    different = sorted(k for k in theirs.keys() | ours.keys() if theirs.get(k) != ours.get(k))
    if different:
        raise CheckpointError(
            f"Expected a checkpoint of the configured model, but {checkpoint} differs in "
            f"{len(different)} weights ({different[0]}, ...): give the config.yaml of its run."
        )


def link(parser: LightningArgumentParser) -> None:
    """Let the data set tell the model its classes."""
    parser.link_arguments("data.classes", "model.classes", apply_on="instantiate")
    for name in _CLASS_COUNTS:
        parser.link_arguments(
            "data.num_classes",
            f"model.segmenter.init_args.network.init_args.{name}",
            apply_on="instantiate",
        )


def architecture(segmenter: Mapping[str, Any], class_count: Mapping[str, int]) -> dict[str, Any]:
    """Class paths and arguments of a segmenter, complete enough to build it again.

    Args:
        segmenter: as configured.
        class_count: what the network gets beside, from the data set.
    """
    init_args = dict(segmenter["init_args"])
    network = dict(init_args["network"])
    network["init_args"] = {**network.get("init_args", {}), **class_count}
    plain: dict[str, Any] = _plain({**segmenter, "init_args": {**init_args, "network": network}})
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
        TrainCli(arguments, name="-".join(names) or "run")


def _is_no_advertisement(record: logging.LogRecord) -> bool:
    return "Tip: For seamless" not in record.getMessage()


def resolve_configs(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Find every ``--config`` in the working directory, or else among the shipped configs.

    Returns:
        The arguments with the found paths, and the stems of the configs.

    Raises:
        ArgumentError: no such file in either place.
    """
    resolved: list[str] = []
    names: list[str] = []
    pending = iter(arguments)
    for argument in pending:
        option, equals, value = argument.partition("=")
        if option not in ("--config", "-c"):
            resolved.append(argument)
            continue
        value = value if equals else next(pending, "")
        found = find_config(value)
        names.append(found.stem)
        resolved += ["--config", str(found)]
    return resolved, names


def find_config(name: str) -> Path:
    """The config of that name in the working directory, or else among the shipped ones."""
    shipped = configs_folder()
    for candidate in (Path(name).expanduser(), shipped / name):
        if candidate.is_file():
            return candidate
    available = sorted(str(file.relative_to(shipped)) for file in shipped.rglob("*.yaml"))
    raise ArgumentError(
        f"Expected a config file after --config, but there is no {name!r} here or in {shipped}. "
        f"Shipped are: {', '.join(available)}."
    )


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
