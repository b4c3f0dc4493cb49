"""``deformsample compare``: compare methods on one image, as a page or a picture."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from deformsample.errors import ArgumentError
from deformsample.files.writing import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from deformsample.conventions import Colour
    from deformsample.inference.model import SegmentationModel
    from deformsample.plotting import Picture

Scores = dict[str, dict[str, float]]
"""By method, then by metric."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.description = (
        "Compare how methods sample, restore and segment one image: as an HTML page with a "
        "slider (--output x.html), or as a picture (--output x.png)."
    )
    parser.add_argument(
        "models",
        nargs="+",
        metavar="MODEL",
        help="checkpoint, or one of the untrained samplers `detail` and `uniform`",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--image", metavar="FILE", help="an image without ground truth")
    source.add_argument("--config", help="config with a data set: image and ground truth")
    parser.add_argument("--root", help="with --config: folder of the data")
    parser.add_argument("--split", default="val", choices=("train", "val", "test"))
    parser.add_argument("--index", type=int, default=0, help="index of the image in its split")
    parser.add_argument("--output", required=True, metavar="FILE", type=Path, help="html or png")
    parser.add_argument(
        "--pixels",
        type=int,
        metavar="N",
        help="maximum number of samples for `detail` and `uniform` (default: that of the first "
        "checkpoint, or 1 of 64 pixels)",
    )
    parser.add_argument(
        "--regions",
        type=Path,
        metavar="PNG",
        help="with --config: also draw the regions where the first two differ most",
    )


def run(options: argparse.Namespace) -> None:
    """Compare methods on one image."""
    from deformsample.inference.loading import UNTRAINED, load
    from deformsample.inference.model import SegmentationModel
    from deformsample.plotting import comparison_figure, comparison_page

    if options.output.suffix not in (".html", ".png"):
        raise ArgumentError(
            f"Expected `--output` to end in .html or .png, but got {options.output}."
        )
    given = [name for name in options.models if name not in UNTRAINED]
    models = {
        name: load(name, options.device, options.trust, kind=SegmentationModel) for name in given
    }
    image, ground_truth, classes = _source(options, models)
    if models:
        classes = _common_classes(list(models.values()))
    pictures = _titled(_pictures(options, models, image), options.models)
    if options.regions is not None:
        _draw_regions(image, ground_truth, pictures, classes, options.regions)
    scores = _scores(image, ground_truth, pictures, list(classes))
    _print_scores(scores)
    if options.output.suffix == ".html":
        source = options.image or f"{options.config}, {options.split} {options.index}"
        title = f"{Path(source).name}: {', '.join(p.title for p in pictures)}"
        page = comparison_page(image, ground_truth, pictures, classes, scores, title)
        with atomic_write(options.output) as partial:
            partial.write_text(page, encoding="utf-8", errors="backslashreplace")
        print(options.output)
    else:
        titled = [_with_mean(picture, scores[picture.title]) for picture in pictures]
        _write(comparison_figure(image, ground_truth, titled, classes), options.output)


def _common_classes(models: Sequence[SegmentationModel]) -> Mapping[str, Colour]:
    classes = models[0].classes
    if any(list(model.classes) != list(classes) for model in models):
        given = [list(model.classes) for model in models]
        raise ArgumentError(f"Expected checkpoints with the same classes, but got {given}.")
    return classes


def _pictures(
    options: argparse.Namespace, models: Mapping[str, SegmentationModel], image: Tensor
) -> list[Picture]:
    """Pictures in the order of the arguments; checkpoints run first to get their sampled size."""
    import torch

    from deformsample.inference.loading import UNTRAINED, chosen_device, default_budget, untrained
    from deformsample.plotting import Picture

    device = chosen_device(options.device)
    size = (image.shape[1], image.shape[2])
    batch = image[None].to(device)
    segmented = {name: _segmented(model, batch) for name, model in models.items()}
    wanted: tuple[int, int] | int = options.pixels or default_budget(size)
    if segmented and options.pixels is None:
        small = next(iter(segmented.values())).small
        wanted = (small.shape[1], small.shape[2])
    pictures: list[Picture] = []
    for name in options.models:
        if name in UNTRAINED:
            downsampler = untrained(name, wanted).to(device)
            with torch.no_grad():
                pictures.append(Picture.of(downsampler.sampler.display_name, downsampler(batch)))
        else:
            pictures.append(segmented[name])
    return pictures


def _segmented(model: SegmentationModel, batch: Tensor) -> Picture:
    import torch

    from deformsample.plotting import Picture

    with torch.no_grad():
        prediction = model.segmenter(batch)
    labels = prediction.labels((batch.shape[2], batch.shape[3]))
    return Picture.of(model.segmenter.display_name, prediction.sampled, labels)


def _titled(pictures: Sequence[Picture], names: Sequence[str]) -> list[Picture]:
    """Unique titles: with the file name or an index if methods are equal."""
    titles = [picture.title for picture in pictures]
    for candidates in (
        titles,
        [f"{title} ({name})" for title, name in zip(titles, names, strict=True)],
        [f"{title} ({index})" for index, title in enumerate(titles, start=1)],
    ):
        if len(set(candidates)) == len(candidates):
            break
    return [replace(p, title=title) for p, title in zip(pictures, candidates, strict=True)]


def _scores(
    image: Tensor, ground_truth: Tensor | None, pictures: Sequence[Picture], names: Sequence[str]
) -> Scores:
    from deformsample.metrics.iou import class_iou, confusion
    from deformsample.metrics.restoration import restoration_quality

    scores: Scores = {}
    original = image.float() / 255
    for picture in pictures:
        row: dict[str, float] = {}
        if ground_truth is not None and picture.labels is not None:
            ious = class_iou(confusion(picture.labels.cpu(), ground_truth, len(names)))
            named = zip(names, ious.tolist(), strict=True)
            row = {f"IoU {name}": iou for name, iou in named if iou == iou}  # not NaN
            row["mean IoU"] = float(ious.nanmean())
        restored = picture.restored((image.shape[1], image.shape[2])).cpu()
        quality = restoration_quality(original, restored)
        row |= {name.upper(): value for name, value in quality.items()}
        scores[picture.title] = row
    return scores


def _print_scores(scores: Scores) -> None:
    for title, row in scores.items():
        print(f"{title}: " + ", ".join(f"{name} {value:.3f}" for name, value in row.items()))


def _with_mean(picture: Picture, row: Mapping[str, float]) -> Picture:
    if "mean IoU" not in row:
        return picture
    return replace(picture, title=f"{picture.title}, mean IoU {row['mean IoU']:.3f}")


def _draw_regions(
    image: Tensor,
    ground_truth: Tensor | None,
    pictures: Sequence[Picture],
    classes: Mapping[str, Colour],
    target: Path,
) -> None:
    from deformsample.plotting import differing_regions, zoom_figure

    shown = {p.title: p.labels.cpu() for p in pictures if p.labels is not None}
    if ground_truth is None or len(shown) < 2:
        raise ArgumentError(
            "Expected `--config` and at least two checkpoints with `--regions`, which compares two "
            "predictions with the ground truth."
        )
    side = max(1, min(ground_truth.shape) // 8)
    first, second, *_ = shown.values()
    regions = differing_regions(first, second, ground_truth, side, count=3)
    if regions:
        _write(zoom_figure(image, ground_truth, shown, classes, regions), target)
    else:
        print(f"The first two agree on every pixel: nothing to draw in {target}")


def _write(figure: Figure, target: Path) -> None:
    with atomic_write(target) as partial:
        figure.savefig(partial, dpi=110)
    print(target)


def _source(
    options: argparse.Namespace, models: Mapping[str, SegmentationModel]
) -> tuple[Tensor, Tensor | None, Mapping[str, Colour]]:
    """The image, and the ground truth and the classes of its data set."""
    from deformsample.checkpoints.archive import check_classes
    from deformsample.data import SegmentationSplit
    from deformsample.data.from_config import build_data, read_config
    from deformsample.inference.inputs import as_batch

    if options.image is not None:
        return as_batch(options.image)[0], None, {}
    data = build_data(read_config(options.config), options.root, options.config)
    for name, model in models.items():
        check_classes(model.classes, data.classes, name, options.config)
    samples = data.splits[options.split]
    if not 0 <= options.index < len(samples):
        raise ArgumentError(
            f"Expected `--index` from 0 to {len(samples) - 1} for the split {options.split!r}, but "
            f"got {options.index}."
        )
    item = SegmentationSplit(data.dataset, samples)[options.index]
    return item["image"], item["labels"], data.dataset.classes
