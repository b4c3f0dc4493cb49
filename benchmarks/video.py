"""Densities of consecutive frames: predicted for each, from the last prediction, or kept.

    python -m benchmarks.video CKPT --uniform CKPT --config camvid.yaml --root PATH

The frames of a split are one video, in order of their names. All methods segment a frame before any
segments the next one, so that their times are those of the same minutes. Times are medians over the
frames in milliseconds, without reading.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from statistics import median

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from deformsample.conventions import IGNORE_INDEX, STAGES
from deformsample.data import SegmentationSplit
from deformsample.data.from_config import build_data, read_config
from deformsample.geometry import boundary_density
from deformsample.inference.loading import load
from deformsample.inference.model import SegmentationModel
from deformsample.inference.video import predict_with, stream
from deformsample.metrics.iou import boundary_counts, confusion, mean_iou
from deformsample.segmenters import SampledPrediction, SampledSegmenter

Predictions = Iterator[SampledPrediction]
Method = Callable[[SampledSegmenter, Iterator[Tensor]], Predictions]


def each(segmenter: SampledSegmenter, frames: Iterator[Tensor]) -> Predictions:
    """A predicted density for each frame."""
    for frame in frames:
        yield segmenter(frame)


def kept(frames_per_density: int) -> Method:
    """A predicted density for every n-th frame, which the frames after it keep."""

    def method(segmenter: SampledSegmenter, frames: Iterator[Tensor]) -> Predictions:
        for number, frame in enumerate(frames):
            if number % frames_per_density == 0:
                last = segmenter(frame)
                yield last
            else:
                yield predict_with(segmenter, frame, last.sampled.density)

    return method


def boundaries(segmenter: SampledSegmenter, frames: Iterator[Tensor]) -> Predictions:
    """The boundary density of the last label map."""
    last = None
    for frame in frames:
        size = (frame.shape[2], frame.shape[3])
        if last is None:
            last = segmenter(frame)
        else:
            with torch.autograd.profiler.record_function("density"):
                cells = last.sampled.density.shape
                density = boundary_density(
                    last.labels(size),
                    (cells[2], cells[3]),
                    blur=1.0,
                    floor=0.3,
                    ignore_index=IGNORE_INDEX,
                )
            last = predict_with(segmenter, frame, density)
        yield last


METHODS: dict[str, Method] = {
    "predicted for each frame": each,
    "stream, from the last uncertainty": lambda s, f: stream(s, f),
    "stream, predicted for each 5th frame": lambda s, f: stream(s, f, 5),
    "boundaries of the last label map": boundaries,
    "kept for 2 frames": kept(2),
    "kept for 5 frames": kept(5),
    "that of the first frame": kept(10**9),
}


class Run:
    """A method on a video, frame by frame."""

    def __init__(self, name: str, method: Method, model: SegmentationModel, count: int) -> None:
        assert isinstance(model.segmenter, SampledSegmenter)
        self.name = name
        self.frame: Tensor | None = None
        self.predictions = method(model.segmenter, self._frames())
        self.counts = torch.zeros(count, count, dtype=torch.long)
        self.bands = torch.zeros(2, count, dtype=torch.long)
        self.times: list[list[float]] = []

    def _frames(self) -> Iterator[Tensor]:
        while self.frame is not None:
            yield self.frame

    @torch.inference_mode()
    def step(self, image: Tensor, true: Tensor, width: int) -> None:
        """Segment and count one frame."""
        self.frame = image[None]
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            labels = next(self.predictions).labels((true.shape[0], true.shape[1]))[0]
        events = {event.key: event.cpu_time_total / 1e3 for event in profiler.key_averages()}
        self.times.append([events.get(stage, 0.0) for stage in STAGES])
        count = len(self.counts)
        self.counts += confusion(labels, true, count)
        self.bands += boundary_counts(
            labels.numpy(), true.numpy(), num_classes=count, width=width, ignore_index=IGNORE_INDEX
        )

    def line(self) -> str:
        """The line of the table."""
        boundary = float((self.bands[0].double() / self.bands[1]).nanmean())
        stages = [median(column) for column in zip(*self.times, strict=True)]
        whole = median(sum(row) for row in self.times)
        cells = " | ".join(f"{value:.1f}" for value in (*stages, whole))
        return f"| {self.name} | {float(mean_iou(self.counts)):.3f} | {boundary:.3f} | {cells} |"


def main() -> None:
    """Print a Markdown table, one line per method."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("checkpoint")
    parser.add_argument("--uniform", required=True)
    parser.add_argument("--config", required=True)
    parser.add_argument("--root")
    parser.add_argument("--split", default="val", choices=("train", "val", "test"))
    parser.add_argument("--width", type=int, default=2, help="of boundary bands, in pixels")
    options = parser.parse_args()
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    data = build_data(read_config(options.config), options.root, options.config)
    frames = SegmentationSplit(data.dataset, data.splits[options.split])
    count = len(data.dataset.classes)
    model, uniform = (
        load(f, kind=SegmentationModel) for f in (options.checkpoint, options.uniform)
    )
    runs = [Run(name, method, model, count) for name, method in METHODS.items()]
    runs.append(Run("uniform sampling", each, uniform, count))
    for item in (frames[number] for number in range(len(frames))):
        for run in runs:
            run.step(item["image"], item["labels"], options.width)
    print(f"| density | mean IoU | boundary IoU | {' | '.join(STAGES)} | all |")
    print("|---|" + "---|" * (len(STAGES) + 3))
    for run in runs:
        print(run.line())


if __name__ == "__main__":
    main()
