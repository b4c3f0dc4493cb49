"""Images in parts give what whole images give."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

import deformsample
from deformsample.cli.main import main
from deformsample.conventions import Pixels
from deformsample.errors import DataError
from deformsample.files.sampled_png import read_sampled
from deformsample.files.slides import SlideImage, TiffImage, as_rgb, open_large
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
