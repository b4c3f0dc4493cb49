"""Batch processing of image files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from deformsample.cli.failures import one_line
from deformsample.errors import ArgumentError, DataError, DeformsampleError
from deformsample.files.images import ZARR_SUFFIX, image_files
from deformsample.files.reading import read_text

Item = TypeVar("Item")
Work = Callable[[Path, Path], None]
"""Reads the first file and writes the second."""


def add_batch_arguments(parser: argparse.ArgumentParser) -> None:
    """Options for input images and output files."""
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="image file, folder of image files, pattern, or @FILE with one of these per line",
    )
    parser.add_argument(
        "--output", required=True, metavar="DIR", type=Path, help="folder to write to"
    )
    parser.add_argument(
        "--jobs", type=int, default=1, help="number of parallel images (%(default)s)"
    )
    parser.add_argument(
        "--skip-existing", action="store_true", help="skip images whose output exists"
    )


def process_each(
    options: argparse.Namespace,
    work: Work,
    suffix: Callable[[Path], str] = lambda _: ".png",
    is_done: Callable[[Path, Path], bool] = lambda _, target: target.is_file(),
) -> None:
    """Process every image; continue after failures, and report them at the end.

    Args:
        options: those of :func:`add_batch_arguments`.
        work: processes an image.
        suffix: suffix of the target of an image.
        is_done: whether the outputs of an image and its target exist, for ``--skip-existing``.
    """
    if options.jobs < 1:
        raise ArgumentError(f"Expected `--jobs` of at least 1, but got {options.jobs}.")
    if options.output.exists() and not options.output.is_dir():
        raise ArgumentError(f"Expected `--output` to be a folder, but {options.output} is a file.")
    targets = _targets(listed(options.images), options.output, suffix)
    todo = [pair for pair in targets if not (options.skip_existing and is_done(*pair))]
    failures: dict[Path, str] = {}
    with ThreadPoolExecutor(options.jobs) as pool:
        jobs = {pool.submit(work, *pair): pair[0] for pair in todo}
        for job in with_progress(as_completed(jobs), len(jobs), "images"):
            try:
                job.result()
            except DeformsampleError as error:
                failures[jobs[job]] = str(error)
                tqdm.write(one_line(f"failed: {error}"), file=sys.stderr)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    done = f"{len(todo) - len(failures)} of {len(targets)} images written to {options.output}"
    skipped = len(targets) - len(todo)
    print(done + (f", {skipped} skipped" if skipped else ""))
    if failures:
        first = next(failures[source] for source, _ in todo if source in failures)
        raise DataError(f"{len(failures)} of {len(todo)} images failed: {first}")


def with_progress(items: Iterable[Item], total: int, label: str) -> Iterator[Item]:
    """The items, with a progress bar on a terminal, or a line per tenth in a log file.

    Args:
        items: items that take time.
        total: number of items; for fewer than ten, a log file has no lines.
        label: what is processed.
    """
    if sys.stderr.isatty():
        yield from tqdm(items, total=total, desc=label)
        return
    for done, item in enumerate(items, start=1):
        yield item
        if total >= 10 and done * 10 // total > (done - 1) * 10 // total:
            print(f"{label}: {done} of {total}", file=sys.stderr, flush=True)


def listed(inputs: Sequence[str]) -> list[Path]:
    """The image files of inputs, in order and without duplicates.

    Args:
        inputs: files, folders, patterns, or ``@FILE`` with one of these per line.

    Raises:
        DataError: a folder or a pattern without images, or a missing list.
    """
    return list(dict.fromkeys(path for given in inputs for path in _named(given)))


def _named(given: str) -> list[Path]:
    path = Path(given).expanduser()
    if given.startswith("@") and not path.exists():
        source = Path(given[1:]).expanduser()
        lines = [line.strip() for line in read_text(source, "a list of images").splitlines()]
        return listed([line for line in lines if line])
    if path.is_dir() and path.suffix.lower() != ZARR_SUFFIX:
        files = image_files(path)
    elif not path.exists() and any(sign in given for sign in "*?["):
        files = sorted(Path(path.anchor or ".").glob(str(path.relative_to(path.anchor))))
    else:
        return [path]
    if not files:
        raise DataError(f"Expected image files in {given}, but found none.")
    return files


def _targets(
    images: Sequence[Path], output: Path, suffix: Callable[[Path], str]
) -> list[tuple[Path, Path]]:
    targets: dict[Path, Path] = {}
    inputs = {image.resolve() for image in images}
    for image in images:
        target = output / f"{image.stem}{suffix(image)}"
        if target in targets:
            raise ArgumentError(
                f"Expected images of different names, but {targets[target]} and {image} would both "
                f"be written to {target}: use different output folders."
            )
        if target.resolve() in inputs:
            raise ArgumentError(
                f"Expected an output folder without input images, but {target} is an input."
            )
        targets[target] = image
    return [(image, target) for target, image in targets.items()]
