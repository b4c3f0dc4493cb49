"""``deformsample check``: check a data set before training."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from deformsample.cli.batch import with_progress
from deformsample.cli.failures import one_line
from deformsample.errors import ArgumentError, DataError
from deformsample.files.configs import find_config, read_mapping

if TYPE_CHECKING:
    from deformsample.data import (
        ClassificationDataModule,
        ClassificationSample,
        SegmentationDataModule,
        SegmentationSample,
    )
    from deformsample.data.checking import Checked, Finding, Sample


UNITS = {"segmentation": "labelled pixels", "classification": "images"}
"""What the shares of classes count, by task."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.description = (
        "Read every image and label file of a data set as training would, and list all "
        "errors. The exit code is 1 if training would stop."
    )
    parser.add_argument("--config", required=True, help="config with a data set")
    parser.add_argument("--root", help="folder of the data")
    parser.add_argument(
        "--jobs", type=int, default=2, help="number of parallel images (%(default)s)"
    )


def run(options: argparse.Namespace) -> None:
    """Check the data set of a config."""
    from deformsample.data import ClassificationDataModule, SegmentationDataModule
    from deformsample.data.checking import Finding, equal_images
    from deformsample.data.from_config import build_any_data

    tasks: dict[str, tuple[type[Any], Callable[[Any], Callable[[Any], Checked]]]] = {
        "segmentation": (SegmentationDataModule, _segmentation),
        "classification": (ClassificationDataModule, _classification),
    }

    if options.jobs < 1:
        raise ArgumentError(f"Expected `--jobs` of at least 1, but got {options.jobs}.")
    content = read_mapping(find_config(options.config))
    task = str(content.get("task", "segmentation"))
    if task not in tasks:
        raise ArgumentError(f"Expected a `task` of {list(tasks)}, but got {task!r}.")
    module, check_of = tasks[task]
    data = build_any_data(module, content, options.root, options.config)
    names = list(data.dataset.classes)
    samples, faults = data.dataset.listing()
    check = check_of(data)
    try:
        splits = data.place(samples)
    except DataError as error:  # such as an image of a split file without labels
        splits, faults = {"all": samples}, [*faults, str(error)]
    checked = {
        split: _split(split, in_split, check, options.jobs) for split, in_split in splits.items()
    }
    if names:
        print("\n".join(_share_table(checked, names, UNITS[task])))
    findings = [f for in_split in checked.values() for sample in in_split for f in sample.findings]
    findings += [Finding(fault, fatal=True) for fault in faults]
    findings += [*equal_images(checked), *_empty(checked, names)]
    for finding in sorted(findings, key=lambda finding: not finding.fatal):
        print(one_line(("error: " if finding.fatal else "note: ") + finding.text))
    errors = sum(finding.fatal for finding in findings)
    notes = len(findings) - errors
    if errors:
        raise DataError(
            f"Expected a data set without errors, but found {errors}: correct those listed above."
        )
    print("no errors" + (f", {notes} note{'s' * (notes > 1)}" if notes else ""))


def _segmentation(data: SegmentationDataModule) -> Callable[[SegmentationSample], Checked]:
    from deformsample.data.checking import check_segmentation

    return partial(check_segmentation, data.dataset)


def _classification(data: ClassificationDataModule) -> Callable[[ClassificationSample], Checked]:
    from deformsample.data.checking import check_classification

    return partial(check_classification, data.level)


def _split(
    split: str,
    samples: Sequence[Sample],
    check: Callable[[Sample], Checked],
    jobs: int,
) -> list[Checked]:
    from deformsample.data.checking import check_all

    progress = partial(with_progress, total=len(samples), label=split)
    checked = check_all(samples, check, jobs, progress)
    print(_summary(split, checked))
    return checked


def _summary(split: str, checked: Sequence[Checked]) -> str:
    sizes = sorted(
        {sample.size for sample in checked if sample.counts is not None},
        key=lambda size: size[0] * size[1],
    )
    if not sizes:
        return f"{split}: {len(checked)} images"
    ends = " to ".join(f"{h} x {w}" for h, w in dict.fromkeys((sizes[0], sizes[-1])))
    return f"{split}: {len(checked)} images of {ends} pixels"


def _share_table(
    checked: dict[str, list[Checked]], names: Sequence[str], unit: str
) -> Iterator[str]:
    """The lines of a table of classes in the order of their ids, with their shares by split."""
    from deformsample.data.checking import class_shares

    shares = [class_shares(samples, names) for samples in checked.values() if samples]
    width = max(map(len, ("class", *names)))
    yield f"class shares of {unit}:"
    yield f"{'id':>4}  {'class':{width}}" + "".join(f"{x:>9}" for x, y in checked.items() if y)
    for class_id, name in enumerate(names):
        values = "".join(f"{of_split[name]:9.2%}" for of_split in shares)
        yield f"{class_id:4}  {name:{width}}{values}"


def _empty(checked: dict[str, list[Checked]], names: Sequence[str]) -> list[Finding]:
    from deformsample.data.checking import Finding, class_shares

    findings = []
    for split, samples in checked.items():
        if not samples:
            findings.append(Finding(f"{split} has no images.", fatal=split != "test"))
            continue
        missing = [name for name, share in class_shares(samples, names).items() if share == 0]
        if missing:
            text = f"{split} has no pixels or images of: {', '.join(missing)}."
            findings.append(Finding(text, fatal=False))
    return findings
