"""Many images in one process: ``python benchmarks/load.py --images 10000``.

Runs the command line of ``deformsample segment`` on a folder of small images, and looks, about a
hundred times on the way, at this process's memory, open files, threads and child processes. What
grows between the second tenth of the images and the last one is a leak. Linux only.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image

from deformsample.checkpoints.archive import FORMAT
from deformsample.checkpoints.builder import build_part
from deformsample.cli.main import main as deformsample
from deformsample.segmenters import Segmenter


@dataclass
class Held:
    """Resources of this process at one time."""

    images: int
    memory_mb: float
    files: int
    threads: int
    children: int


def main() -> int:
    """Print the resources over time, and their growth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--allowed", type=float, default=32, help="growth, in MB (%(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder / "images", options.images)
        write_checkpoint(folder / "last.ckpt")
        moments: list[Held] = []
        ended = threading.Event()
        arguments = (folder / "out", options.images, moments, ended)
        watch = threading.Thread(target=look, args=arguments)
        watch.start()
        begin = time.monotonic()
        command = ["segment", str(folder / "last.ckpt"), str(folder / "images")]
        code = deformsample([*command, f"--output={folder / 'out'}", f"--jobs={options.jobs}"])
        seconds = time.monotonic() - begin
        ended.set()
        watch.join()
    return code or told(moments, options.images, seconds, options.allowed)


def told(moments: list[Held], images: int, seconds: float, allowed: float) -> int:
    """Print the table and the growth; returns the exit code."""
    print(" | ".join(field.name for field in fields(Held)))
    for moment in moments[:: max(1, len(moments) // 10)]:
        print(" | ".join(f"{value:.0f}" for value in astuple(moment)))
    # The minimum of each phase counts, since files can be open at single times.
    early = [moment for moment in moments if 0.1 * images <= moment.images < 0.2 * images]
    late = [moment for moment in moments if moment.images >= 0.9 * images]
    growth = [
        min(getattr(moment, field.name) for moment in late)
        - min(getattr(moment, field.name) for moment in early)
        for field in fields(Held)[1:]
    ]
    print(
        f"{images} images in {seconds:.0f} s; from the second tenth to the last: memory "
        f"{growth[0]:+.1f} MB, files {growth[1]:+d}, threads {growth[2]:+d}, processes "
        f"{growth[3]:+d}"
    )
    return int(growth[0] > allowed or any(growth[1:]))


def look(output: Path, images: int, moments: list[Held], ended: threading.Event) -> None:
    """Record resources after every hundredth of the images."""
    process = Path("/proc/self")
    while not ended.wait(0.2):
        done = sum(1 for _ in output.glob("[!.]*.png")) if output.is_dir() else 0
        if done and done >= (moments[-1].images if moments else 0) + images / 100:
            pages = int((process / "statm").read_text().split()[1])
            tasks = list((process / "task").iterdir())
            children = sum(len((task / "children").read_text().split()) for task in tasks)
            files = sum(1 for _ in (process / "fd").iterdir())
            memory = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
            moments.append(Held(done, memory, files, len(tasks), children))


def write_images(folder: Path, count: int) -> None:
    """Noise of two sizes, as PNG and JPEG."""
    folder.mkdir()
    chance = np.random.default_rng(0)
    for number in range(count):
        height, width = ((96, 144), (120, 80))[number % 2]
        pixels = chance.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.{('png', 'jpg')[number % 3 == 0]}")


def write_checkpoint(file: Path) -> None:
    """Small networks without training."""
    network = {"class_path": "deformsample.networks.UNet"}
    sampler = {
        "class_path": "deformsample.samplers.LearnedSampler",
        "init_args": {"network": {**network, "init_args": {"num_classes": 1, "widths": [4, 8]}}},
    }
    segmentation = {**network, "init_args": {"num_classes": 2, "widths": [4, 8]}}
    downsampler = {
        "class_path": "deformsample.samplers.Downsampler",
        "init_args": {"sampler": sampler, "sampled_size": [16, 24]},
    }
    architecture = {
        "class_path": "deformsample.segmenters.SampledSegmenter",
        "init_args": {"downsampler": downsampler, "network": segmentation},
    }
    weights = build_part(Segmenter, architecture, "this benchmark").state_dict()
    description = {
        "format": FORMAT,
        "segmenter": architecture,
        "classes": {"background": [0, 0, 0], "object": [255] * 3},
    }
    named = {f"segmenter.{key}": value for key, value in weights.items()}
    torch.save({"state_dict": named, "deformsample": description}, file)


if __name__ == "__main__":
    sys.exit(main())
