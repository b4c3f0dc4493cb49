"""Small files that claim to be giants: each must be refused in little memory.

Run as a program, which bounds its own memory. It prints what happens to each.
"""

from __future__ import annotations

import gzip
import io
import resource
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import tifffile
from PIL import Image

from deformsample.errors import DeformsampleError
from deformsample.files.reading import TEXT_LIMIT
from tests.robustness.bad_files import (
    CONFIG,
    cached,
    config_of,
    encoded,
    grey_of,
    model_of,
    nifti,
    parts_of,
    pixels_of,
    sampled_of,
    split_of,
    tiff,
)

ROOM = 512 << 20
"""Bytes that reading may take beside what Python and its libraries do."""

Bomb = tuple[str, bytes, Callable[[Path], Any]]


def bombs() -> list[Bomb]:
    """File name, content and reader of each."""
    return [
        ("header.png", _png(60_000, 60_000, b""), pixels_of),
        ("zeros.png", _png(16_000, 16_000, bytes(2001) * 1000), pixels_of),
        ("text.png", _png_with_text(1 << 24), pixels_of),
        ("header.jpg", _jpeg(65_000, 65_000), pixels_of),
        ("header.bmp", _bmp(90_000, 90_000), pixels_of),
        ("header.webp", _webp(16_383, 16_383), pixels_of),
        ("wide.tif", _retagged({256: 1 << 20, 257: 1 << 20}), pixels_of),
        ("wide2.tif", _retagged({256: 1 << 20, 257: 1 << 20}), parts_of),
        ("wide3.tif", _retagged({256: 1 << 24, 257: 64}, tile=(16, 16)), parts_of),
        ("tile.tif", _retagged({322: 1 << 20, 323: 1 << 20}, tile=(16, 16)), parts_of),
        ("tile2.tif", _retagged({322: 1 << 14, 323: 1 << 14}, tile=(16, 16)), pixels_of),
        ("strip.tif", _retagged({257: 1 << 30, 278: 1 << 30}), parts_of),
        ("dim.nii", _volume((30_000, 30_000, 30_000)), grey_of),
        ("dim2.nii", _volume((2000, 2000, 60)), grey_of),
        ("dim.nii.gz", gzip.compress(_volume((30_000, 30_000, 30_000))), grey_of),
        ("zeros.nii.gz", gzip.compress(_volume((3000, 3000, 20)) + bytes(1 << 24)), grey_of),
        ("offset.nii.gz", gzip.compress(_volume((6, 5, 4), offset=1e12)), grey_of),
        ("extension.nii.gz", gzip.compress(_extended() + bytes(1 << 24)), grey_of),
        ("deflated.ckpt", _archive(1 << 24), model_of),
        ("header.npy", _npy((1 << 20, 1 << 20)), cached),
        ("places.png", _places(), sampled_of),
        ("laughs.yaml", _laughs(), config_of),
        ("deep.yaml", b"data: " + b"[" * 20_000, config_of),
        ("long.yaml", CONFIG.encode() + b"#" * (1 << 21), config_of),
        ("long.csv", bytes(TEXT_LIMIT + 1), split_of),
        ("line.csv", b"a" * (1 << 20) + b",train\n", split_of),
    ]


def _chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def _png(height: int, width: int, rows: bytes, *more: bytes) -> bytes:
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    body = _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + body


def _png_with_text(size: int) -> bytes:
    return _png(4, 8, bytes(8), _chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(size))))


def _jpeg(height: int, width: int) -> bytes:
    whole = encoded(Image.new("RGB", (16, 16)), "JPEG")
    at = whole.index(b"\xff\xc0") + 5
    return whole[:at] + struct.pack(">HH", height, width) + whole[at + 4 :]


def _bmp(height: int, width: int) -> bytes:
    whole = encoded(Image.new("RGB", (16, 16)), "BMP")
    return whole[:18] + struct.pack("<ii", width, height) + whole[26:]


def _webp(height: int, width: int) -> bytes:
    whole = encoded(Image.new("RGB", (16, 16)), "WEBP")
    at = whole.index(b"\x9d\x01\x2a") + 3
    return whole[:at] + struct.pack("<HH", width, height) + whole[at + 4 :]


def _retagged(tags: dict[int, int], **options: Any) -> bytes:
    """A TIFF of 20 x 30 pixels that claims other numbers."""
    pixels = np.zeros((20, 30, 3), np.uint8)
    content = tiff(pixels, photometric="rgb", compression="zlib", **options)
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        places = {code: file.pages[0].tags[code].offset for code in tags}
    for code, value in tags.items():
        entry = struct.pack("<HHII", code, 4, 1, value)
        content = content[: places[code]] + entry + content[places[code] + 12 :]
    return content


def _volume(shape: tuple[int, int, int], offset: float = 352) -> bytes:
    header = nibabel.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(np.float64)
    header["vox_offset"] = offset
    header["magic"] = b"n+1"
    return bytes(header.binaryblock) + bytes(4)


def _extended() -> bytes:
    """A volume whose extension claims two gigabytes."""
    whole = nifti(np.ones((6, 5, 4), np.int16))
    extension = struct.pack("<4Bii", 1, 0, 0, 0, (1 << 31) - 16, 4)
    header = bytearray(whole[:348])
    header[108:112] = struct.pack("<f", 368.0)
    return bytes(header) + extension + bytes(8) + whole[352:]


def _archive(size: int) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        archive.writestr("archive/data/0", bytes(size))
    return stream.getvalue()


def _npy(shape: tuple[int, int]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "|u1", "fortran_order": False, "shape": shape}
    )
    return stream.getvalue()


def _places() -> bytes:
    """A sampled image whose places unpack to much."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("grid", "density", "size"):
            archive.writestr(f"{name}.npy", bytes(1 << 22))
    whole = encoded(Image.new("RGB", (16, 16)), "PNG")
    end = whole.index(b"IEND") - 4
    return whole[:end] + _chunk(b"dfSM", stream.getvalue()) + whole[end:]


def _laughs() -> bytes:
    """Ten aliases of ten aliases of ten aliases."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    return ("\n".join(lines) + "\ntask: *a11\n").encode()


def main(folder: Path) -> None:
    every = bombs()  # made before memory is bounded
    for name, content, _ in every:
        (folder / name).write_bytes(content)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + ROOM, held + ROOM))
    for name, _, read in every:
        try:
            read(folder / name)
            print("read", name)
        except DeformsampleError as error:
            print("refused" if name in str(error) else "unnamed", name, str(error)[:300])
        except BaseException as error:  # memory that cannot be had, above all
            print("failed", name, type(error).__name__, str(error)[:300])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
