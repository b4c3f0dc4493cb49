"""Images in parts give what whole images give."""

import json
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest
import tifffile
import torch
import zarr
from PIL import Image

import deformsample
from deformsample.cli.main import main
from deformsample.conventions import Pixels
from deformsample.errors import DataError
from deformsample.files.images import read_image
from deformsample.files.sampled_png import read_sampled
from deformsample.files.slides import SlideImage, TiffImage, as_rgb, is_large, open_large
from deformsample.geometry import image_pyramid
from deformsample.samplers import DetailSampler, OutOfCoreImage, UniformSampler
from deformsample.samplers.downsampler import Downsampler
from tests.helpers import naming, scene

SIZE = (331, 517)


def picture() -> Pixels:
    return scene(3, *SIZE, classes=2)[0]


def write_tiff(path: Path, pixels: np.ndarray, levels: int = 0, **options: object) -> Path:
    """A tiled TIFF with levels that are averages, rounded."""
    layout = {"tile": (64, 64), "compression": "zlib", **options}
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        writer.write(pixels, subifds=levels, **layout)
        pyramid = image_pyramid(
            torch.from_numpy(np.atleast_3d(pixels).transpose(2, 0, 1).copy())[None]
        )
        for level in pyramid[1 : levels + 1]:
            own = level[0].round().byte().numpy().transpose(1, 2, 0)
            writer.write(np.ascontiguousarray(own), subfiletype=1, **layout)
    return path


@pytest.mark.parametrize("levels", [0, 2])
@pytest.mark.parametrize("bias", [None, 0.0, -1.0])
def test_samples_in_parts_are_the_samples_of_the_whole(
    levels: int, bias: float | None, tmp_path: Path
) -> None:
    pixels = picture()
    file = write_tiff(tmp_path / "a.tif", pixels, levels, photometric="rgb")
    sampler = UniformSampler() if levels else DetailSampler()
    downsampler = Downsampler(sampler, (40, 60), lod_bias=bias)
    whole = downsampler(torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None])
    with open_large(file) as image:
        assert image.size == SIZE
        assert sorted(image.levels) == list(range(levels + 1))
        parts = downsampler(OutOfCoreImage(image, torch.device("cpu")))
    tolerance = 2e-4 if levels == 0 else 1 / 255  # levels of the file are rounded
    for own, expected in zip(parts, whole, strict=True):
        torch.testing.assert_close(own, expected, rtol=0, atol=tolerance)


def test_a_slide_is_read_by_openslide(tmp_path: Path) -> None:
    pixels = picture()
    file = write_tiff(tmp_path / "a.tif", pixels, photometric="rgb").rename(tmp_path / "a.svs")
    with open_large(file) as slide, TiffImage(file) as tiff:
        assert isinstance(slide, SlideImage)
        for part in ((0, 10, 50, 20, 90), (0, 300, 331, 500, 517), (3, 0, 42, 0, 65)):
            np.testing.assert_allclose(slide.read(*part), tiff.read(*part), rtol=0, atol=1.5)


def test_labels_of_a_large_file_are_those_of_the_whole(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = picture()
    file = str(write_tiff(tmp_path / "a.tif", pixels, photometric="rgb"))
    monkeypatch.setattr("deformsample.files.slides.READ_WHOLE", 100_000)
    out = tmp_path / "out"
    assert main(["segment", str(checkpoint), file, "--output", str(out)]) == 0
    assert [path.name for path in out.iterdir()] == ["a.tif"]
    with tifffile.TiffFile(out / "a.tif") as written:
        page = written.pages.first
        assert page.is_tiled
        assert page.colormap[:, 1].tolist() == [c * 257 for c in (255, 255, 255)]
        labels = page.asarray()
    expected = deformsample.load(checkpoint, kind=deformsample.SegmentationModel).segment(pixels)
    assert labels.shape == SIZE
    assert float((labels != expected).mean()) < 1e-3
    assert main(["segment", str(checkpoint), file, "--output", str(out), "--guided"]) == 0
    guided = deformsample.load(checkpoint, kind=deformsample.SegmentationModel).segment(
        pixels, guided=True
    )
    assert float((tifffile.imread(out / "a.tif") != guided).mean()) < 5e-3
    assert main(["downsample", str(checkpoint), file, "--output", str(out)]) == 0
    held = read_sampled(out / "a.png")
    assert held.size == SIZE
    assert held.pixels.shape == (16, 24, 3)


def test_a_large_jpeg_is_decoded_at_the_size_that_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deformsample.files.slides.READ_WHOLE", 100_000)
    file = tmp_path / "a.jpg"
    pixels = cv2.resize(scene(3, 30, 40, classes=2)[0], (1003, 611))  # smooth
    Image.fromarray(pixels).save(file, quality=95, subsampling=0)
    whole = read_image(file)
    downsampler = Downsampler(DetailSampler(), (20, 30))
    expected = downsampler(torch.from_numpy(whole.transpose(2, 0, 1).copy())[None])
    decoded: list[int] = []

    def counted(path: Path, halvings: int) -> Pixels:
        decoded.append(halvings)
        return read_image(path, halvings)

    monkeypatch.setattr("deformsample.files.slides.read_image", counted)
    assert is_large(file)
    with open_large(file) as image:
        assert image.size == whole.shape[:2]
        sampled = downsampler(OutOfCoreImage(image, torch.device("cpu")))
    assert decoded[0] == 3  # the thumbnail
    assert 0 not in decoded
    assert len(decoded) == len(set(decoded))
    torch.testing.assert_close(sampled.image, expected.image, rtol=0, atol=0.03)
    model = deformsample.load("blue-marble", kind=deformsample.SegmentationModel)
    assert model.segment(file).shape == whole.shape[:2]


def test_a_large_jpeg_with_an_orientation_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deformsample.files.slides.READ_WHOLE", 1_000)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture()).save(tmp_path / "a.jpg", exif=exif)
    assert not is_large(tmp_path / "a.jpg")


def write_zarr(path: Path, pixels: Pixels, version: Literal[2, 3], **options: Any) -> Path:
    """An OME-Zarr image (t, c, y, x) with two levels."""
    group = zarr.open_group(path, mode="w", zarr_format=version)
    axes = [{"name": name} for name in "tcyx"]
    image = {"axes": axes, "datasets": [{"path": "0"}, {"path": "1"}]}
    group.attrs.update(
        {"multiscales": [image]} if version == 2 else {"ome": {"multiscales": [image]}}
    )
    half = image_pyramid(torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None])[1]
    for name, level in (("0", pixels.transpose(2, 0, 1)), ("1", half[0].round().byte().numpy())):
        layout = {"shape": (1, *level.shape), "chunks": (1, 3, 64, 64), "dtype": "u1", **options}
        group.create_array(name, **layout)[0] = level
    return path


@pytest.mark.parametrize("version", [2, 3])
def test_an_ome_zarr_image_is_read_as_a_tiff(version: Literal[2, 3], tmp_path: Path) -> None:
    pixels = picture()
    tiff = write_tiff(tmp_path / "a.tif", pixels, 1, photometric="rgb")
    file = write_zarr(tmp_path / "a.ome.zarr", pixels, version)
    with open_large(file) as image, TiffImage(tiff) as expected:
        assert image.size == expected.size
        for part in ((0, 10, 50, 20, 90), (1, 0, 99, 100, 200), (3, 0, 42, 0, 65)):
            assert np.array_equal(image.read(*part), expected.read(*part))


def test_labels_of_an_ome_zarr_image_are_those_of_its_pixels(
    checkpoint: Path, tmp_path: Path
) -> None:
    pixels = picture()
    file = write_zarr(tmp_path / "a.zarr", pixels, 3)
    assert main(["segment", str(checkpoint), str(file), "--output", str(tmp_path / "out")]) == 0
    labels = tifffile.imread(tmp_path / "out" / "a.tif")
    model = deformsample.load(checkpoint, kind=deformsample.SegmentationModel)
    assert float((labels != model.segment(pixels)).mean()) < 0.01  # levels are rounded


def test_zarr_folders_that_are_no_images_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.zarr").mkdir()
    zarr.open_group(tmp_path / "other.zarr", mode="w")
    (tmp_path / "file.zarr").write_bytes(b"")
    for name in ("empty.zarr", "other.zarr", "file.zarr", "no.zarr"):
        with pytest.raises(DataError, match=naming(tmp_path / name)):
            open_large(tmp_path / name)
    deep = write_zarr(tmp_path / "deep.zarr", picture(), 3, dtype="f4")
    with pytest.raises(DataError, match=naming(deep, "float32")):
        open_large(deep)
    pickled = write_zarr(tmp_path / "pickled.zarr", picture(), 2)
    metadata = json.loads((pickled / "0" / ".zarray").read_text())
    metadata["filters"] = [{"id": "pickle"}]
    (pickled / "0" / ".zarray").write_text(json.dumps(metadata))
    with pytest.raises(DataError, match=naming(pickled, "pickle")):
        open_large(pickled)


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.array([[7]], np.uint8), [7, 7, 7]),
        (np.array([[[7, 200]]], np.uint8), [7, 7, 7]),
        (np.array([[[1, 2, 3, 4]]], np.uint8), [1, 2, 3]),
        (np.array([[[256, 513, 65535]]], np.uint16), [1, 2, 255]),
    ],
)
def test_channels_follow_the_rule(pixels: np.ndarray, expected: list[int]) -> None:
    assert as_rgb(pixels)[0, 0].tolist() == expected


def test_grey_and_deep_files_are_read(tmp_path: Path) -> None:
    grey = picture()[..., 0]
    deep = picture().astype(np.uint16) * 256
    first = write_tiff(tmp_path / "grey.tif", grey, photometric="minisblack")
    second = tmp_path / "deep.tif"
    tifffile.imwrite(second, deep, photometric="rgb")
    with open_large(first) as image:
        assert np.array_equal(image.read(0, 0, 9, 0, 9)[1], grey[:9, :9])
    with open_large(second) as image:
        block = image.read(0, 0, 9, 0, 9).transpose(1, 2, 0)
        assert np.array_equal(block, picture()[:9, :9])


def test_files_that_are_no_large_images_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=naming(tmp_path / "no.tif")):
        open_large(tmp_path / "no.tif")
    for name in ("bad.tif", "bad.svs", "bad.jp2"):
        (tmp_path / name).write_bytes(b"II*\0" + bytes(20))
        with pytest.raises(DataError, match=naming(tmp_path / name)):
            open_large(tmp_path / name)
    tifffile.imwrite(tmp_path / "float.tif", np.zeros((9, 9), np.float32))
    with pytest.raises(DataError, match=naming("float.tif", "YX", "float32")):
        open_large(tmp_path / "float.tif")
