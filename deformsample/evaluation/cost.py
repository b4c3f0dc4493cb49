"""Measuring the cost of segmentation."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from deformsample.conventions import STAGES
from deformsample.data import SegmentationSplit
from deformsample.segmenters import Segmenter


@torch.no_grad()
def cost(
    segmenter: Segmenter, split: SegmentationSplit, repeats: int = 5, *, guided: bool = False
) -> dict[str, float]:
    """Measure the cost of segmenting one image, on the device of the segmenter.

    Args:
        segmenter: segmenter in eval mode.
        split: images, of which the first is used.
        repeats: number of runs under the profiler for the medians, after one warm-up run; three
            times as many are without it.
        guided: as in :meth:`.Segmenter.segment`.

    Returns:
        ``seconds/decode``; ``seconds`` of the method; ``seconds/STAGE`` for each of its stages,
        which divide ``seconds`` in proportion to their times under the profiler (it slows the
        whole, and many small operations most); ``gigamacs`` (10^9 MACs of convolutions and matrix
        products); ``pixels`` of the network's input; and ``megabytes``, the peak memory above that
        at rest (of the process on a CPU with Linux, of the allocator on a GPU). Measure in a new
        process, since older ones keep unused memory.
    """
    sample = split.samples[0]
    decode = [_seconds(lambda: split.dataset.read_image(sample)) for _ in range(repeats + 1)][1:]
    item = split[0]
    device = segmenter.device
    image, labels = item["image"].to(device)[None], item["labels"].to(device)[None]

    def work() -> Tensor:
        return segmenter.segment(image, labels, guided=guided)

    def finished() -> None:
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    memory = peak_memory(work, device)
    finished()
    seconds = median(_seconds(finished) for _ in range(3 * repeats))
    runs = [_stage_seconds(work, device) for _ in range(repeats)]
    stages = {name: median(run[name] for run in runs) for name in STAGES}
    scale = seconds / sum(stages.values())
    with FlopCounterMode(display=False) as counter:
        work()
    return {
        "seconds/decode": median(decode),
        **{f"seconds/{name}": scale * value for name, value in stages.items()},
        "seconds": seconds,
        "gigamacs": counter.get_total_flops() / 2e9,
        "pixels": float(segmenter.pixels((image.shape[2], image.shape[3]))),
        **memory,
    }


def _seconds(work: Callable[[], object]) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start


def _stage_seconds(work: Callable[[], object], device: torch.device) -> dict[str, float]:
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # silences start and end messages
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
    """The peak ``megabytes`` of work above those at rest; empty if the system reports none.

    Args:
        work: the work to measure.
        device: device whose memory is measured.
        rest: bytes of :func:`memory_in_use` at rest; ``None`` for the current value.
    """
    before = memory_in_use(device) if rest is None else rest
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return {"megabytes": (torch.cuda.max_memory_allocated(device) - before) / 1e6}
    marks = Path("/proc/self/clear_refs")
    if not marks.exists():
        return {}
    marks.write_text("5")  # resets the peak
    work()
    return {"megabytes": (_resident("VmHWM") - before) / 1e6}


def memory_in_use(device: torch.device) -> int:
    """Bytes of the GPU allocator, or of this process on Linux, otherwise 0."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return _resident("VmRSS") if Path("/proc/self/status").exists() else 0


def _resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith(name))
    return int(line.split()[1]) * 1024
