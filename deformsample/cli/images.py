"""``deformsample downsample``, ``segment`` and ``restore``: work on many image files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from deformsample.cli.failures import one_line
from deformsample.errors import ArgumentError, DataError, DeformsampleError
from deformsample.files.images import image_files, write_image
from deformsample.files.label_maps import palette, write_indexed
from deformsample.files.label_tiff import write_label_tiff
from deformsample.files.reading import read_text
from deformsample.files.sampled_png import SampledImage, read_sampled, write_sampled
from deformsample.files.slides import is_large
from deformsample.geometry import unwarp
from deformsample.inference.inputs import as_batch, open_source
from deformsample.inference.loading import UNTRAINED, chosen_device, default_budget, load, untrained
from deformsample.inference.model import SegmentationModel
from deformsample.samplers.downsampler import Downsampled
from deformsample.samplers.image_source import as_pixels

Work = Callable[[Path, Path], None]
"""Read the first file, write the second."""

RESTORED = 1 << 28
"""Pixels of an image up to which it is restored."""


def add_image_commands(commands: Any) -> list[argparse.ArgumentParser]:
    """Options of the commands of this module."""
    downsample = commands.add_parser(
        "downsample",
        help="write each image small, with the places of its samples",
        description="Write each image as a small PNG, which holds the places of its samples too: "
        "`deformsample restore` brings it back to full size.",
    )
    downsample.add_argument(
        "model",
        metavar="MODEL",
        help="checkpoint of a run; or without any training: `detail` (many samples where the image "
        "has detail) or `uniform`",
    )
    downsample.add_argument(
        "--pixels",
        type=int,
        metavar="N",
        help="with `detail` and `uniform`: so many samples at most (default: 1 of 64 pixels)",
    )
    downsample.set_defaults(run=_downsample)

    segment = commands.add_parser("segment", help="write the label map of each image")
    segment.add_argument("model", metavar="CKPT", help="last.ckpt or best.ckpt of a run")
    segment.set_defaults(run=_segment)

    restore = commands.add_parser(
        "restore", help="bring what `downsample` wrote back to full size; needs no checkpoint"
    )
    restore.set_defaults(run=_restore)
    for command in (downsample, segment, restore):
        command.add_argument(
            "images",
            nargs="+",
            metavar="IMAGE",
            help="image file, folder of image files, pattern, or @FILE with one of these a line",
        )
        command.add_argument(
            "--output", required=True, metavar="DIR", type=Path, help="folder to write to"
        )
        command.add_argument("--jobs", type=int, default=1, help="images at a time (%(default)s)")
        command.add_argument(
            "--skip-existing", action="store_true", help="leave images out whose output is there"
        )
    return [downsample, segment, restore]


def _downsample(options: argparse.Namespace) -> None:
    if options.pixels is not None and options.model not in UNTRAINED:
        raise ArgumentError(
            "Expected `--pixels` with `detail` or `uniform` only: a checkpoint has its own budget."
        )
    if options.pixels is not None and options.pixels < 4:
        raise ArgumentError(f"Expected `--pixels` of at least 4, but got {options.pixels}.")
    trained = None
    if options.model not in UNTRAINED:
        trained = load(options.model, options.device, options.trust).downsampler

    @torch.inference_mode()
    def work(source: Path, target: Path) -> None:
        with open_source(source, chosen_device(options.device)) as image:
            size = image.size
            downsampler = trained or untrained(
                options.model, options.pixels or default_budget(size)
            ).to(options.device)
            sampled: Downsampled = downsampler(image)
        of_image = (sampled.image, sampled.grid, sampled.density)
        small, grid, density = (t[0].cpu() for t in of_image)
        held = SampledImage(as_pixels(small), grid.numpy(), density[0].numpy(), size)
        write_sampled(target, held)

    _each(options, work)


def _segment(options: argparse.Namespace) -> None:
    model = load(options.model, options.device, options.trust, kind=SegmentationModel)
    colours = palette(model.classes)

    def work(source: Path, target: Path) -> None:
        if is_large(source):
            with open_source(source, model.device) as image:
                write_label_tiff(model.label_bands(image), image.size, model.classes, target)
        else:
            write_indexed(target, model.segment(source), colours)

    _each(options, work, suffix=lambda source: ".tif" if is_large(source) else ".png")


def _restore(options: argparse.Namespace) -> None:
    def work(source: Path, target: Path) -> None:
        held = read_sampled(source)
        if held.size[0] * held.size[1] > RESTORED:
            raise DataError(
                f"Expected an original of at most {RESTORED:,} pixels, which are restored at once, "
                f"but {source} is of one of {held.size[0]} x {held.size[1]}."
            )
        small = as_batch(held.pixels).float() / 255
        grid = torch.from_numpy(held.grid)[None]
        write_image(target, as_pixels(unwarp(small, grid, held.size)[0]))

    _each(options, work)


def _each(
    options: argparse.Namespace, work: Work, suffix: Callable[[Path], str] = lambda _: ".png"
) -> None:
    """Work on every image; go on after a failure, and report all failures in the end."""
    if options.jobs < 1:
        raise ArgumentError(f"Expected `--jobs` of at least 1, but got {options.jobs}.")
    targets = _targets(listed(options.images), options.output, suffix)
    todo = [pair for pair in targets if not (options.skip_existing and pair[1].is_file())]
    failures: dict[Path, str] = {}
    with ThreadPoolExecutor(options.jobs) as pool:
        jobs = {pool.submit(work, *pair): pair[0] for pair in todo}
        for job in tqdm(as_completed(jobs), total=len(jobs), unit="image", disable=None):
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
    print(done + (f", {skipped} were there already" if skipped else ""))
    if failures:
        first = next(failures[source] for source, _ in todo if source in failures)
        raise DataError(f"{len(failures)} of {len(todo)} images failed: {first}")


def listed(inputs: Sequence[str]) -> list[Path]:
    """The image files that inputs name, in their order, each once.

    Args:
        inputs: files, folders, patterns, or ``@FILE`` with one of these a line.

    Raises:
        DataError: a folder or a pattern without images, or a list that is not there.
    """
    found: dict[Path, None] = {}
    for given in inputs:
        for path in _named(given):
            found[path] = None
    return list(found)


def _named(given: str) -> list[Path]:
    path = Path(given).expanduser()
    if given.startswith("@") and not path.exists():
        source = Path(given[1:]).expanduser()
        lines = [line.strip() for line in read_text(source, "a list of images").splitlines()]
        return listed([line for line in lines if line])
    if path.is_dir():
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
                f"be written to {target}: use one output folder for each."
            )
        if target.resolve() in inputs:
            raise ArgumentError(
                f"Expected an output folder other than that of the images: {target} is an input."
            )
        targets[target] = image
    return [(image, target) for target, image in targets.items()]
