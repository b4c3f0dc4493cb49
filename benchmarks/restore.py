"""Restoration quality of content-aware and uniform downsampling, at equal samples.

    python benchmarks/restore.py --config hrf.yaml --root PATH
    python benchmarks/restore.py --config quickstart.yaml

PSNR (dB) and SSIM of the restored images' brightness, means over images of a split: of all pixels,
and of those that are within some pixels of where two classes meet.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from statistics import mean

import cv2
import numpy as np
import torch
from torch import Tensor

from deformsample.data import SegmentationSplit
from deformsample.data.from_config import build_data, read_config
from deformsample.inference.loading import UNTRAINED, load
from deformsample.metrics.restoration import restoration_quality
from deformsample.plotting import Picture
from deformsample.samplers.downsampler import Downsampler


def near_boundaries(labels: Tensor, distance: int) -> Tensor:
    """(h, w) bool: the pixels within a distance of a label boundary."""
    ids = labels.numpy()
    around = np.ones((2 * distance + 1, 2 * distance + 1), np.uint8)
    return torch.from_numpy(cv2.dilate(ids, around) != cv2.erode(ids, around))


@torch.no_grad()
def pictures(image: Tensor, options: argparse.Namespace) -> Iterator[Picture]:
    """The image sampled by each method; checkpoints set their number of samples."""
    budget = image.shape[1] * image.shape[2] // options.side**2
    for bias in options.lod_bias:
        for name, sampler in UNTRAINED.items():
            downsampler = Downsampler(sampler(), budget, lod_bias=bias)
            yield Picture.of(f"{name}, LOD bias {bias:g}", downsampler(image[None]))
    for file in options.checkpoint:
        yield Picture.of(file, load(file).downsample(image))


def main() -> None:
    """Print a Markdown table, one line per method."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--config", required=True)
    parser.add_argument("--root")
    parser.add_argument("--split", default="val", choices=("train", "val", "test"))
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--side", type=int, default=8, help="one of so many pixels, per side")
    parser.add_argument("--distance", type=int, default=8, help="to a boundary, in pixels")
    parser.add_argument("--lod-bias", type=float, nargs="+", default=[0.0, -1.0])
    parser.add_argument("--checkpoint", nargs="*", default=[])
    options = parser.parse_args()
    data = build_data(read_config(options.config), options.root, options.config)
    part = SegmentationSplit(data.dataset, data.splits[options.split][: options.images])
    values_of: dict[str, list[list[float]]] = {}
    for item in (part[number] for number in range(len(part))):
        image, near = item["image"], near_boundaries(item["labels"], options.distance)
        for picture in pictures(image, options):
            restored = picture.restored((image.shape[1], image.shape[2]))
            values = [
                value
                for where in (None, near)
                for value in restoration_quality(image / 255, restored, where).values()
            ]
            values_of.setdefault(picture.title, []).append(values)
    print(
        "| method | PSNR | SSIM | PSNR at boundaries | SSIM at boundaries |\n|---|---|---|---|---|"
    )
    for title, rows in values_of.items():
        psnr, ssim, psnr_near, ssim_near = (mean(column) for column in zip(*rows, strict=True))
        print(f"| {title} | {psnr:.2f} | {ssim:.4f} | {psnr_near:.2f} | {ssim_near:.4f} |")


if __name__ == "__main__":
    main()
