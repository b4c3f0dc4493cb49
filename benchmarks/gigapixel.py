"""A slide-sized image in little memory: ``python benchmarks/gigapixel.py [--checkpoint CKPT]``.

Writes a tiled, pyramidal TIFF (NASA's Blue Marble, magnified and repeated), then downsamples it,
and segments it where a model is given, each in a process of its own. The table has the seconds of
each, of these the seconds that reading and decoding tiles takes, and the highest memory, Python and
its libraries included.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile

from deformsample.conventions import Pixels
from deformsample.data import BlueMarble

TILE = 256
LEVELS = 8
MAGNIFICATION = 8


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--side", type=int, default=40_000, help="of the image, in pixels")
    parser.add_argument("--checkpoint", help="checkpoint or shipped model, to segment with")
    parser.add_argument("--folder", type=Path, default=Path("runs/gigapixel"))
    options = parser.parse_args()
    file = options.folder / f"{options.side}.tif"
    if not file.is_file():
        options.folder.mkdir(parents=True, exist_ok=True)
        write_pyramid(file, options.side)
    works = {"downsample by detail": ["downsample", "detail", "--pixels", "250000"]}
    if options.checkpoint:
        works["downsample, learned"] = ["downsample", options.checkpoint]
        works["segment"] = ["segment", options.checkpoint]
    print(f"{options.side} x {options.side} pixels, a file of {file.stat().st_size / 1e6:.0f} MB\n")
    print("| work | seconds | of which reading | memory (MB) |\n|---|---|---|---|")
    print(row("nothing (imports)", []))
    for name, command in works.items():
        print(row(name, [*command, str(file), "--output", str(options.folder / "out")]))


_CODE = """
import pathlib, re, sys, time
from deformsample.cli.main import main
from deformsample.files.slides import TiffImage

seconds, part = [0.0], TiffImage.part
def timed(*given):
    start = time.perf_counter()
    try:
        return part(*given)
    finally:
        seconds[0] += time.perf_counter() - start

TiffImage.part = timed
if sys.argv[1:]:
    main(sys.argv[1:])
status = pathlib.Path("/proc/self/status").read_text()  # getrusage counts the parent
print(seconds[0], re.search(r"VmHWM:\\s+(\\d+)", status).group(1))
"""


def row(name: str, command: list[str]) -> str:
    """Run a command of the package; a line of the table."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _CODE, *command], check=True, capture_output=True, text=True
    )
    seconds = time.perf_counter() - start
    reading, memory = done.stdout.split()[-2:]
    return f"| {name} | {seconds:.1f} | {float(reading):.1f} | {int(memory) / 1024:.0f} |"


def write_pyramid(file: Path, side: int) -> None:
    """Write the image with all its levels, tile by tile."""
    world = BlueMarble()
    picture = np.concatenate([world.read_image(part) for part in world.samples()[:6]], axis=1)
    partial = file.with_suffix(".partial")
    with tifffile.TiffWriter(partial, bigtiff=True) as writer:
        for level in range(LEVELS):
            length = -(-side // 2**level)
            writer.write(
                tiles(picture, length, 2**level),
                shape=(length, length, 3),
                dtype=np.uint8,
                tile=(TILE, TILE),
                photometric="rgb",
                compression="jpeg",
                subifds=0 if level else LEVELS - 1,
                subfiletype=1 if level else 0,
            )
    partial.replace(file)


def tiles(picture: Pixels, length: int, step: int) -> Iterator[Pixels]:
    """The tiles of a level, row by row."""
    count = -(-length // TILE)
    offsets = np.arange(TILE) * step // MAGNIFICATION
    for i in range(count):
        for j in range(count):
            y = (offsets + i * TILE * step // MAGNIFICATION) % picture.shape[0]
            x = (offsets + j * TILE * step // MAGNIFICATION) % picture.shape[1]
            yield np.ascontiguousarray(picture[np.ix_(y, x)])


if __name__ == "__main__":
    main()
