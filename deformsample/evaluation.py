"""What a segmenter is worth, and what it costs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from torchmetrics.functional.classification import multiclass_confusion_matrix
from tqdm import tqdm

from deformsample.data import SplitDataset
from deformsample.geometry import unwarp_labels
from deformsample.losses import IGNORE_INDEX
from deformsample.metrics import boundary_counts, iou_report, mean_iou
from deformsample.segmenters import STAGES, Prediction, SampledSegmenter, Segmenter


@torch.no_grad()
def accuracy(
    segmenter: Segmenter,
    part: SplitDataset,
    merged: Mapping[str, Sequence[str]],
    boundary_width: int,
) -> dict[str, float]:
    """Measure a segmenter on all images of a split.

    Args:
        segmenter: in eval mode.
        part: the images and labels.
        merged: further IoUs, each of several classes taken as one.
        boundary_width: of the bands of the boundary IoU, in pixels.

    Returns:
        ``miou`` and ``iou/CLASS`` at full resolution; ``boundary_iou/CLASS`` and their mean
        ``boundary_iou``; and where images are sampled, ``miou_warped`` at the samples, and
        ``ceiling`` with ``ceiling/CLASS``: the IoU that the grid gives if every sample has its true
        class.
    """
    names = list(part.dataset.classes)
    count = len(names)
    full, warped, ceiling = (torch.zeros(count, count, dtype=torch.long) for _ in range(3))
    bands = torch.zeros(2, count, dtype=torch.long)
    device = segmenter.mean.device
    for index in tqdm(range(len(part)), unit="image", leave=False, disable=None):
        item = part[index]
        labels = item["labels"]
        true = labels.to(device)[None]
        image = item["image"].to(device)[None]
        if isinstance(segmenter, SampledSegmenter):
            prediction: Prediction = segmenter(image, true)
            small = prediction.targets(true)
            warped += confusion(prediction.logits.argmax(dim=1), small, count).cpu()
            ceiling += confusion(_best(small, prediction, true), true, count).cpu()
            predicted = prediction.labels((true.shape[1], true.shape[2]))[0].cpu()
        else:
            predicted = segmenter.segment(image, true)[0].cpu()
        full += confusion(predicted, labels, count)
        bands += boundary_counts(
            predicted.numpy(),
            labels.numpy(),
            num_classes=count,
            width=boundary_width,
            ignore_index=IGNORE_INDEX,
        )
    boundary = bands[0].double() / bands[1]
    scores = {"miou": float(mean_iou(full)), "boundary_iou": float(boundary.nanmean())}
    if isinstance(segmenter, SampledSegmenter):
        scores |= {"miou_warped": float(mean_iou(warped)), "ceiling": float(mean_iou(ceiling))}
    return {
        **scores,
        **{f"iou/{n}": float(v) for n, v in iou_report(full, names, merged).items()},
        **{f"ceiling/{n}": float(v) for n, v in iou_report(ceiling, names, merged).items()},
        **{
            f"boundary_iou/{n}": float(v)
            for n, v in zip(names, boundary, strict=True)
            if not bool(v.isnan())
        },
    }


@torch.no_grad()
def cost(segmenter: Segmenter, part: SplitDataset, repeats: int = 5) -> dict[str, float]:
    """Measure what the segmentation of one image costs, on the segmenter's device.

    Args:
        segmenter: in eval mode.
        part: its first image is taken.
        repeats: medians are over this many runs, after one that does not count.

    Returns:
        ``seconds/STAGE`` for ``decode`` and every stage of the method, their sum ``seconds``
        without ``decode``; ``gigamacs`` (multiply-adds of convolutions and matrix products);
        ``pixels`` that the network sees; and ``megabytes``, the highest memory above that at rest
        (of the process on a CPU, where the system is Linux; of the GPU's allocator). A process that
        has worked before keeps memory at hand that it does not need: measure in a new one.
    """
    sample = part.samples[0]
    decode = [_seconds(lambda: part.dataset.read_image(sample)) for _ in range(repeats + 1)][1:]
    item = part[0]
    device = segmenter.mean.device
    image, labels = item["image"].to(device)[None], item["labels"].to(device)[None]

    def work() -> Tensor:
        return segmenter.segment(image, labels)

    memory = peak_memory(work, device)
    work()
    stages = [_stage_seconds(work, device) for _ in range(repeats)]
    seconds = {name: median(run[name] for run in stages) for name in STAGES}
    with FlopCounterMode(display=False) as counter:
        work()
    return {
        "seconds/decode": median(decode),
        **{f"seconds/{name}": value for name, value in seconds.items()},
        "seconds": sum(seconds.values()),
        "gigamacs": counter.get_total_flops() / 2e9,
        "pixels": float(segmenter.pixels((image.shape[2], image.shape[3]))),
        **memory,
    }


def _best(small: Tensor, prediction: Prediction, true: Tensor) -> Tensor:
    """The labels (1, H, W) if the true ones (1, h, w) were predicted."""
    one_hot = _one_hot(small, prediction.logits.shape[1])
    return unwarp_labels(one_hot, prediction.grid, (true.shape[1], true.shape[2]))


def _one_hot(labels: Tensor, count: int) -> Tensor:
    """(b, k, h, w); all zeros where there is no class."""
    return F.one_hot(labels.long().clamp_max(count), count + 1)[..., :count].movedim(-1, 1).float()


def confusion(predicted: Tensor, true: Tensor, count: int) -> Tensor:
    """Counts (count, count) of pixels by true and predicted class, of maps of any one shape."""
    return multiclass_confusion_matrix(
        predicted.long().flatten(), true.long().flatten(), count, ignore_index=IGNORE_INDEX
    )


def _seconds(work: Callable[[], object]) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start


def _stage_seconds(work: Callable[[], object], device: torch.device) -> dict[str, float]:
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else it talks of its own start and end
    with profile(activities=activities) as profiler:
        work()
    events = {event.key: event for event in profiler.key_averages()}
    return {
        name: (events[name].device_time_total if on_gpu else events[name].cpu_time_total) / 1e6
        if name in events
        else 0.0
        for name in STAGES
    }


def peak_memory(
    work: Callable[[], object], device: torch.device, rest: int | None = None
) -> dict[str, float]:
    """``megabytes`` that work takes at most, beyond those at rest; empty where nobody tells.

    Args:
        work: what to do.
        device: whose memory it takes.
        rest: bytes of :func:`memory_in_use` before any work; ``None`` for those of now.
    """
    before = memory_in_use(device) if rest is None else rest
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return {"megabytes": (torch.cuda.max_memory_allocated(device) - before) / 1e6}
    marks = Path("/proc/self/clear_refs")
    if not marks.exists():
        return {}
    marks.write_text("5")  # forgets the highest memory so far
    work()
    return {"megabytes": (_resident("VmHWM") - before) / 1e6}


def memory_in_use(device: torch.device) -> int:
    """Bytes of the GPU's allocator, or of this process where the system is Linux; else 0."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return _resident("VmRSS") if Path("/proc/self/status").exists() else 0


def _resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith(name))
    return int(line.split()[1]) * 1024
