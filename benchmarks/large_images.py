"""Accuracy and cost of all methods for large images, on the same images.

    python -m benchmarks.large_images --root data/hrf

Segmentation by the plan of large_images.yaml (streaming has no segmentation: it is exact for a body
that reduces an image to features, not for one that comes back to pixels); classification by the
cross-validation of hrf_disease.py. Costs are those of one whole photograph of HRF, for the networks
that were trained, each in a process of its own: segmenting or classifying it, and a training step
without its loss (from the image to the gradients of all weights). What is trained already is kept.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.hrf_disease import CLASSES, METHODS, measured, read, score
from deformsample.evaluation.cost import memory_in_use, peak_memory
from deformsample.evaluation.plan import read_plan, runs
from deformsample.evaluation.runner import ACCURACY, train_and_measure
from deformsample.files.images import read_image
from deformsample.files.writing import atomic_write
from deformsample.inference.inputs import as_batch
from deformsample.inference.loading import load
from deformsample.inference.model import ClassificationModel, SegmentationModel

PLAN = Path(__file__).with_suffix(".yaml")

Mode: TypeAlias = Literal["predict", "train"]
Costs: TypeAlias = dict[str, float]


def main() -> None:
    """Train missing runs, measure, and write both tables."""
    options = _options()
    torch.set_num_threads(options.threads)
    photograph = sorted((options.root / "images").glob("11_*"))[0]
    size = " x ".join(str(side) for side in read_image(photograph).shape[:2])
    tables = [
        f"Costs of one photograph of {size} pixels, {options.threads} threads, PyTorch "
        f"{torch.__version__}; medians of {options.repeats}.",
        "Segmentation, intersection over union of held-out photographs:",
        "\n".join(segmentation(options, photograph)),
        f"Classification, {options.folds} folds, images halved {options.level} times for the "
        f"accuracy ({' / '.join(CLASSES)}; chance: 0.33 and 0.50):",
        "\n".join(classification(options, photograph)),
    ]
    text = "\n\n".join(tables) + "\n"
    with atomic_write(options.output / "large_images.md") as partial:
        partial.write_text(text, encoding="utf-8")
    print(text)


def segmentation(options: argparse.Namespace, photograph: Path) -> Iterator[str]:
    """The lines of the table of segmenters."""
    plan = read_plan(PLAN)
    todo = list(runs(plan, options.output / "segmentation"))
    common = [f"--data.root={options.root}", f"--data.cache={options.cache}"]
    train_and_measure(plan, todo, common, jobs=1, report=lambda text: None)
    yield from _head(plan.classes)
    for run in todo:
        reached = json.loads((run.folder / ACCURACY).read_text())
        checkpoint = run.folder / "training" / "checkpoints" / "last.ckpt"
        ious = [f"{reached[f'iou/{name}']:.3f}" for name in plan.classes]
        costs = _costs(_segmenter, checkpoint, photograph, options)
        yield _line(f"{run.method}, {run.budget}", ious, costs)


def classification(options: argparse.Namespace, photograph: Path) -> Iterator[str]:
    """The lines of the table of classifiers."""
    classification = argparse.Namespace(
        **{**vars(options), "output": options.output / "classification"}
    )
    yield from _head(["accuracy", "AUROC"])
    for method, rules in METHODS.items():
        folds = [score(method, fold, classification) for fold in range(options.folds)]
        trained = classification.output / method / "fold_0" / "train"
        checkpoint = trained / "checkpoints" / "last.ckpt"
        costs = _costs(_classifier, checkpoint, photograph, options)
        for rule in rules:
            reached = measured([row for files in folds for row in read(files[rule])])
            name = method if rule == method else f"{method}, {rule}"
            yield _line(name, [f"{reached[key]:.2f}" for key in ("accuracy", "auroc")], costs)


def _segmenter(checkpoint: Path) -> tuple[nn.Module, Callable[[Tensor], object]]:
    segmenter = load(checkpoint, kind=SegmentationModel).segmenter
    return segmenter, segmenter.segment


def _classifier(checkpoint: Path) -> tuple[nn.Module, Callable[[Tensor], object]]:
    classifier = load(checkpoint, kind=ClassificationModel).classifier
    return classifier, classifier


_Load: TypeAlias = Callable[[Path], tuple[nn.Module, Callable[[Tensor], object]]]


def _costs(
    part: _Load, checkpoint: Path, photograph: Path, options: argparse.Namespace
) -> dict[Mode, Costs]:
    """Measure both modes, each in a new process."""
    modes: tuple[Mode, ...] = ("predict", "train")
    result: dict[Mode, Costs] = {}
    for mode in modes:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            arguments = (part, checkpoint, photograph, mode, options.threads, options.repeats)
            result[mode] = pool.submit(cost, *arguments).result()
    return result


def cost(
    part: _Load, checkpoint: Path, photograph: Path, mode: Mode, threads: int, repeats: int
) -> Costs:
    """Seconds, 10^9 MACs and megabytes (above those at rest) of one photograph."""
    torch.set_num_threads(threads)
    module, predict = part(checkpoint)
    image = as_batch(photograph)
    module.train(mode == "train")

    def work() -> None:
        if mode == "predict":
            with torch.inference_mode():
                predict(image)
            return
        module.zero_grad()
        seen = module(image)
        scores: Tensor = seen if isinstance(seen, Tensor) else seen.logits
        scores.square().mean().backward()

    cpu = torch.device("cpu")
    memory = peak_memory(work, cpu, memory_in_use(cpu))
    seconds = []
    for _ in range(repeats):
        start = perf_counter()
        work()
        seconds.append(perf_counter() - start)
    with FlopCounterMode(display=False) as counter:
        work()
    return {"seconds": median(seconds), "gigamacs": counter.get_total_flops() / 2e9, **memory}


def _head(measures: Sequence[str]) -> Iterator[str]:
    names = ["method", *measures]
    for mode in ("predict", "training step"):
        names += [f"{mode}: s", "10⁹ MACs", "MB"]
    yield "| " + " | ".join(names) + " |"
    yield "|---" * len(names) + "|"


def _line(name: str, reached: list[str], costs: dict[Mode, Costs]) -> str:
    cells = [name, *reached]
    for of in costs.values():
        cells += [f"{of['seconds']:.2f}", f"{of['gigamacs']:.3g}", f"{of['megabytes']:.0f}"]
    return "| " + " | ".join(cells) + " |"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--root", type=Path, default=Path("data/hrf"))
    parser.add_argument("--output", type=Path, default=Path("runs/large_images"))
    parser.add_argument("--cache", type=Path, default=Path("runs/large_images/cache"))
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=30, help="of the classifiers")
    parser.add_argument("--level", type=int, default=2, help="of the classifiers' training")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
