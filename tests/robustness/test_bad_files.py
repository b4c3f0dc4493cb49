"""Whatever bytes a file has, it is read by a rule or refused by one error that names it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deformsample.cli.main import main
from deformsample.conventions import Pixels
from deformsample.data import Folder, SegmentationDataModule
from deformsample.data.datasets.classification_dataset import CsvDataset
from deformsample.data.datasets.nifti import Nifti
from deformsample.data.datasets.segmentation_dataset import SegmentationSample
from deformsample.errors import DataError, WriteError
from deformsample.files.images import image_files, read_colours, read_ids, read_image
from deformsample.files.slides import is_large, open_large
from deformsample.files.writing import atomic_write
from deformsample.samplers import DetailSampler, UniformSampler
from deformsample.samplers.downsampler import Downsampler
from tests.helpers import naming, save, scene
from tests.robustness.bad_files import CLASSES, Kind, broken, kinds, nifti, outcome

KINDS = kinds()


def test_there_are_more_than_a_thousand() -> None:
    assert sum(len(list(broken(kind))) for kind in KINDS) > 2000


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_broken_files_are_read_or_named(kind: Kind, tmp_path: Path) -> None:
    results = {name: outcome(kind, name, content, tmp_path) for name, content in broken(kind)}
    assert results["empty"][0] == "refused" or not kind.ends
    whole = results["whole"]
    if not kind.ends:
        return
    # What is cut short is refused, or it lacks nothing of what is read.
    cut = [result for name, result in results.items() if name.startswith("cut")]
    assert all(how == "refused" or found == whole[1] for how, found in cut)


@pytest.mark.slow
def test_small_files_that_claim_to_be_giants(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.robustness.bombs", str(tmp_path)]
    once = {**os.environ, "OMP_NUM_THREADS": "1"}  # stacks of threads count as memory
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=once)
    told = [line for line in done.stdout.splitlines() if not line.startswith("refused")]
    assert told == ["read extension.nii.gz"]  # whose extensions are left alone
    assert len(done.stdout.splitlines()) > 20


@pytest.mark.parametrize("reader", [read_image, read_ids, read_colours])
def test_images_and_labels_are_turned_upright_alike(
    tmp_path: Path, reader: Callable[[Path], Pixels]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter to the right
    ids = Image.fromarray(np.array([[0, 1, 1], [1, 1, 0]], np.uint8))
    turned = ids if reader is read_ids else ids.convert("RGB")
    turned.save(tmp_path / "a.png", exif=exif)
    assert reader(tmp_path / "a.png").shape[:2] == (3, 2)


def test_animations_are_refused_and_pages_are_not(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "blue")]
    for name in ("a.png", "a.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        with pytest.raises(DataError, match=naming(tmp_path / name, 2)):
            read_image(tmp_path / name)
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "a.tif")[0, 0].tolist() == [255, 0, 0]


def test_formats_that_start_programs_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(DataError, match=naming(file, "BMP", "JPEG")):
        read_image(file)


@pytest.mark.parametrize("mode", ["I;16", "1", "LA", "RGB"])
def test_label_ids_have_one_channel_of_8_bits(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (4, 3)).save(tmp_path / "ids.png")
    with pytest.raises(DataError, match=naming(tmp_path / "ids.png", mode)):
        read_ids(tmp_path / "ids.png")


NAMES = [
    "with space",
    "-dash",
    "100%",
    "[ab]*?",
    "line\nbreak",
    "\u00e9\u4e2d\U0001f600",
    "bytes\udcff\udcfe",
    "escape\x1b[31m",
    "n" * 240,
]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_any_characters_are_read_checked_and_written(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    for n in range(7):
        pixels, ids = scene(n, 20, 30, classes=2)
        save(data / "images" / f"{name}{n}.png", pixels)
        save(data / "labels" / f"{name}{n}.png", ids)
    assert {sample.name for sample in Folder(str(data), CLASSES).samples()} == {
        f"{name}{n}" for n in range(7)
    }
    (data / "images" / f"{name}0.png").write_bytes(b"broken")
    assert main(["check", "--config", "folder.yaml", "--root", str(data)]) == 1
    said = [x for x in capsys.readouterr().out.splitlines() if x.startswith("error: ")]
    assert len(said) == 1
    assert said[0].isprintable()
    said[0].encode()
    images = [str(data / "images" / f"{name}{n}.png") for n in (1, 2)]
    assert main(["downsample", "uniform", *images, "--output", str(tmp_path / "out")]) == 0
    assert {file.name for file in (tmp_path / "out").iterdir()} == {f"{name}1.png", f"{name}2.png"}


def test_links_in_circles_folders_and_pipes_are_named(tmp_path: Path) -> None:
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "pipe.tif")
    for name in ("loop.png", "gone.png", "folder.png", "pipe.png", "a\0b.png"):
        with pytest.raises(DataError, match=naming(tmp_path / name)):
            read_image(tmp_path / name)
    assert not is_large(tmp_path / "pipe.tif")
    (tmp_path / "inside").symlink_to(tmp_path)
    nifti_file = tmp_path / "p0" / "a_flair.nii"
    nifti_file.parent.mkdir()
    nifti_file.write_bytes(nifti(np.ones((4, 3, 2), np.int16)))
    (tmp_path / "p0" / "a_seg.nii").write_bytes(nifti(np.ones((4, 3, 2), np.int16)))
    data = Nifti(str(tmp_path), CLASSES, {"background": [0], "object": [1]})
    assert len(data.samples()) == 2


def test_folders_that_cannot_be_listed_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DataError, match=naming(tmp_path, "Permission denied")):
        image_files(tmp_path)


def test_two_volumes_of_one_patient_are_named(tmp_path: Path) -> None:
    content = nifti(np.ones((4, 3, 2), np.int16))
    for grade in ("HGG", "LGG"):
        (tmp_path / grade / "p0").mkdir(parents=True)
        for kind in ("flair", "seg"):
            (tmp_path / grade / "p0" / f"a_{kind}.nii").write_bytes(content)
    data = Nifti(str(tmp_path), CLASSES, {"background": [0], "object": [1]})
    with pytest.raises(DataError, match=naming("HGG/p0/a_flair.nii", "LGG/p0/a_flair.nii", "'p0'")):
        data.samples()


def test_scores_that_are_no_numbers_and_rows_that_are_too_long_are_named(tmp_path: Path) -> None:
    save(tmp_path / "a.png", scene(0, 9, 9, classes=2)[0])
    for label in ("nan", "inf", "-Infinity", "1e999"):
        (tmp_path / "l.csv").write_text(f"path,label\na.png,{label}\n")
        with pytest.raises(DataError, match=naming("l.csv", f"'{label}'")):
            CsvDataset(str(tmp_path), "l.csv", label="score").samples()
    for rows in ("path,label\na.png,1,2\n", "path,label,path\na.png,1,b\n"):
        (tmp_path / "l.csv").write_text(rows)
        with pytest.raises(DataError, match=r"l\.csv"):
            CsvDataset(str(tmp_path), "l.csv", label="score")


def test_voxels_that_are_no_numbers_are_black(tmp_path: Path) -> None:
    voxels = np.full((4, 3, 1), 5, np.float32)
    voxels[0, 0, 0], voxels[1, 0, 0], voxels[2, 0, 0], voxels[3, 0, 0] = np.nan, np.inf, 9, -1e38
    file = tmp_path / "a_flair.nii"
    file.write_bytes(nifti(voxels))
    (tmp_path / "a_seg.nii").write_bytes(nifti(voxels))
    data = Nifti(str(tmp_path), CLASSES, {"background": [0], "object": [1]})
    (sample,) = data.samples()
    assert data.read_image(sample)[0, :, 0].tolist() == [0, 0, 255, 0]
    with pytest.raises(DataError, match=naming(tmp_path / "a_seg.nii")):
        data.read_labels(sample)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1)])
def test_images_of_one_pixel_a_side_are_named(size: tuple[int, int], tmp_path: Path) -> None:
    pixels = np.zeros((*size, 3), np.uint8)
    readers: dict[str, Callable[[Path], object]] = {
        "a.png": read_image,
        "a.tif": read_image,
        "b.tif": open_large,
    }
    for name, read in readers.items():
        save(tmp_path / name, pixels)
        with pytest.raises(DataError, match=naming(tmp_path / name, size[0], size[1])):
            read(tmp_path / name)


@pytest.mark.parametrize("size", [(2, 2), (2, 40), (40, 3)])
def test_the_smallest_images_go_all_the_way(
    size: tuple[int, int], tmp_path: Path, small_checkpoint: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (*size, 3)).astype(np.uint8)
    file = save(tmp_path / "a.png", pixels)
    small, back, labels = (tmp_path / x for x in ("small", "back", "labels"))
    for name in ("detail", "uniform"):
        assert main(["downsample", name, str(file), "--output", str(small)]) == 0
        assert main(["restore", str(small / "a.png"), "--output", str(back)]) == 0
        assert read_image(back / "a.png").shape == (*size, 3)
    assert main(["segment", str(small_checkpoint), str(file), "--output", str(labels)]) == 0
    assert read_ids(labels / "a.png").shape == size


def test_one_colour_is_sampled_uniformly() -> None:
    """By samplers that look at brightness; what a network was taught is its own."""
    flat = torch.full((1, 3, 40, 60), 77, dtype=torch.uint8)
    uniform = Downsampler(UniformSampler(), (8, 12))(flat)
    detail = Downsampler(DetailSampler(), (8, 12))(flat)
    assert torch.allclose(detail.grid, uniform.grid, atol=1e-5)
    assert torch.allclose(
        detail.density, torch.full_like(detail.density, 1 / detail.density.numel())
    )


def test_a_long_name_is_written_and_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    with atomic_write(tmp_path / ("n" * 250 + ".txt")) as partial:
        partial.write_text("whole")
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(WriteError, match=naming(tmp_path / "file" / "a")),
        atomic_write(tmp_path / "file" / "a"),
    ):
        pass


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    for n in range(7):
        pixels, ids = scene(n, 20, 30, classes=2)
        save(tmp_path / "images" / f"{n}.png", pixels)
        save(tmp_path / "labels" / f"{n}.png", ids)
    (tmp_path / "file").write_text("x")

    def folder(root: str | None) -> Folder:
        return Folder(root, CLASSES)

    data = SegmentationDataModule(folder, str(tmp_path), cache=str(tmp_path / "file"))
    data.setup("fit")
    with pytest.raises(WriteError, match=naming(tmp_path / "file")):
        data.parts["train"][0]


def test_a_pickle_in_the_cache_is_refused(tmp_path: Path) -> None:
    class Planted:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "executed",))

    stream = io.BytesIO()
    np.save(stream, np.array([Planted()], dtype=object), allow_pickle=True)
    kind = next(kind for kind in KINDS if kind.name == "decoded cache")
    how, why = outcome(kind, "a planted pickle", stream.getvalue(), tmp_path)
    assert how == "refused"
    assert "Python objects in dtype" in why
    assert not (tmp_path / "executed").exists()


def test_labels_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=naming(tmp_path / "no.png")):
        Folder(None, CLASSES).read_labels(
            SegmentationSample("a", tmp_path / "a.png", tmp_path / "no.png")
        )
