"""Segmenting photographs from their files, beside decoding them and the network alone.

``python -m benchmarks.photos``: the default sampler, 8 megapixels (2336 x 3504) in JPEG files.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import torch
from torch import nn

from benchmarks.speed import compare, photograph
from deformsample.checkpoints.archive import FORMAT
from deformsample.checkpoints.builder import build_part
from deformsample.cli.main import main as command
from deformsample.files.images import read_image
from deformsample.inference.model import SegmentationModel
from deformsample.segmenters import SampledSegmenter, Segmenter

SIZE = (2336, 3504)
SAMPLED = (146, 219)
NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "small U-Net": {
        "class_path": "deformsample.networks.UNet",
        "init_args": {"num_classes": 3, "widths": [24, 48, 96], "logit_upsampling": 2},
    },
    "HRNet-W18-small": {
        "class_path": "deformsample.networks.HRNet",
        "init_args": {"num_classes": 3, "name": "hrnet_w18_small", "stem_stride": 1},
    },
}


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--photos", type=int, default=100, help="photographs of the folder")
    options = parser.parse_args()
    print("| photographs | network | work | ms per photograph | relative |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos = folder / "photos"
        photos.mkdir()
        for number in range(options.photos):
            cv2.imwrite(str(photos / f"{number}.jpg"), photograph(SIZE))
        for title, network in NETWORKS.items():
            model = untrained(network)
            model.save_pretrained(folder / title)
            measure("one", title, single(model, photos / "0.jpg"), options.repeats, 1)
            measure("a folder", title, batch(folder / title, photos), 3, options.photos)


def untrained(network: Mapping[str, Any]) -> SegmentationModel:
    """A model of the default method without training; its samples are not on a regular grid."""
    scores = {
        "class_path": "deformsample.networks.UNet",
        "init_args": {"num_classes": 1, "widths": [16, 32, 48]},
    }
    sampler = {
        "class_path": "deformsample.samplers.LearnedSampler",
        "init_args": {"network": scores},
    }
    downsampler = {
        "class_path": "deformsample.samplers.Downsampler",
        "init_args": {"sampler": sampler, "sampled_size": list(SAMPLED)},
    }
    architecture = {
        "class_path": "deformsample.segmenters.SampledSegmenter",
        "init_args": {"downsampler": downsampler, "network": dict(network)},
    }
    torch.manual_seed(0)
    segmenter = build_part(Segmenter, architecture, "the benchmark")
    with torch.no_grad():
        segmenter.get_parameter("downsampler.sampler.network.head.weight").mul_(10)
    classes = {"sky": [90, 140, 220], "road": [90, 90, 90], "tree": [30, 120, 30]}
    description = {"format": FORMAT, "segmenter": architecture, "classes": classes}
    return SegmentationModel(segmenter, description)


def single(model: SegmentationModel, photo: Path) -> Mapping[str, Callable[[], object]]:
    """``segment`` of one file, and its least parts."""
    assert isinstance(model.segmenter, SampledSegmenter)
    network, small = model.segmenter.network, torch.rand(1, 3, *SAMPLED)
    return {
        "decoding and network": partial(decode_and_infer, network, small, photo),
        "segment": partial(model.segment, photo),
        "segment, guided": partial(model.segment, photo, guided=True),
    }


@torch.no_grad()
def decode_and_infer(network: nn.Module, small: torch.Tensor, photo: Path) -> None:
    """Decode a file, and run the network on an image of the sampled size."""
    read_image(photo)
    network(small)


def batch(model: Path, photos: Path) -> Mapping[str, Callable[[], object]]:
    """The command on a folder, and decoding its files in two threads."""
    arguments = ["segment", str(model), str(photos), "--jobs", "2"]
    target = model.parent / "labels"
    return {
        "decoding in two threads": partial(decode_all, photos),
        "segment --jobs 2": partial(command, [*arguments, "--output", str(target)]),
    }


def decode_all(photos: Path) -> None:
    """Decode all files."""
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(read_image, sorted(photos.iterdir())))


def measure(
    photographs: str,
    network: str,
    works: Mapping[str, Callable[[], object]],
    repeats: int,
    count: int,
) -> None:
    """Print a row for each work; the first is the reference."""
    times = {n: median(s) for n, s in compare(works, repeats, torch.device("cpu")).items()}
    reference = next(iter(times.values()))
    for name, seconds in times.items():
        print(
            f"| {photographs} | {network} | {name} | {1e3 * seconds / count:.1f} "
            f"| {seconds / reference:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
