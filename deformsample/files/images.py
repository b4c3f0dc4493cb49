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
"""In lower case; matching ignores case."""

ZARR_SUFFIX = ".zarr"
"""Suffix of the folder of an OME-Zarr image, which :mod:`.slides` reads."""

FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")
"""Formats to decode, by content. Further formats of Pillow start other programs."""

_PLAIN = frozenset({"1", "L", "LA", "P", "PA", "RGBA", "RGBX"})
_DEEP = frozenset({"I;16", "I;16B", "I;16L"})


def read_image(path: Path, halvings: int = 0) -> Pixels:
    """Read an image file as RGB.

    Grey and palette images become RGB, opacity is dropped, and 16-bit images are converted to 8
    bits by keeping the high byte. Only the first page of a TIFF is read.

    Args:
        path: path of the file.
        halvings: decode a JPEG at 1 / 2^halvings of its size, at most 3; its sides are rounded up.

    Returns:
        (h, w, 3) uint8, with the EXIF orientation applied.

    Raises:
        DataError: no such file, not an image, truncated, of a single row or column, or of another
            colour mode (CMYK, Lab, floating point).
    """
    image = open_image(path, halvings)
    if min(image.size) < 2:
        raise DataError(
            f"Expected an image of at least 2 x 2 pixels, but {path} has {image.height} x "
            f"{image.width}."
        )
    if image.mode == "RGB":
        return np.asarray(image)
    if image.mode in _DEEP:
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.stack([grey] * 3, axis=-1)
    if image.mode not in _PLAIN:
        raise DataError(
            "Expected an RGB, grey or palette image of 8 or 16 bits, but "
            f"{path} has mode {image.mode} ({len(image.getbands())} channel(s)): convert it to "
            "RGB first."
        )
    # Via RGBA, since Pillow warns when it drops the opacity of a palette.
    return np.asarray(image.convert("RGBA").convert("RGB"))


def read_ids(path: Path) -> Pixels:
    """Read an image of label ids: one channel of 8 bits, or palette indices.

    Returns:
        (h, w) uint8.

    Raises:
        DataError: as in :func:`read_image`.
    """
    image = open_image(path)
    if image.mode not in ("L", "P"):
        raise DataError(
            f"Expected label ids in one channel of 8 bits, but {path} has mode {image.mode} "
            f"({len(image.getbands())} channel(s)): convert it, or set `labels` to colours."
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
    """Write (h, w) or (h, w, 3) uint8 atomically, in the format of the suffix."""
    save_image(Image.fromarray(pixels), path)


def save_image(image: Image.Image, path: Path, pnginfo: PngInfo | None = None) -> None:
    """Write an image atomically, in the format of the suffix."""
    with atomic_write(path) as partial:
        image.save(partial, pnginfo=pnginfo)


def open_image(path: Path, halvings: int = 0) -> Image.Image:
    """Decode an image file and apply its EXIF orientation.

    The declared size is checked before decoding.

    Args:
        path: path of the file.
        halvings: as in :func:`read_image`.

    Raises:
        DataError: no such file, not an image, too large, animated, or truncated.
    """
    regular_file(path, "an image file")
    try:
        image: Image.Image = Image.open(path, formats=FORMATS)
        check_image(image, path)
        if halvings:
            image.draft(None, (image.width >> halvings, image.height >> halvings))
        image.load()  # closes the file
        ImageOps.exif_transpose(image, in_place=True)
        return image
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(
            f"Expected an image file in one of the formats {', '.join(FORMATS)}, but {path} is in "
            "none of them."
        ) from None
    except Image.DecompressionBombError as error:
        raise DataError(
            f"Expected an image of fewer pixels, but {path} exceeds Pillow's limit ({error}): save "
            "it as a tiled TIFF, which is read in parts, or raise `PIL.Image.MAX_IMAGE_PIXELS` if "
            "you trust the file."
        ) from None
    except Exception as error:  # decoders raise any exception on invalid bytes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"Cannot read {path}: {reason}. Get the file again, or remove it."
        ) from None


def image_files(folder: Path) -> list[Path]:
    """All image files directly in a folder, sorted by name."""
    return [file for file in files_in(folder) if file.suffix.lower() in IMAGE_SUFFIXES]
