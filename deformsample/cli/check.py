"""``deformsample check``: all that is wrong with a data set, before training."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

from tqdm import tqdm

from deformsample.cli.failures import one_line
from deformsample.errors import ArgumentError, DataError
from deformsample.files.configs import find_config, read_mapping

if TYPE_CHECKING:
    from deformsample.data.checking import Checked, Finding, One


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.description = (
        "Read every image and label file of a data set as training would, and list all "
        "that is wrong at once. The exit code is 1 where training would stop."
    )
    parser.add_argument("--config", required=True, help="config with a data set")
    parser.add_argument("--root", help="folder of the data")
    parser.add_argument("--jobs", type=int, default=2, help="images at a time (%(default)s)")


def run(options: argparse.Namespace) -> None:
    """Check the data set of a config."""
    from deformsample.data.checking import Finding, equal_images

    if options.jobs < 1:
        raise ArgumentError(f"Expected `--jobs` of at least 1, but got {options.jobs}.")
    content = read_mapping(find_config(options.config))
    known = {"segmentation": _segmented, "classification": _labelled}
    task = str(content.get("task", "segmentation"))
    if task not in known:
        raise ArgumentError(f"Expected a `task` of {list(known)}, but got {task!r}.")
    names, checked, faults = known[task](content, options)
    findings = [f for samples in checked.values() for one in samples for f in one.findings]
    findings += [Finding(fault, fatal=True) for fault in faults]
    findings += [*equal_images(checked), *_empty(checked, names)]
    for finding in sorted(findings, key=lambda finding: not finding.fatal):
        print(one_line(("error: " if finding.fatal else "note: ") + finding.text))
    errors = sum(finding.fatal for finding in findings)
    if errors:
        raise DataError(f"{errors} faults of the data would stop training: see above.")
    print(f"nothing would stop training; {len(findings)} notes")


_Found: TypeAlias = "tuple[Sequence[str], dict[str, list[Checked]], Sequence[str]]"
"""Names of the classes, what was checked by split, and faults of the whole."""


def _segmented(content: Mapping[str, Any], options: argparse.Namespace) -> _Found:
    from deformsample.data import Split
    from deformsample.data.checking import check_sample
    from deformsample.data.from_config import build_data

    data = build_data(content, options.root, options.config)
    names = list(data.classes)
    checked: dict[str, list[Checked]] = {}
    faults: dict[str, None] = {}  # each once, in their order
    for split in get_args(Split):
        samples, own = data.dataset.listing(split)
        faults |= dict.fromkeys(own)
        check = partial(check_sample, data.dataset)
        checked[split] = _split(split, samples, check, names, options.jobs)
    return names, checked, list(faults)


def _labelled(content: Mapping[str, Any], options: argparse.Namespace) -> _Found:
    from deformsample.data import ClassificationData, Split
    from deformsample.data.checking import check_labelled
    from deformsample.data.from_config import build_any_data

    data = build_any_data(ClassificationData, content, options.root, options.config)
    names = list(data.classes)
    checked = {
        split: _split(
            split, data.images(split), partial(check_labelled, data.level), names, options.jobs
        )
        for split in get_args(Split)
    }
    return names, checked, []


def _split(
    split: str, samples: Sequence[One], check: Callable[[One], Checked], names: list[str], jobs: int
) -> list[Checked]:
    from deformsample.data.checking import check_all

    progress = partial(tqdm, total=len(samples), desc=split, disable=None)
    checked = check_all(samples, check, jobs, progress)
    print(_summary(split, checked, names))
    return checked


def _summary(split: str, checked: Sequence[Checked], names: Sequence[str]) -> str:
    from deformsample.data.checking import class_shares

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
    from deformsample.data.checking import Finding, class_shares

    found = []
    for split, samples in checked.items():
        if not samples:
            found.append(Finding(f"{split} has no images.", fatal=split != "test"))
            continue
        missing = [name for name, share in class_shares(samples, names).items() if share == 0]
        if missing:
            found.append(Finding(f"{split} has nothing of: {', '.join(missing)}.", fatal=False))
    return found
