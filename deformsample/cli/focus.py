"""Regions of images with a higher sampling density, as options."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from deformsample.errors import ArgumentError

if TYPE_CHECKING:
    from deformsample.samplers import Focus


def add_focus_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the regions of all images."""
    parser.add_argument(
        "--focus",
        action="append",
        metavar="X0,Y0,X1,Y1",
        help="more samples in this box, or around the point X,Y, in pixels of the image; can be "
        "repeated",
    )
    parser.add_argument(
        "--focus-factor",
        type=float,
        metavar="F",
        help="factor of the sampling density there (default: 4)",
    )
    parser.add_argument(
        "--focus-radius",
        type=float,
        metavar="R",
        help="half the side of the square of a point, relative to the shorter side of the image "
        "(default: 0.05)",
    )


def focus_of(options: argparse.Namespace) -> Focus | None:
    """The focus of the options of :func:`add_focus_arguments`; ``None`` without regions.

    Raises:
        ArgumentError: text that is not a box or a point, or a factor or radius without regions.
    """
    from deformsample.samplers import Focus

    given = {"factor": options.focus_factor, "radius": options.focus_radius}
    given = {name: value for name, value in given.items() if value is not None}
    if options.focus is None:
        for name, value in given.items():
            raise ArgumentError(f"Expected `--focus` with `--focus-{name}`, but got only {value}.")
        return None
    return Focus([_region(text) for text in options.focus], **given)


def _region(text: str) -> list[float]:
    try:
        return [float(value) for value in text.split(",")]
    except ValueError as error:
        raise ArgumentError(
            "Expected `--focus` to be a box X0,Y0,X1,Y1 or a point X,Y in pixels, but got "
            f"{text!r}."
        ) from error
