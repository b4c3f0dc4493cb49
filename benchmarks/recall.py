"""Recall of thin objects by width: ``python benchmarks/recall.py CKPT --root HRF``.

Takes the given classes as one, divides its pixels by how wide it is there, and prints for each
width the share of all its pixels, the share that is found, and the share of the found ones whose
class is right.
"""

from __future__ import annotations

import argparse

import cv2
import numpy as np
import torch

import deformsample
from deformsample.data import SegmentationSplit
from deformsample.data.from_config import build_data, read_config

REACH = 15
"""Side in pixels of the window in which the largest width counts."""


def main() -> None:
    """Print a Markdown table, one line per width."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("checkpoint", metavar="CKPT")
    parser.add_argument("--config", default="hrf.yaml")
    parser.add_argument("--root")
    parser.add_argument("--split", default="val", choices=("train", "val", "test"))
    parser.add_argument("--classes", nargs="+", default=["artery", "vein"])
    parser.add_argument("--widths", type=int, nargs="+", default=[0, 7, 11, 16])
    parser.add_argument("--images", type=int, default=6)
    options = parser.parse_args()
    model = deformsample.load(options.checkpoint, kind=deformsample.SegmentationModel)
    data = build_data(read_config(options.config), options.root, options.config)
    ids = [list(data.classes).index(name) for name in options.classes]
    chosen = data.splits[options.split][: options.images]
    edges = [*options.widths, np.inf]
    counts = np.zeros((len(edges) - 1, 3), np.int64)
    predicted = 0
    part = SegmentationSplit(data.dataset, chosen)
    for item in (part[number] for number in range(len(part))):
        ground_truth = item["labels"].numpy()
        with torch.no_grad():
            prediction = model.segmenter(item["image"][None], item["labels"][None])
        answer = prediction.labels(ground_truth.shape)[0].numpy()
        thing = np.isin(ground_truth, ids)
        found = np.isin(answer, ids)
        predicted += int((found & (ground_truth != 255)).sum())
        radius = cv2.distanceTransform(thing.astype(np.uint8), cv2.DIST_L2, 5)
        width = 2 * cv2.dilate(radius, np.ones((REACH, REACH)))
        for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True):
            of_width = thing & (width >= low) & (width < high)
            right = of_width & (answer == ground_truth)
            count += [of_width.sum(), (of_width & found).sum(), right.sum()]
    total, hits, _ = counts.sum(axis=0)
    print(f"precision {hits / max(predicted, 1):.3f}, recall {hits / max(total, 1):.3f}\n")
    print("| width (pixels) | share | found | of these, the right class |\n|---|---|---|---|")
    for (pixels, recalled, right), low, high in zip(counts, edges[:-1], edges[1:], strict=True):
        print(
            f"| {low} to {high} | {pixels / max(total, 1):.2f} | {recalled / max(pixels, 1):.2f} "
            f"| {right / max(recalled, 1):.2f} |"
        )


if __name__ == "__main__":
    main()
