"""Regions of the user in models and commands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import deformsample
from deformsample.classifiers import TiledClassifier
from deformsample.cli.main import main
from deformsample.conventions import Pixels
from deformsample.errors import ArgumentError
from deformsample.files.images import read_ids
from deformsample.files.sampled_png import read_sampled
from deformsample.inference.inputs import open_source
from deformsample.inference.model import ClassificationModel, SegmentationModel
from deformsample.networks import ConvClassifier, UNet
from deformsample.segmenters import SampledSegmenter, TiledSegmenter
from tests.helpers import naming, save, scene

FOCUS = deformsample.Focus([(20, 10, 60, 40), (90, 60)], factor=3.0)
OPTIONS = ["--focus", "20,10,60,40", "--focus", "90,60", "--focus-factor", "3"]


NAME = "blue-marble"


@pytest.fixture
def image() -> Pixels:
    """An island in the colours of Blue Marble."""
    ids = scene(5, 70, 110, classes=2)[1]
    return np.array([[2, 5, 20], [110, 120, 70]], np.uint8)[ids]


@pytest.fixture
def model() -> SegmentationModel:
    return deformsample.load(NAME, kind=SegmentationModel)


def test_labels_come_from_the_samples_of_the_focus(model: SegmentationModel, image: Pixels) -> None:
    sampled = model.downsample(image, focus=FOCUS)
    assert not np.allclose(sampled.grid, model.downsample(image).grid)
    assert isinstance(model.segmenter, SampledSegmenter)
    expected = model.segmenter.predict(sampled).labels((70, 110))[0].numpy()
    labels = model.segment(image, focus=FOCUS)
    assert np.array_equal(labels, expected)
    assert not np.array_equal(labels, model.segment(image))
    with open_source(image, model.device) as source:
        bands = np.concatenate(list(model.label_bands(source, focus=FOCUS)))
    assert np.array_equal(bands, labels)


def test_tiles_have_no_focus(image: Pixels) -> None:
    tiles = TiledSegmenter(UNet(num_classes=2, widths=(4, 8)), tile=(32, 32))
    model = SegmentationModel(tiles, {"classes": {"a": (0, 0, 0), "b": (1, 1, 1)}})
    with pytest.raises(ArgumentError, match=naming("tiles")):
        model.segment(image, focus=FOCUS)
    with pytest.raises(ArgumentError, match=naming("tiles")):
        model.downsample(image, focus=FOCUS)


def test_tiled_classifiers_have_no_focus(image: Pixels) -> None:
    tiles = TiledClassifier(ConvClassifier([4]), tile=(32, 32))
    model = ClassificationModel(tiles, {"classes": ["a", "b"]})
    with pytest.raises(ArgumentError, match=naming("tiles")):
        model.downsample(image, focus=FOCUS)


def test_commands_take_regions(model: SegmentationModel, image: Pixels, tmp_path: Path) -> None:
    file = str(save(tmp_path / "photos" / "photo.png", image))
    labels, small = tmp_path / "labels", tmp_path / "small"
    segment = ["segment", NAME, file, "--output", str(labels)]
    assert main([*segment, *OPTIONS]) == 0
    assert np.array_equal(read_ids(labels / "photo.png"), model.segment(image, focus=FOCUS))
    for name, expected in (
        (NAME, model.downsample(image, FOCUS).grid[0].numpy()),
        ("uniform", None),
    ):
        assert main(["downsample", name, file, "--output", str(small), *OPTIONS]) == 0
        grid = read_sampled(small / "photo.png").grid
        if expected is None:
            assert np.ptp(np.diff(grid[0, :, 0])) > 0.01  # no longer equally spaced
        else:
            np.testing.assert_allclose(grid, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--focus", "1,2,x,4"], ["'1,2,x,4'"]),
        (["--focus", "1,2,3"], ["3"]),
        (["--focus", "500,0,600,9"], ["110 x 70"]),
        (["--focus-factor", "3"], ["--focus-factor", "3.0"]),
        (["--focus", "1,2", "--focus-factor=0"], ["factor", "0.0"]),
    ],
)
@pytest.mark.parametrize("command", ["segment", "downsample"])
def test_wrong_regions_are_one_line(
    command: str,
    options: list[str],
    named: list[str],
    image: Pixels,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = str(save(tmp_path / "photo.png", image))
    output = ["--output", str(tmp_path / "out")]
    assert main([command, NAME, file, *output, *options]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert all(part in error for part in named)
