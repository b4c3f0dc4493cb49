"""Conversion between label files and class ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from deformsample.conventions import IGNORE_INDEX, Colour, Pixels
from deformsample.errors import DataError, listed
from deformsample.files.images import save_image


def check_ids(ids: Pixels, num_classes: int, source: object) -> Pixels:
    """Return class ids if all are below ``num_classes`` or ``IGNORE_INDEX``.

    Raises:
        DataError: there are other ids; the message names them and ``source``.
    """
    counts = np.bincount(ids.ravel(), minlength=256)
    wrong = [int(i) for i in np.flatnonzero(counts) if num_classes <= i != IGNORE_INDEX]
    if wrong:
        raise DataError(
            f"Expected label ids from 0 to {num_classes - 1}, or {IGNORE_INDEX} to ignore, but "
            f"{source} contains {listed(wrong)}: add the classes, or correct the labels."
        )
    return ids


def ids_from_colours(
    colours: Pixels,
    table: Sequence[Colour],
    *,
    threshold: int | None,
    ignore: Sequence[Colour] | None,
    source: object,
) -> Pixels:
    """Class ids of a coloured label map.

    Args:
        colours: (h, w, 3).
        table: the colour of each class.
        threshold: channels above it become 255, others 0; ``None`` keeps the colours.
        ignore: colours without a class; ``None`` ignores all colours of no class.
        source: name of the labels in errors.

    Returns:
        (h, w) uint8, ``IGNORE_INDEX`` where there is no class.

    Raises:
        DataError: a colour is neither of a class nor in ``ignore``.
    """
    if threshold is not None:
        colours = np.where(colours > threshold, 255, 0).astype(np.uint8)
    codes = colours.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)
    ids = np.full(codes.shape, IGNORE_INDEX, dtype=np.uint8)
    known = np.zeros(codes.shape, dtype=bool)
    for class_id, colour in enumerate(table):
        match = codes == _code(colour)
        ids[match] = class_id
        known |= match
    for colour in ignore or ():
        known |= codes == _code(colour)
    if ignore is not None and not known.all():
        wrong = [_colour(code) for code in np.unique(codes[~known])]
        raise DataError(
            f"Expected the colours of the classes, but {source} contains {listed(wrong)}: add them "
            "to the classes or to the ignored colours."
        )
    return ids


def colours_from_ids(ids: Pixels, table: Sequence[Colour]) -> Pixels:
    """Colour every pixel by its class: (h, w) to (h, w, 3); ignored pixels are black."""
    lookup = np.zeros((256, 3), dtype=np.uint8)
    lookup[: len(table)] = np.array(list(table), dtype=np.uint8)
    return lookup[ids]


def overlay(pixels: Pixels, ids: Pixels, table: Sequence[Colour], opacity: float = 0.5) -> Pixels:
    """The classes' colours over the grey image; ignored pixels show the image only.

    Args:
        pixels: (h, w, 3).
        ids: (h, w) class ids.
        table: the colour of each class.
        opacity: opacity of the colours, in [0, 1].

    Returns:
        (h, w, 3) uint8.
    """
    grey = Image.fromarray(pixels).convert("L").convert("RGB")
    mixed = Image.blend(grey, Image.fromarray(colours_from_ids(ids, table)), opacity)
    return np.where((ids == IGNORE_INDEX)[..., None], np.asarray(grey), np.asarray(mixed))


def palette(classes: Mapping[str, Colour]) -> list[Colour]:
    """The colours of the classes, in the order of their ids."""
    return list(classes.values())


def _code(colour: Colour) -> int:
    red, green, blue = colour
    return red << 16 | green << 8 | blue


def _colour(code: int) -> Colour:
    return int(code) >> 16, int(code) >> 8 & 255, int(code) & 255


def write_indexed(path: Path, ids: Pixels, colours: Sequence[tuple[int, int, int]]) -> None:
    """Write ids (h, w) as a palette PNG: pixel values are ids, viewers show the colours."""
    image = Image.fromarray(ids)
    image.putpalette([channel for colour in colours for channel in colour])
    save_image(image, path)
