"""An HTML page that compares methods on one image; a single file that works offline."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from importlib.resources import files
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, StrictUndefined
from PIL import Image
from torch import Tensor

from deformsample.conventions import IGNORE_INDEX, Colour, Pixels, Size
from deformsample.files.label_maps import colours_from_ids, palette
from deformsample.plotting.panels import WRONG, density_pixels, shown_points, wrong_pixels
from deformsample.plotting.pictures import Picture
from deformsample.samplers.image_source import as_pixels

_MAX_SIDE = 2400  # pixels of a picture's longer side: larger pages open slowly
_DIFFERENT = (240, 228, 66)  # yellow of the Okabe-Ito palette


def comparison_page(
    image: Tensor,
    ground_truth: Tensor | None,
    pictures: Sequence[Picture],
    classes: Mapping[str, Colour],
    scores: Mapping[str, Mapping[str, float]],
    title: str,
) -> str:
    """HTML with a slider between the results of two methods, the image and the ground truth.

    Density maps, warped images and scores are beside and below it. Pixels with different labels
    can be highlighted. The page is self-contained; names are escaped.

    Args:
        image: (3, H, W), uint8 or float in [0, 1].
        ground_truth: (H, W) class ids, or ``None``.
        pictures: one per method, with different titles.
        classes: name and colour of every class.
        scores: by method, then by metric; higher is better.
        title: title of the page.
    """
    height, width = image.shape[1:]
    shown = _shown_size((height, width))
    densest = max(float(p.density.max()) * p.density.numel() for p in pictures)
    layers = [_method(p, classes, densest, (height, width)) for p in pictures]
    layers.append({"name": "image"})
    labels = [*(p.labels for p in pictures), None]
    if ground_truth is not None:
        layers.append({"name": "ground truth", "labels": _labels_uri(ground_truth, classes, shown)})
        labels.append(ground_truth)
    has_labels = any(p.labels is not None for p in pictures)
    engine = Environment(autoescape=True, undefined=StrictUndefined)
    template = engine.from_string(files(__package__).joinpath("page.html").read_text("utf-8"))
    return template.render(
        title=title,
        size=(height, width),
        shown=shown,
        image=_photo_uri(as_pixels(image), shown),
        layers=layers,
        # One method alone is beside the ground truth or, without labels, the image.
        right=len(layers) - 1 if has_labels and len(pictures) == 1 else 1,
        ground_truth=None if ground_truth is None else len(layers) - 1,
        differences=_differences(labels, shown),
        views=["segmentation"] * has_labels + ["restored", "density"],
        classes=classes,
        densest=densest,
        different=_DIFFERENT,
        wrong=WRONG,
        methods=list(scores),
        rows=_rows(scores, classes),
    )


def _method(
    picture: Picture, classes: Mapping[str, Colour], densest: float, size: Size
) -> dict[str, Any]:
    shown = _shown_size(size)
    points = shown_points(picture.grid, size).reshape(-1, 2)
    layer = {
        "name": picture.title,
        "restored": _photo_uri(as_pixels(picture.restored(size)), shown),
        "density": _uri(Image.fromarray(density_pixels(picture.density, densest)), "png"),
        "warped": _uri(Image.fromarray(as_pixels(picture.small)), "png"),
        "samples": "{} x {}".format(*picture.small.shape[1:]),
        "dots": "".join(f"M{x:.1f} {y:.1f}h0" for x, y in points),
    }
    if picture.labels is not None:
        layer["labels"] = _labels_uri(picture.labels, classes, shown)
    return layer


def _differences(labels: Sequence[Tensor | None], shown: Size) -> dict[str, dict[str, str]]:
    """By indices of two layers: the pixels with different labels, and their share.

    The ground truth is last, since its ignored pixels do not differ.
    """
    differences = {}
    for (i, first), (j, second) in combinations(enumerate(labels), 2):
        if first is None or second is None:
            continue
        second = second.to(first.device)
        different = wrong_pixels(first, second)
        known = (second != IGNORE_INDEX).sum().clamp_min(1)
        differences[f"{i}-{j}"] = {
            "mask": _mask_uri(different.cpu().numpy(), shown),
            "share": f"{float(different.sum() / known):.2%}",
        }
    return differences


def _rows(
    scores: Mapping[str, Mapping[str, float]], classes: Mapping[str, Colour]
) -> list[dict[str, Any]]:
    """One row of the table per metric: its cells in the order of the methods."""
    metrics = dict.fromkeys(name for row in scores.values() for name in row)
    rows = []
    for metric in metrics:
        values = [row.get(metric) for row in scores.values()]
        known = [value for value in values if value is not None]
        digits = 3 if max(map(abs, known)) <= 1 else 1
        cells = [
            {
                "text": "" if value is None else f"{value:.{digits}f}",
                "best": value == max(known) > min(known),
            }
            for value in values
        ]
        rows.append(
            {"name": metric, "colour": classes.get(metric.removeprefix("IoU ")), "cells": cells}
        )
    return rows


def _shown_size(size: Size) -> Size:
    scale = min(1.0, _MAX_SIDE / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _photo_uri(pixels: Pixels, shown: Size) -> str:
    photo = Image.fromarray(pixels).resize(shown[::-1], Image.Resampling.BOX)
    return _uri(photo, "webp", quality=90)


def _labels_uri(labels: Tensor, classes: Mapping[str, Colour], shown: Size) -> str:
    """A palette PNG in the classes' colours; ignored pixels are transparent."""
    ids = Image.fromarray(labels.cpu().numpy().astype(np.uint8))
    ids = ids.resize(shown[::-1], Image.Resampling.NEAREST)
    ids.putpalette(colours_from_ids(np.arange(256, dtype=np.uint8), palette(classes)).tobytes())
    return _uri(ids, "png", transparency=IGNORE_INDEX)


def _mask_uri(mask: npt.NDArray[np.bool_], shown: Size) -> str:
    """A PNG that is opaque where any pixel of the mask is set, transparent elsewhere."""
    share = Image.fromarray(mask.astype(np.uint8) * 255).resize(shown[::-1], Image.Resampling.BOX)
    return _uri(share.point(lambda v: 255 * (v > 0)).convert("1"), "png", transparency=0)


def _uri(image: Image.Image, kind: str, **options: int) -> str:
    target = io.BytesIO()
    image.save(target, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(target.getvalue()).decode()}"
