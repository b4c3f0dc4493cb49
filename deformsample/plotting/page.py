"""An HTML page that compares methods on one image; a single file that works offline."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, StrictUndefined
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from deformsample.conventions import Colour, Pixels
from deformsample.plotting.panels import draw_density, draw_samples, overlay_pixels
from deformsample.plotting.pictures import Picture
from deformsample.samplers.image_source import as_pixels

_MAX_SIDE = 2400  # pixels of a picture's longer side: larger pages open slowly
_PHOTO_QUALITY = 90


def comparison_page(
    image: Tensor,
    ground_truth: Tensor | None,
    pictures: Sequence[Picture],
    classes: Mapping[str, Colour],
    scores: Mapping[str, Mapping[str, float]],
    title: str,
) -> str:
    """HTML with a slider between image, restored images, segmentations and ground truth.

    The page is self-contained; names are escaped.

    Args:
        image: (3, H, W), uint8 or float in [0, 1].
        ground_truth: (H, W) class ids, or ``None``.
        pictures: one per method, with different titles.
        classes: name and colour of every class.
        scores: by method, then by metric; higher is better.
        title: title of the page.
    """
    height, width = image.shape[1:]
    layers = _layers(image, ground_truth, pictures, classes)
    scale = min(1.0, _MAX_SIDE / max(height, width))
    note = f"{height} x {width} pixels"
    if scale < 1:
        note += f", drawn at {round(height * scale)} x {round(width * scale)}"
    wanted = "segmented" if all(p.labels is not None for p in pictures) else "restored"
    names = list(layers)
    first, last = (f"{pictures[i].title}, {wanted}" for i in (0, -1))
    columns = list(dict.fromkeys(name for row in scores.values() for name in row))
    engine = Environment(autoescape=True, undefined=StrictUndefined)
    template = engine.from_string(files(__package__).joinpath("page.html").read_text("utf-8"))
    return template.render(
        title=title,
        note=note,
        aspect=round(width / height, 4),
        layers=[{"name": k, "uri": _uri(_fitted(v, scale), "webp")} for k, v in layers.items()],
        left=names.index(first),
        right=names.index(last) if len(pictures) > 1 else 0,
        classes=[(name, tuple(colour)) for name, colour in classes.items()],
        columns=columns,
        rows=_rows(scores, columns),
        legend="IoU is over all pixels at full resolution; PSNR (dB) and SSIM are of the "
        "brightness of the restored image. The best of each column is bold.",
        methods=[{"name": p.title, "panels": _panels(image, p)} for p in pictures],
    )


def _layers(
    image: Tensor,
    ground_truth: Tensor | None,
    pictures: Sequence[Picture],
    classes: Mapping[str, Colour],
) -> dict[str, Pixels]:
    height, width = image.shape[1:]
    layers = {"image": as_pixels(image)}
    for picture in pictures:
        layers[f"{picture.title}, restored"] = as_pixels(picture.restored((height, width)))
    for picture in pictures:
        if picture.labels is not None:
            shown = overlay_pixels(image, picture.labels, classes)
            layers[f"{picture.title}, segmented"] = shown
    if ground_truth is not None:
        layers["ground truth"] = overlay_pixels(image, ground_truth, classes)
    return layers


def _panels(image: Tensor, picture: Picture) -> list[dict[str, Any]]:
    height, width = image.shape[1:]
    h, w = picture.small.shape[1:]
    samples = _drawn((height, width), lambda a: draw_samples(a, image, picture.grid))
    density = _drawn((height, width), lambda a: draw_density(a, picture.density, (height, width)))
    return [
        {"name": "sampling locations", "uri": samples, "samples": False},
        {"name": "density (x mean)", "uri": density, "samples": False},
        {
            "name": f"warped image, {h} x {w} samples",
            "uri": _uri(as_pixels(picture.small), "png"),
            "samples": True,
        },
    ]


def _drawn(size: tuple[int, int], draw: Callable[[Axes], None]) -> str:
    longest = max(size)
    figure = Figure(
        figsize=(5.5 * size[1] / longest + 0.6, 5.5 * size[0] / longest), layout="constrained"
    )
    draw(figure.subplots())
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=130)
    return _data("png", target.getvalue())


def _rows(scores: Mapping[str, Mapping[str, float]], columns: Sequence[str]) -> list[Any]:
    best = {
        column: max((row[column] for row in scores.values() if column in row), default=math.nan)
        for column in columns
    }
    return [
        {
            "name": name,
            "cells": [_cell(row.get(column), best[column]) for column in columns],
        }
        for name, row in scores.items()
    ]


def _cell(value: float | None, best: float) -> dict[str, object]:
    text = "" if value is None else f"{value:.3f}" if abs(value) < 1 else f"{value:.1f}"
    return {"text": text, "best": value == best}


def _fitted(pixels: Pixels, scale: float) -> Pixels:
    if scale >= 1:
        return pixels
    fitted = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(fitted, np.uint8)


def _uri(pixels: Pixels, kind: str) -> str:
    options = [cv2.IMWRITE_WEBP_QUALITY, _PHOTO_QUALITY] if kind == "webp" else []
    _, encoded = cv2.imencode(f".{kind}", np.ascontiguousarray(pixels[..., ::-1]), options)
    return _data(kind, encoded.tobytes())


def _data(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
