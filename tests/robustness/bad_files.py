"""Files that are broken in all ways, made from sound ones: cut, with bits and fields changed.

``python -m tests.robustness.bad_files`` prints how many of each kind are read and how many refused.
"""

from __future__ import annotations

import gzip
import io
import random
import signal
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import tifffile
import torch
from PIL import Image

from deformsample.checkpoints.archive import FORMAT
from deformsample.checkpoints.builder import build_part
from deformsample.data import Folder, Nifti
from deformsample.data.cache import DecodedCache
from deformsample.data.datasets.classification_dataset import CsvDataset
from deformsample.data.datasets.nifti import Slice
from deformsample.data.datasets.segmentation_dataset import SegmentationSample
from deformsample.data.from_config import build_data, read_config
from deformsample.data.splits import SplitFile
from deformsample.errors import DeformsampleError
from deformsample.files.images import read_image
from deformsample.files.sampled_png import SampledImage, read_sampled, write_sampled
from deformsample.files.slides import open_large
from deformsample.inference.loading import load
from deformsample.inference.model import SegmentationModel
from deformsample.segmenters import Segmenter

Outcome = Any
"""What a reader gives; equal for equal content."""

SIZE = (20, 30)
HANGS = 30
"""Seconds after which a reader is said to hang; all take a small part of one."""

CLASSES = {"background": (0, 0, 0), "object": (255, 0, 0)}


@dataclass(frozen=True)
class Kind:
    """A sound file, and how it is read."""

    name: str
    file: str
    content: bytes
    read: Callable[[Path], Outcome]
    header: int = 200
    """Bytes at the start in which most of the changes are."""

    count: int = 16
    """Files of each of three sorts of change."""

    ends: bool = True
    """Whether a file says where it ends, so that one that is cut short is known as such."""


def broken(kind: Kind) -> Iterator[tuple[str, bytes]]:
    """Name and content of files that are broken; the same in every run."""
    chance = random.Random(kind.name)
    whole, header = kind.content, min(kind.header, len(kind.content) - 4)
    yield "whole", whole
    yield "empty", b""
    yield "zeros", bytes(len(whole))
    yield "noise", chance.randbytes(len(whole))
    yield "other magic", b"GIF89a" + whole[6:]
    yield "twice", whole + whole
    for end in (1, 4, len(whole) // 2, len(whole) - 1):
        yield f"cut to {end}", whole[:end]
    for _ in range(kind.count):
        end = chance.randrange(len(whole))
        yield f"cut to {end}", whole[:end]
    for number in range(kind.count):
        changed = bytearray(whole)
        reach = header if number % 2 else len(whole)
        for _ in range(chance.choice((1, 1, 2, 8))):
            changed[chance.randrange(reach)] ^= 1 << chance.randrange(8)
        yield f"bits {number}", bytes(changed)
    for number in range(kind.count):
        place = chance.randrange(header)
        field = chance.choice((b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", bytes(4)))
        yield f"field at {place}, {number}", whole[:place] + field + whole[place + 4 :]


def outcome(kind: Kind, name: str, content: bytes, folder: Path) -> tuple[str, Outcome]:
    """``read`` and what, or ``refused`` and why.

    Raises:
        AssertionError: the reader hangs, or fails in a way that names no file.
    """
    file = folder / kind.file
    file.write_bytes(content)
    signal.signal(signal.SIGALRM, _hangs)
    signal.alarm(HANGS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged metadata
            return "read", kind.read(file)
    except DeformsampleError as error:
        text = str(error)
        assert file.name in text, f"{kind.name}, {name}: {text}"
        return "refused", text
    except Exception as error:
        raise AssertionError(f"{kind.name}, {name}: {type(error).__name__}: {error}") from error
    finally:
        signal.alarm(0)
        file.unlink()


def _hangs(number: int, frame: object) -> None:
    raise TimeoutError(f"takes longer than {HANGS} s")


def pixels_of(file: Path) -> Outcome:
    pixels = read_image(file)
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert pixels.size
    return pixels.tobytes()


def parts_of(file: Path) -> Outcome:
    """At most a corner: the declared size may be large."""
    with open_large(file) as image:
        height, width = (min(side, 64) for side in image.size)
        part = image.read(0, 0, height, 0, width)
    assert part.shape == (3, height, width)
    assert 0 <= float(part.min()) <= float(part.max()) <= 255
    return part.tobytes()


def ids_of(file: Path) -> Outcome:
    return _labels(Folder(None, CLASSES), file)


def colours_of(file: Path) -> Outcome:
    return _labels(Folder(None, CLASSES, labels="colours", ignored_colours=[]), file)


def _labels(data: Folder, file: Path) -> Outcome:
    ids = data.read_labels(SegmentationSample("a", file, file))
    assert ids.dtype == np.uint8
    assert ids.ndim == 2
    assert set(np.unique(ids)) <= {0, 1, 255}
    return ids.tobytes()


def grey_of(file: Path) -> Outcome:
    with _renamed(file) as own:
        image = _NIFTI.read_image(Slice("a", own, own))
    assert image.dtype == np.uint8
    assert image.shape[2] == 3
    return image.tobytes()


def values_of(file: Path) -> Outcome:
    with _renamed(file) as own:
        return _NIFTI.read_labels(Slice("a", own, own)).tobytes()


_NIFTI = Nifti(None, CLASSES, {"background": [0], "object": [1]})
_NUMBERS = iter(range(1 << 30))


@contextmanager
def _renamed(file: Path) -> Iterator[Path]:
    """Each file has a name of its own, since volumes are kept."""
    own = file.rename(file.with_name(f"{next(_NUMBERS)}_{file.name}"))
    try:
        yield own
    finally:
        own.rename(file)


def config_of(file: Path) -> Outcome:
    data = build_data(read_config(str(file)), str(file.parent), str(file))
    return list(data.classes), data.batch_size


def model_of(file: Path) -> Outcome:
    model = load(file)
    assert isinstance(model, SegmentationModel)
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


def cached(file: Path) -> Outcome:
    """What stands at the place of an entry is taken for it."""
    source = file.with_suffix(".png")
    if not source.exists():
        source.touch()
    folder = file.parent / "cache"
    cache = DecodedCache(folder)
    if not folder.is_dir():
        cache.get("image", source, lambda: _pixels(3))
    (entry,) = folder.iterdir()
    entry.write_bytes(file.read_bytes())
    try:
        array = cache.get("image", source, lambda: _pixels(3))
    except DeformsampleError as error:  # it names the entry
        raise type(error)(str(error).replace(entry.name, file.name)) from None
    assert array.dtype == np.uint8
    return array.tobytes()


def sampled_of(file: Path) -> Outcome:
    sampled = read_sampled(file)
    assert sampled.grid.shape == (*sampled.pixels.shape[:2], 2)
    assert min(sampled.size) > 0
    return sampled.pixels.tobytes() + sampled.grid.tobytes()


def split_of(file: Path) -> Outcome:
    return SplitFile(file.name).split(["a_1", "a_2", "b_1"], file.parent)


def rows_of(file: Path) -> Outcome:
    for stem in ("a", "b"):
        (file.parent / f"{stem}.png").touch()
    data = CsvDataset(str(file.parent), file.name, label="score")
    labels = [sample.label for sample in data.samples()]
    assert np.isfinite(labels).all()
    return labels


def _pixels(channels: int | None) -> npt.NDArray[np.uint8]:
    shape = SIZE if channels is None else (*SIZE, channels)
    return np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def tiff(pixels: npt.NDArray[Any], **options: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, **options)
    return stream.getvalue()


def nifti(voxels: npt.NDArray[Any], header: Any = nibabel.Nifti1Image) -> bytes:
    content: bytes = header(voxels, np.eye(4)).to_bytes()
    return content


def checkpoint() -> dict[str, Any]:
    """The content of a checkpoint of small networks."""
    unet = "deformsample.networks.UNet"
    network = {"class_path": unet, "init_args": {"num_classes": 2, "widths": [2, 3]}}
    architecture = {
        "class_path": "deformsample.segmenters.SampledSegmenter",
        "init_args": {
            "downsampler": {
                "class_path": "deformsample.samplers.Downsampler",
                "init_args": {
                    "sampler": {"class_path": "deformsample.samplers.UniformSampler"},
                    "sampled_size": [8, 12],
                },
            },
            "network": network,
        },
    }
    torch.manual_seed(0)
    weights = build_part(Segmenter, architecture, "a test").state_dict()
    classes = {name: list(colour) for name, colour in CLASSES.items()}
    return {
        "state_dict": {f"segmenter.{name}": value for name, value in weights.items()},
        "deformsample": {"format": FORMAT, "segmenter": architecture, "classes": classes},
    }


def saved(content: object, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def _npy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, _pixels(3))
    return stream.getvalue()


def _sampled() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a.png"
        grid = np.random.default_rng(0).uniform(-1, 1, (*SIZE, 2)).astype(np.float32)
        write_sampled(file, SampledImage(_pixels(3), grid, np.full((4, 6), 1 / 24), (80, 90)))
        return file.read_bytes()


CONFIG = """\
task: segmentation
data:
  batch_size: 2
  dataset:
    class_path: deformsample.data.Folder
    init_args:
      labels: ids
      classes:
        background: [0, 0, 0]
        object: [255, 0, 0]
  splitter:
    class_path: deformsample.data.RandomSplit
    init_args:
      shares: [0.5, 0.25, 0.25]
"""


def kinds() -> list[Kind]:
    """All of them; about 1,500 files."""
    colour, grey = Image.fromarray(_pixels(3)), Image.fromarray(_pixels(None))
    deep = Image.fromarray(_pixels(None).astype(np.uint16) * 256)
    ids = Image.fromarray(_pixels(None) % 2)
    red = Image.fromarray((_pixels(None) % 2)[..., None] * np.array([255, 0, 0], np.uint8))
    palette = colour.convert("P")
    exif = Image.Exif()
    exif[0x0112] = 6
    images = {
        "a.png": [
            ("PNG", encoded(colour, "PNG")),
            ("PNG, interlaced palette", encoded(palette, "PNG", transparency=3)),
            ("PNG, 16 bits", encoded(deep, "PNG")),
            ("PNG, 1 bit", encoded(grey.convert("1"), "PNG")),
            ("PNG, grey and opacity", encoded(grey.convert("LA"), "PNG")),
        ],
        "a.jpg": [
            ("JPEG", encoded(colour, "JPEG")),
            ("JPEG, progressive", encoded(colour, "JPEG", progressive=True)),
            ("JPEG, CMYK", encoded(colour.convert("CMYK"), "JPEG")),
            ("JPEG, turned", encoded(colour, "JPEG", exif=exif.tobytes())),
        ],
        "a.bmp": [("BMP", encoded(colour, "BMP"))],
        "a.webp": [
            ("WebP", encoded(colour, "WEBP")),
            ("WebP, lossless", encoded(colour, "WEBP", lossless=True)),
        ],
    }
    rgb: dict[str, Any] = {"photometric": "rgb"}
    tiles: dict[str, Any] = {**rgb, "tile": (16, 16)}
    floats = np.where(_pixels(None) > 200, np.nan, _pixels(None)).astype(np.float32)
    tiffs = {
        "TIFF, strips": tiff(_pixels(3), **rgb, rowsperstrip=5),
        "TIFF, LZW": encoded(colour, "TIFF", compression="tiff_lzw"),
        "TIFF, Deflate": encoded(colour, "TIFF", compression="tiff_deflate"),
        "TIFF, JPEG": encoded(colour, "TIFF", compression="jpeg"),
        "TIFF, tiles": tiff(_pixels(3), **tiles),
        "TIFF, tiles, Deflate": tiff(_pixels(3), **tiles, compression="zlib"),
        "BigTIFF, strips": tiff(_pixels(3), **rgb, bigtiff=True),
        "BigTIFF, tiles, Deflate": tiff(_pixels(3), **tiles, compression="zlib", bigtiff=True),
        "TIFF, 16 bits": tiff(_pixels(None).astype(np.uint16) * 200),
        "TIFF, floats": tiff(floats),
    }
    ball = np.random.default_rng(0).integers(0, 2, (6, 5, 4)).astype(np.int16)
    gaps = np.where(ball, np.inf, np.nan).astype(np.float32)
    model = saved(checkpoint())
    return [
        *(Kind(n, file, c, pixels_of) for file, group in images.items() for n, c in group),
        *(Kind(n, "a.tif", c, pixels_of) for n, c in tiffs.items()),
        *(Kind(f"{n}, in parts", "b.tif", c, parts_of) for n, c in tiffs.items()),
        Kind("label ids", "ids.png", encoded(ids, "PNG"), ids_of),
        Kind("label colours", "red.png", encoded(red, "PNG"), colours_of),
        Kind("NIfTI", "a.nii", nifti(ball), grey_of, 352, 30),
        Kind("NIfTI, compressed", "a.nii.gz", gzip.compress(nifti(ball), mtime=0), grey_of),
        Kind("NIfTI 2", "b.nii", nifti(ball, nibabel.Nifti2Image), grey_of, 544, 20),
        Kind("NIfTI, labels", "d.nii", nifti(ball), values_of, 352, 30),
        Kind("NIfTI of NaN and infinities", "c.nii", nifti(gaps), grey_of, 352),
        Kind("config", "a.yaml", CONFIG.encode(), config_of, len(CONFIG), ends=False),
        Kind("checkpoint", "a.ckpt", model, model_of, len(model), 25),
        Kind("decoded cache", "a.npy", _npy(), cached),
        Kind("sampled image", "s.png", _sampled(), sampled_of, 5000),
        Kind(
            "split file", "a.csv", b"a_1,train\n# more\na_*,val\nb_?,test\n", split_of, ends=False
        ),
        Kind(
            "labels",
            "l.csv",
            b"path,label,split\na.png,0.5,train\nb.png,-2,\n",
            rows_of,
            ends=False,
        ),
    ]


def main() -> None:
    total: Counter[str] = Counter()
    print("| kind | files | read | refused |\n|---|---|---|---|")
    for kind in kinds():
        with tempfile.TemporaryDirectory() as folder:
            cases = list(broken(kind))
            counts = Counter(outcome(kind, *case, Path(folder))[0] for case in cases)
        total += counts
        print(f"| {kind.name} | {len(cases)} | {counts['read']} | {counts['refused']} |")
    print(f"| **all** | {total.total()} | {total['read']} | {total['refused']} |")


if __name__ == "__main__":
    main()
