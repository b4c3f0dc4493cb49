"""Progress and results of commands that process many images."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

import deformsample
from deformsample.cli.batch import with_progress
from deformsample.cli.main import main
from deformsample.conventions import Pixels
from deformsample.files.images import read_ids, read_image
from deformsample.files.label_maps import overlay, palette
from tests.helpers import naming, save


@pytest.mark.parametrize(
    ("total", "shown"),
    [(9, []), (10, list(range(1, 11))), (25, [3, 5, 8, 10, 13, 15, 18, 20, 23, 25])],
)
def test_a_log_file_has_a_line_per_tenth(
    total: int, shown: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(with_progress(range(total), total, "images")) == list(range(total))
    expected = [f"images: {done} of {total}" for done in shown]
    assert capsys.readouterr().err.splitlines() == expected


def test_a_terminal_has_a_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert list(with_progress(range(20), 20, "images")) == list(range(20))
    err = capsys.readouterr().err
    assert "\r" in err
    assert "20/20" in err


def test_overlays_are_written_beside_label_maps(
    small_checkpoint: Path,
    image: Pixels,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for n in range(3):
        save(tmp_path / "photos" / f"{n}.png", np.roll(image, 9 * n, axis=1))
    save(tmp_path / "photos" / "large.tif", np.tile(image, (2, 2, 1)))
    monkeypatch.setattr("deformsample.files.slides.READ_WHOLE", 10_000)
    target = tmp_path / "labels"
    command = ["segment", str(small_checkpoint), str(tmp_path / "photos"), "--jobs", "2"]
    command += ["--output", str(target), "--overlay"]
    assert main(command) == 0
    assert re.search(naming(tmp_path / "photos" / "large.tif"), capsys.readouterr().err)
    assert sorted(file.name for file in target.glob("*.*")) == [
        "0.png",
        "1.png",
        "2.png",
        "large.tif",
    ]
    overlays = target / "overlays"
    assert sorted(file.name for file in overlays.iterdir()) == ["0.jpg", "1.jpg", "2.jpg"]
    written = read_image(overlays / "0.jpg")
    table = palette(
        deformsample.load(small_checkpoint, kind=deformsample.SegmentationModel).classes
    )
    expected = overlay(image, read_ids(target / "0.png"), table)
    assert np.abs(written.astype(int) - expected).mean() < 8  # JPEG
    (overlays / "1.jpg").unlink()
    assert main([*command, "--skip-existing"]) == 0
    assert "1 of 4 images" in capsys.readouterr().out
    assert (overlays / "1.jpg").is_file()


def test_an_overlay_mixes_the_grey_image_with_colours() -> None:
    pixels = np.array([[[100, 100, 100], [100, 100, 100], [255, 0, 0]]], np.uint8)
    ids = np.array([[0, 1, 255]], np.uint8)
    mixed = overlay(pixels, ids, [(0, 0, 0), (200, 0, 100)], opacity=0.5)
    assert mixed.tolist() == [[[50, 50, 50], [150, 50, 100], [76, 76, 76]]]
