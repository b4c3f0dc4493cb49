"""Reading and writing image files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from deformsample.conventions import Pixels
from deformsample.errors import DataError
from deformsample.files.limits import check_image
from deformsample.files.reading import files_in, regular_file
from deformsample.files.writing import atomic_write

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""In lower case; files are matched whatever their case."""

FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")
"""What is decoded, whatever a file's name says. Pillow knows more: some start other programs."""

_PLAIN = frozenset({"1", "L", "LA", "P", "PA", "RGBA", "RGBX"})
_DEEP = frozenset({"I;16", "I;16B", "I;16L"})


def read_image(path: Path) -> Pixels:
    """Read an image file as RGB.

    One channel is shown as grey, a palette by its colours; opacity is left out, and 16-bit images
    keep their high byte. Of a TIFF with several pages the first one counts.

    Returns:
        (h, w, 3) uint8, turned upright where the file says how.

    Raises:
        DataError: no such file, not an image, cut short, of a single row or column, or of other
            colours (CMYK, Lab, numbers with a point).
    """
    image = open_image(path)
    if min(image.size) < 2:
        raise DataError(
            f"Expected an image of at least 2 x 2 pixels, but {path} has {image.height} x "
            f"{image.width}: nothing lies between its samples."
        )
    if image.mode == "RGB":
        return np.asarray(image)
    if image.mode in _DEEP:
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.stack([grey] * 3, axis=-1)
    if image.mode not in _PLAIN:
        raise DataError(
            "Expected an image in RGB, grey or of a palette, with 8 or 16 bits, but "
            f"{path} has mode {image.mode} ({len(image.getbands())} channel(s)): convert it to "
            "RGB first."
        )
    # By way of RGBA: Pillow warns of a palette's opacity that is lost directly.
    return np.asarray(image.convert("RGBA").convert("RGB"))


def read_ids(path: Path) -> Pixels:
    """Read an image whose pixels are numbers: one channel of 8 bits, or indices into a palette.

    Returns:
        (h, w) uint8.

    Raises:
        DataError: as :func:`read_image`.
    """
    image = open_image(path)
    if image.mode not in ("L", "P"):
        raise DataError(
            f"Expected label ids in one channel of 8 bits, but {path} has mode {image.mode} "
            f"({len(image.getbands())} channel(s)): save it so; or if it is coloured, give the "
            "colours."
        )
    return np.asarray(image)


def read_colours(path: Path) -> Pixels:
    """Read an RGB or palette image as colours (h, w, 3) uint8."""
    image = open_image(path)
    if image.mode not in ("RGB", "P"):
        raise DataError(
            f"Expected label colours in an RGB or palette image, but {path} has mode {image.mode} "
            f"({len(image.getbands())} channel(s))."
        )
    return np.asarray(image.convert("RGB"))


def write_image(path: Path, pixels: Pixels) -> None:
    """Write (h, w) or (h, w, 3) uint8 as the format of the path's suffix, whole or not at all."""
    save_image(Image.fromarray(pixels), path)


def save_image(image: Image.Image, path: Path, pnginfo: PngInfo | None = None) -> None:
    """Write an image as the format of the path's suffix, whole or not at all."""
    with atomic_write(path) as partial:
        image.save(partial, pnginfo=pnginfo)


def open_image(path: Path) -> Image.Image:
    """Decode an image file, turned upright where it says how.

    Its declared size is looked at before anything is decoded.

    Raises:
        DataError: no such file, not an image, too large, animated, or cut short.
    """
    regular_file(path, "an image file")
    try:
        image: Image.Image = Image.open(path, formats=FORMATS)
        check_image(image, path)
        image.load()  # closes the file
        ImageOps.exif_transpose(image, in_place=True)
        return image
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(
            f"Expected an image file, but {path} is not in a format that can be read: "
            f"{', '.join(FORMATS)}."
        ) from None
    except Image.DecompressionBombError as error:
        raise DataError(
            f"Expected an image of fewer pixels, but {path} is larger than Pillow reads ({error}): "
            "save it as a tiled TIFF, which is read in parts, or raise "
            "`PIL.Image.MAX_IMAGE_PIXELS` if you trust the file."
        ) from None
    except Exception as error:  # bytes of any kind make a decoder fail in any way
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"Expected a whole image file, but {path} cannot be decoded ({reason}): get the file "
            "again or remove it."
        ) from None


def image_files(folder: Path) -> list[Path]:
    """All image files directly in a folder, by name; extensions count in any letter case."""
    return [file for file in files_in(folder) if file.suffix.lower() in IMAGE_SUFFIXES]
