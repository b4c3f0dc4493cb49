"""Speed of every step compared with alternatives: ``python benchmarks/speed.py``.

All implementations of a task take turns in one run, so that a noisy machine slows them alike.
Prints medians, quartiles, and the ratio of each median to that of the first row of a task.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import cv2
import numpy as np
import torch
from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator
from torch import Tensor, nn
from torch.nn import functional as F

from deformsample.conventions import Size
from deformsample.data import Folder, SegmentationSample, SegmentationSplit
from deformsample.data.items import collate
from deformsample.files.images import read_image, write_image
from deformsample.geometry import (
    identity_grid,
    inverse_coordinates,
    sampling_grid,
    softmax_density,
    to_pixels,
    transport_grid,
    unwarp,
    unwarp_labels,
    warp,
)
from deformsample.geometry.coordinates import axis
from deformsample.losses import (
    BoundaryKLLoss,
    DensityLoss,
    ErrorCurveLoss,
    FullResolutionLoss,
    LovaszLoss,
)
from deformsample.networks import HRNet, UNet
from deformsample.samplers import (
    Downsampler,
    ErrorCurveSampler,
    LearnedSampler,
    Sampler,
    UniformSampler,
)
from deformsample.segmenters import SampledSegmenter

CASES: Sequence[tuple[int, Size, Size]] = (
    (19, (64, 128), (1024, 2048)),
    (7, (300, 300), (2448, 2448)),
    (6, (80, 800), (2000, 20000)),
)
"""Classes, sampled size and image size of Cityscapes, DeepGlobe and a slide."""

Work = Callable[[], object]
Row = tuple[str, str, Sequence[float]]
"""Task, implementation, seconds of every repeat."""


def main() -> None:
    """Run all measurements, print the tables, and write them to ``--output``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", default="", help="sections whose title holds this")
    parser.add_argument("--output", type=Path, help="Markdown file")
    options = parser.parse_args()
    device = torch.device(options.device)
    tables = [f"# Speed\n\n{_machine(device)}"]
    sections: dict[str, Callable[[torch.device], dict[str, dict[str, Work]]]] = {
        "Labels of the full image from logits at the samples": label_tasks,
        "Values of the full image": value_tasks,
        "Sampling grid": grid_tasks,
        "Sampling grid, forward and backward": gradient_tasks,
        "All steps before the network, compared with reading the file": chain_tasks,
        "A photograph's labels, from the decoded image": whole_tasks,
        "A training step, including reading two files": training_tasks,
        "How labels scale": scaling_tasks,
    }
    for title, tasks_on in sections.items():
        if options.only not in title:
            continue
        tasks = tasks_on(device)
        rows = [
            (task, name, seconds)
            for task, works in tasks.items()
            for name, seconds in compare(works, options.repeats, device).items()
        ]
        tables.append(f"## {title}\n\n{_markdown(rows)}")
        print(tables[-1], flush=True)
    if device.type == "cpu" and sys.platform == "linux" and not options.only:
        tables.append(f"## Memory of labels above the result\n\n{_memory_table()}")
        print(tables[-1], flush=True)
    if options.output:
        options.output.write_text("\n\n".join(tables) + "\n", encoding="utf-8")


def compare(
    works: Mapping[str, Work], repeats: int, device: torch.device
) -> Mapping[str, Sequence[float]]:
    """Seconds of every repeat of each work; they alternate, after one warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(repeats + 1):
        for name, work in works.items():
            slow = bool(seconds[name]) and seconds[name][-1] > 5
            if slow and turn > 2:  # slow baselines are measured twice
                continue
            start = time.perf_counter()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def label_tasks(device: torch.device) -> dict[str, dict[str, Work]]:
    """Unwarping, upsampling of a regular grid, scattered interpolation of SciPy, and OpenCV."""
    tasks: dict[str, dict[str, Work]] = {}
    for classes, sampled, size in CASES:
        logits, grid = scene(classes, sampled, device)
        works: dict[str, Work] = {
            "deformsample": partial(unwarp_labels, logits, grid, size),
            "torch, bilinear + argmax (regular grid)": partial(upsampled, logits, size),
        }
        if size[0] * size[1] <= 1 << 22:
            works["OpenCV remap of every class + argmax"] = partial(remapped, logits, grid, size)
            works["SciPy, linear between scattered points"] = partial(scattered, logits, grid, size)
            works["SciPy, nearest of scattered points"] = partial(nearest, logits, grid, size)
        tasks[_case(classes, sampled, size)] = works
    return tasks


def value_tasks(device: torch.device) -> dict[str, dict[str, Work]]:
    """A colour image of full size from its samples."""
    tasks: dict[str, dict[str, Work]] = {}
    for _, sampled, size in CASES[:2]:
        colours, grid = scene(3, sampled, device)
        rows, columns = (axis(n, grid) for n in size)
        tasks[_case(3, sampled, size)] = {
            "deformsample": partial(unwarp, colours, grid, size),
            "deformsample, only inverse coordinates": partial(
                inverse_coordinates, grid, rows, columns
            ),
            "torch, bilinear (regular grid)": partial(
                F.interpolate, colours, size, mode="bilinear", align_corners=True
            ),
        }
    return tasks


@torch.no_grad()
def without_gradient(work: Work) -> None:
    """Do something as prediction does."""
    work()


def grid_tasks(device: torch.device) -> dict[str, dict[str, Work]]:
    """Transport grid, Gaussian grid and the sampler's network."""
    tasks: dict[str, dict[str, Work]] = {}
    for size in ((64, 128), (146, 219), (300, 300)):
        density = smooth(1, size, 1, device).mul(1.5).exp()
        network = UNet(2, (16, 32, 48)).eval().to(device)
        thumbnail = torch.randn(1, 3, *size, device=device)
        works: dict[str, Work] = {
            "optimal transport": partial(transport_grid, density, size),
            "Gaussian": partial(sampling_grid, density, size, 2.0),
            "the sampler's network": partial(network, thumbnail),
        }
        tasks["{} x {} samples".format(*size)] = {
            name: partial(without_gradient, work) for name, work in works.items()
        }
    return tasks


def gradient_tasks(device: torch.device) -> dict[str, dict[str, Work]]:
    """Both grids, and the Gaussian grid with the published two-dimensional kernel."""
    tasks: dict[str, dict[str, Work]] = {}
    for size in ((64, 128), (300, 300)):
        scores = smooth(1, size, 1, device).requires_grad_()
        gaussian = partial(sampling_grid, size=size, sigma=6.37)
        transport = partial(transport_grid, size=size)
        tasks["{} x {} samples".format(*size)] = {
            "Gaussian": partial(there_and_back, gaussian, scores),
            "optimal transport": partial(there_and_back, transport, scores),
            "dense kernel": partial(there_and_back, partial(dense_grid, sigma=6.37), scores),
        }
    return tasks


def chain_tasks(device: torch.device) -> dict[str, dict[str, Work]]:
    """Thumbnail, density, grid and warp together, and reading the image."""
    tasks: dict[str, dict[str, Work]] = {}
    folder = Path(tempfile.mkdtemp())
    for _, sampled, size in CASES[:2]:
        pixels = photograph(size)
        image = torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None].to(device)
        samplers: dict[str, tuple[Sampler, float]] = {
            "deformsample": (learned_sampler(), 1.0),
            "deformsample, half a thumbnail": (learned_sampler(), 0.5),
            "deformsample, error curves": (error_curve_sampler(), 1.0),
        }
        works: dict[str, Work] = {}
        for name, (sampler, scale) in samplers.items():
            downsampler = Downsampler(sampler, sampled, scale)
            segmenter = SampledSegmenter(downsampler, torch.nn.Identity()).eval().to(device)
            works[name] = partial(downsampled, segmenter, image)
        for suffix in ("jpg", "png"):
            file = folder / f"{size[0]}.{suffix}"
            cv2.imwrite(str(file), pixels)
            works[f"reading the {suffix}"] = partial(read_image, file)
        regular = identity_grid(sampled, torch.zeros(1, 1, device=device))
        works["uniform, bilinear"] = partial(warp, image, regular)
        tasks["{} x {} pixels to {} x {}".format(*size, *sampled)] = works
    return tasks


def learned_sampler() -> Sampler:
    """The default sampler."""
    return LearnedSampler(UNet(1, (16, 32, 48)))


def error_curve_sampler() -> Sampler:
    """The sampler of ``method/error_curves.yaml``."""
    return ErrorCurveSampler(UNet(2, (16, 32, 48)))


def whole_tasks(device: torch.device) -> dict[str, dict[str, Work]]:
    """Sampling, network and full-size labels: learned, and the standard uniform baseline."""
    classes, sampled, size = CASES[0]
    image = torch.from_numpy(photograph(size).transpose(2, 0, 1).copy())[None].to(device)
    network = HRNet(classes, name="hrnet_w18_small", stem_stride=1)
    works: dict[str, Work] = {}
    for name, sampler in (("learned", error_curve_sampler()), ("uniform", None)):
        segmenter = SampledSegmenter(Downsampler(sampler or UniformSampler(), sampled), network)
        segmenter = segmenter.eval().to(device)
        if sampler is not None:
            works["deformsample, learned"] = partial(segmenter.segment, image)
        works[f"{name}, labels by bilinear upsampling"] = partial(usual, segmenter, image)
    return {_case(classes, sampled, size): works}


def training_tasks(device: torch.device) -> dict[str, dict[str, Work]]:
    """One step of learned and of uniform sampling, at the same budget."""
    hrnet = partial(HRNet, 3, name="hrnet_w18_small", stem_stride=1, logit_upsampling=2)
    unet = partial(UNet, 3, (24, 48, 96), logit_upsampling=2)
    tasks: dict[str, dict[str, Work]] = {}
    cases: Sequence[tuple[str, Callable[[], nn.Module], Size, Size]] = (
        ("HRNet-W18-small", hrnet, (64, 128), (1024, 2048)),
        ("small U-Net, as CWFID", unet, (60, 81), (966, 1296)),
        ("small U-Net, as HRF", unet, (146, 219), (2336, 3504)),
    )
    for name, network, sampled, size in cases:
        title = f"{name}: {size[0]} x {size[1]} to {sampled[0]} x {sampled[1]}, 2 images"
        tasks[title] = _steps(network, sampled, size, device)
    return tasks


def _steps(
    network: Callable[[], nn.Module], sampled: Size, size: Size, device: torch.device
) -> dict[str, Work]:
    folder = Path(tempfile.mkdtemp())
    classes = {"sky": (90, 140, 220), "road": (90, 90, 90), "tree": (30, 120, 30)}
    samples = []
    for number in range(2):
        sample = SegmentationSample(
            str(number), folder / f"{number}.jpg", folder / f"{number}_labels.png"
        )
        labels = smooth(3, size, number, device)[0].argmax(dim=0).byte().cpu().numpy()
        cv2.imwrite(str(sample.image), photograph(size))
        write_image(folder / f"{number}_labels.png", labels)
        samples.append(sample)
    data = SegmentationSplit(Folder(str(folder), classes), samples)
    works: dict[str, Work] = {}
    methods: dict[str, tuple[Sampler, float, DensityLoss | None]] = {
        "uniform": (UniformSampler(), 1.0, None),
        "learned": (learned_sampler(), 1.0, BoundaryKLLoss()),
        "learned, half a thumbnail": (learned_sampler(), 0.5, BoundaryKLLoss()),
        "error curves": (error_curve_sampler(), 1.0, ErrorCurveLoss()),
    }
    for name, (sampler, scale, density) in methods.items():
        downsampler = Downsampler(sampler, sampled, thumbnail_scale=scale, sample_gradient=False)
        segmenter = SampledSegmenter(downsampler, network()).to(device)
        loss = FullResolutionLoss(grid_gradient=False, aux_loss=LovaszLoss(), density=density)
        optimizer = torch.optim.AdamW(segmenter.parameters())
        works[name] = partial(train_step, data, segmenter, loss.to(device), optimizer)
    return works


def train_step(
    data: SegmentationSplit,
    segmenter: SampledSegmenter,
    loss: FullResolutionLoss,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Read a batch, forward, backward, update."""
    batch = collate([data[i] for i in range(len(data))])
    image, labels = (batch[key].to(segmenter.device) for key in ("image", "labels"))
    optimizer.zero_grad()
    torch.stack(list(loss(segmenter(image), labels, 0.5).values())).sum().backward()
    optimizer.step()


def scaling_tasks(device: torch.device) -> dict[str, dict[str, Work]]:
    """Labels of larger images, more samples, more classes, and agreeing corners."""
    size: Size = (1024, 2048)
    sampled: Size = (64, 128)
    works: dict[str, Work] = {}
    for name, classes, samples, pixels in (
        ("1024 x 2048 pixels, 64 x 128 samples, 19 classes", 19, sampled, size),
        ("a quarter of the pixels", 19, sampled, (512, 1024)),
        ("four times the pixels", 19, sampled, (2048, 4096)),
        ("four times the samples", 19, (128, 256), size),
        ("100 classes", 100, sampled, size),
    ):
        works[name] = partial(unwarp_labels, *scene(classes, samples, device), pixels)
    for classes in (19, 100):
        logits, grid = scene(classes, sampled, device)
        logits = torch.zeros_like(logits)
        logits[:, 3] = 1
        works[f"corners agree, {classes} classes"] = partial(unwarp_labels, logits, grid, size)
    return {"labels": works}


def scene(classes: int, size: Size, device: torch.device) -> tuple[Tensor, Tensor]:
    """Smooth logits of objects some samples wide, and a non-uniform grid."""
    logits = smooth(classes, size, 0, device)
    return logits, sampling_grid(softmax_density(smooth(1, size, 1, device)), size, 2.0)


def smooth(channels: int, size: Size, seed: int, device: torch.device) -> Tensor:
    """Random fields (1, channels, h, w) that vary over about twelve samples."""
    generator = torch.Generator().manual_seed(seed)
    coarse = [max(2, n // 12) for n in size]
    values = torch.randn(1, channels, *coarse, generator=generator)
    return F.interpolate(values, size, mode="bicubic", align_corners=True).to(device)


def photograph(size: Size) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """An image that compresses like a photograph: smooth fields with fine noise."""
    values = smooth(3, (size[0] // 4, size[1] // 4), 2, torch.device("cpu"))
    values = F.interpolate(values, size, mode="bilinear", align_corners=True)[0] * 40 + 128
    values = values + torch.randn(values.shape, generator=torch.Generator().manual_seed(3)) * 4
    return np.ascontiguousarray(values.clamp(0, 255).byte().numpy().transpose(1, 2, 0))


def there_and_back(grid_of: Callable[[Tensor], Tensor], scores: Tensor) -> None:
    """Forward and backward of a sampling grid."""
    grid_of(softmax_density(scores)).sum().backward()


@torch.no_grad()
def downsampled(segmenter: SampledSegmenter, image: Tensor) -> None:
    """All steps before the network."""
    segmenter.downsampler(image)


def upsampled(logits: Tensor, size: Size) -> Tensor:
    """Labels of uniform sampling."""
    return F.interpolate(logits, size, mode="bilinear", align_corners=True).argmax(dim=1)


@torch.no_grad()
def usual(segmenter: SampledSegmenter, image: Tensor) -> Tensor:
    """Segment, and upsample the logits as if their grid were regular."""
    return upsampled(segmenter(image).logits, (image.shape[2], image.shape[3]))


def remapped(logits: Tensor, grid: Tensor, size: Size) -> object:
    """OpenCV's bilinear remap with the inverse coordinates of this package."""
    rows, columns = (axis(n, grid) for n in size)
    points = to_pixels(inverse_coordinates(grid, rows, columns), tuple(logits.shape[2:]))  # type: ignore[arg-type]
    x, y = (points[0, ..., k].float().cpu().numpy() for k in (0, 1))
    channels = [cv2.remap(c, x, y, cv2.INTER_LINEAR) for c in logits[0].cpu().numpy()]
    return np.argmax(np.stack(channels), axis=0)


def scattered(logits: Tensor, grid: Tensor, size: Size) -> Any:
    """SciPy's linear interpolation, including its triangulation."""
    return _scipy(LinearNDInterpolator, logits[0].flatten(1).T.cpu().numpy(), grid, size).argmax(-1)


def nearest(logits: Tensor, grid: Tensor, size: Size) -> Any:
    """SciPy's nearest neighbour of every pixel."""
    return _scipy(
        NearestNDInterpolator, logits[0].argmax(dim=0).flatten().cpu().numpy(), grid, size
    )


def _scipy(
    kind: Callable[..., Callable[..., Any]], values: object, grid: Tensor, size: Size
) -> Any:
    points = to_pixels(grid[0].double().cpu(), size).reshape(-1, 2).numpy()
    x, y = np.meshgrid(np.arange(size[1]), np.arange(size[0]))
    return kind(points, values)(x, y)


def dense_grid(density: Tensor, sigma: float) -> Tensor:
    """The grid by convolution with a two-dimensional kernel, as in the published code."""
    h, w = density.shape[2:]
    reach = [min(30, n // 2 - 1) for n in (h, w)]
    y, x = (torch.arange(-r, r + 1, device=density.device) for r in reach)
    kernel = torch.exp(-(y[:, None] ** 2 + x[None, :] ** 2) / (2 * sigma**2))[None, None]
    place = identity_grid((h, w), density[:, 0]).movedim(-1, 1)
    stacked = torch.cat((density, density * place), dim=1).movedim(1, 0)
    padded = F.pad(stacked, (reach[1], reach[1], reach[0], reach[0]), mode="replicate")
    mass, shift_x, shift_y = F.conv2d(padded, kernel).movedim(0, 1).unbind(1)
    return torch.stack((shift_x / mass, shift_y / mass), dim=-1)


def _memory_table() -> str:
    """Each case in a separate process, after compilation."""
    lines = ["| labels | memory above the result (MB) |", "|---|---|"]
    context = multiprocessing.get_context("spawn")
    for number, (classes, sampled, size) in enumerate(CASES):
        with context.Pool(1) as pool:
            megabytes = pool.apply(peak_above, (number,))
        lines.append(f"| {_case(classes, sampled, size)} | {megabytes:.1f} |")
    return "\n".join(lines)


def peak_above(number: int) -> float:
    """Peak memory of the labels of a case, without the result, in MB."""
    classes, sampled, size = CASES[number]
    logits, grid = scene(classes, sampled, torch.device("cpu"))
    unwarp_labels(logits, grid, (sampled[0] + 1, sampled[1] + 1))  # compiles first
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = _highest()
    labels = unwarp_labels(logits, grid, size)
    return (_highest() - before - labels.numel()) / (1 << 20)


def _highest() -> int:
    """The peak memory of this process in bytes; Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def _case(classes: int, sampled: Size, size: Size) -> str:
    return f"{sampled[0]} x {sampled[1]} x {classes} to {size[0]} x {size[1]}"


def _markdown(rows: Sequence[Row]) -> str:
    lines = ["| task | by | median (ms) | quartiles (ms) | relative |", "|---|---|---|---|---|"]
    first: dict[str, float] = {}
    for task, name, seconds in rows:
        middle = median(seconds)
        first.setdefault(task, middle)
        low, _, high = quantiles(seconds, n=4) if len(seconds) > 1 else (middle,) * 3
        lines.append(
            f"| {task} | {name} | {middle * 1e3:.1f} | {low * 1e3:.1f} to {high * 1e3:.1f} "
            f"| {middle / first[task]:.2f} |"
        )
    return "\n".join(lines)


def _machine(device: torch.device) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    return (
        f"`python benchmarks/speed.py` on {device.type} ({name or platform.machine()}, "
        f"{torch.get_num_threads()} threads of {os.cpu_count()} cores), PyTorch "
        f"{torch.__version__}, OpenCV {cv2.__version__}, Python {platform.python_version()}."
    )


if __name__ == "__main__":
    main()
