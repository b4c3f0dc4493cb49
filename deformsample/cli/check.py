"""``deformsample check``: all that is wrong with a data set, before training."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from tqdm import tqdm

from deformsample.cli.failures import one_line
from deformsample.data import ClassificationDataModule, SegmentationDataModule
from deformsample.data.checking import (
    Checked,
    Finding,
    One,
    check_all,
    check_classification,
    check_segmentation,
    class_shares,
    equal_images,
)
from deformsample.data.datamodule import ImageDataModule
from deformsample.data.from_config import build_any_data
from deformsample.errors import ArgumentError, DataError
from deformsample.files.configs import find_config, read_mapping


def add_check(commands: Any) -> argparse.ArgumentParser:
    """Options of ``deformsample check``."""
    command: argparse.ArgumentParser = commands.add_parser(
        "check",
        help="read a whole data set, and list all that is wrong with it",
        description="Read every image and label file of a data set as training would, and list all "
        "that is wrong at once. The exit code is 1 where training would stop.",
    )
    command.add_argument("--config", required=True, help="config with a data set")
    command.add_argument("--root", help="folder of the data")
    command.add_argument("--jobs", type=int, default=2, help="images at a time (%(default)s)")
    command.set_defaults(run=_check)
    return command


def _check(options: argparse.Namespace) -> None:
    if options.jobs < 1:
        raise ArgumentError(f"Expected `--jobs` of at least 1, but got {options.jobs}.")
    content = read_mapping(find_config(options.config))
    task = str(content.get("task", "segmentation"))
    if task not in _CHECKS:
        raise ArgumentError(f"Expected a `task` of {list(_CHECKS)}, but got {task!r}.")
    module, check = _CHECKS[task]
    data = build_any_data(module, content, options.root, options.config)
    names = list(data.dataset.classes)
    samples, faults = data.dataset.listing()
    checked = {
        split: _split(split, placed, partial(check, data), names, options.jobs)
        for split, placed in data.place(samples).items()
    }
    findings = [f for samples in checked.values() for one in samples for f in one.findings]
    findings += [Finding(fault, fatal=True) for fault in faults]
    findings += [*equal_images(checked), *_empty(checked, names)]
    for finding in sorted(findings, key=lambda finding: not finding.fatal):
        print(one_line(("error: " if finding.fatal else "note: ") + finding.text))
    errors = sum(finding.fatal for finding in findings)
    if errors:
        raise DataError(f"{errors} faults of the data would stop training: see above.")
    print(f"nothing would stop training; {len(findings)} notes")


_CHECKS: dict[str, tuple[type[ImageDataModule[Any]], Callable[[Any, Any], Checked]]] = {
    "segmentation": (
        SegmentationDataModule,
        lambda data, sample: check_segmentation(data.dataset, sample),
    ),
    "classification": (
        ClassificationDataModule,
        lambda data, sample: check_classification(data.level, sample),
    ),
}
"""By task: the data module, and what reads one sample of it."""


def _split(
    split: str, samples: Sequence[One], check: Callable[[One], Checked], names: list[str], jobs: int
) -> list[Checked]:
    progress = partial(tqdm, total=len(samples), desc=split, disable=None)
    checked = check_all(samples, check, jobs, progress)
    print(_summary(split, checked, names))
    return checked


def _summary(split: str, checked: Sequence[Checked], names: Sequence[str]) -> str:
    sizes = sorted(
        {one.size for one in checked if one.counts is not None}, key=lambda s: s[0] * s[1]
    )
    if not sizes:
        return f"{split}: {len(checked)} images"
    ends = " to ".join(f"{h} x {w}" for h, w in dict.fromkeys((sizes[0], sizes[-1])))
    shares = class_shares(checked, names)
    listed = ", ".join(f"{name} {share:.2%}" for name, share in shares.items())
    return f"{split}: {len(checked)} images of {ends} pixels" + (f"; {listed}" if names else "")


def _empty(checked: dict[str, list[Checked]], names: Sequence[str]) -> list[Finding]:
    found = []
    for split, samples in checked.items():
        if not samples:
            found.append(Finding(f"{split} has no images.", fatal=split != "test"))
            continue
        missing = [name for name, share in class_shares(samples, names).items() if share == 0]
        if missing:
            found.append(Finding(f"{split} has nothing of: {', '.join(missing)}.", fatal=False))
    return found
