"""All that is wrong with a data set, at once."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from deformsample.cli.main import main
from tests.helpers import naming, save, scene

CHECK = ["check", "--config", "folder.yaml"]


def test_a_sound_data_set(folder_tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*CHECK, "--root", str(folder_tree)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("train: ")
    assert out.splitlines()[-1] == "no errors"


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    """Six images with two fatal faults and four of the other kind."""
    for n in range(6):
        image, ids = scene(n, 40, 60, classes=2)
        if n == 1:
            image[:] = 7
        if n == 2:
            ids[:] = 255
        if n == 3:
            ids = ids[1:]
        if n == 5:
            image = scene(4, 40, 60, classes=2)[0]
        save(tmp_path / "images" / f"{n}.png", image)
        save(tmp_path / "labels" / f"{n}.png", ids)
    broken = tmp_path / "images" / "0.png"
    broken.write_bytes(broken.read_bytes()[:-300])
    (tmp_path / "split.csv").write_text("[0-3],train\n*,val\n")
    config = (Path(__file__).parents[2] / "configs" / "folder.yaml").read_text()
    text = re.sub(
        r"  splitter:\n(    .*\n)+",
        "  splitter: {class_path: deformsample.data.SplitFile, init_args: {file: split.csv}}\n",
        config,
    )
    (tmp_path / "faulty.yaml").write_text(text)
    return tmp_path


def errors_of(pattern: str, out: str) -> int:
    lines = [line for line in out.splitlines() if line.startswith("error: ")]
    return sum(re.search(pattern, line) is not None for line in lines)


def test_all_faults_are_listed_at_once(faulty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["check", "--config", str(faulty / "faulty.yaml"), "--root", str(faulty)]
    assert main(given) == 1
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    said = [line for line in lines if line.startswith(("error: ", "note: "))]
    expected = [
        naming("0.png"),
        naming("3.png", "40 x 60"),
        naming("1.png"),
        naming("2.png"),
        naming("5.png", "val"),
        naming("test"),
    ]
    assert len(said) == len(expected)
    for pattern in expected:
        assert sum(re.search(pattern, line) is not None for line in said) == 1, pattern
    assert [line.split(":")[0] for line in said] == ["error"] * 2 + ["note"] * 4
    assert re.search(naming(2), captured.err)


def test_shares_of_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for n in range(10):
        ids = np.zeros((4, 10), np.uint8)
        ids[0, :4] = 1
        ids[3] = 255
        save(tmp_path / "images" / f"{n}.png", scene(n, 4, 10, classes=2)[0])
        save(tmp_path / "labels" / f"{n}.png", ids)
    assert main([*CHECK, "--root", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("4 x 10 pixels")
    assert [line.split() for line in lines[4:7]] == [
        ["id", "class", "train", "val", "test"],
        ["0", "background", "86.67%", "86.67%", "86.67%"],
        ["1", "object", "13.33%", "13.33%", "13.33%"],
    ]
    assert main([*CHECK, "--root", str(tmp_path), "--jobs", "0"]) == 1


def test_files_without_partners_are_listed_beside_all_else(
    faulty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels, ids = scene(9, 40, 60, classes=2)
    save(faulty / "images" / "alone.png", pixels)
    save(faulty / "images" / "1.jpg", pixels)
    save(faulty / "labels" / "lonely.png", ids)
    given = ["check", "--config", str(faulty / "faulty.yaml"), "--root", str(faulty)]
    assert main(given) == 1
    out = capsys.readouterr().out
    expected = [
        naming(faulty / "images" / "1.jpg", faulty / "images" / "1.png"),
        naming(faulty / "labels", faulty / "images" / "alone.png"),
        naming(faulty / "images", faulty / "labels" / "lonely.png"),
        naming(faulty / "images" / "0.png"),
    ]
    for pattern in expected:
        assert errors_of(pattern, out) == 1, pattern
    (faulty / "split.csv").write_text("alone,train\n*,val\n")
    assert main(given) == 1
    out = capsys.readouterr().out
    for pattern in [*expected, naming("'alone'", "split.csv")]:
        assert errors_of(pattern, out) == 1, pattern


def test_images_with_a_class_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("cat", "dog"):
        for n in range(8):
            save(
                tmp_path / name / f"{n}.png", scene(n + 20 * (name == "dog"), 20, 30, classes=2)[0]
            )
    config = tmp_path / "pets.yaml"
    config.write_text(
        "task: classification\ndata:\n  dataset: {class_path: deformsample.data.ImageFolder}\n"
    )
    given = ["check", "--config", str(config), "--root", str(tmp_path)]
    assert main(given) == 0
    out = capsys.readouterr().out
    assert "images of 20 x 30 pixels" in out
    rows = [line.split()[:2] for line in out.splitlines()]
    assert rows.index(["0", "cat"]) + 1 == rows.index(["1", "dog"])
    broken = tmp_path / "dog" / "3.png"
    broken.write_bytes(broken.read_bytes()[:-200])
    save(tmp_path / "cat" / "9.png", scene(25, 20, 30, classes=2)[0])
    assert main(given) == 1
    out = capsys.readouterr().out
    assert errors_of(naming(broken), out) == 1
    same = naming(tmp_path / "cat" / "9.png", tmp_path / "dog" / "5.png")
    assert sum(re.search(same, line) is not None for line in out.splitlines()) == 1
    config.write_text("task: knitting\n")
    assert main(given) == 1
    assert re.search(naming("task", "'classification'", "'knitting'"), capsys.readouterr().err)
