"""Images with a label each, how they are divided, and how they are read."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

import deformsample.files.slides as large
from deformsample.data import (
    BlueMarble,
    ClassificationDataModule,
    CsvDataset,
    ImageFolder,
    KFold,
    RandomSplit,
    SegmentationDataModule,
    SplitFile,
    Splitter,
)
from deformsample.errors import ArgumentError, DataError
from deformsample.files.images import read_image
from deformsample.files.levels import read_level
from tests.helpers import naming, save, scene


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two classes with three images each."""
    for n in range(6):
        name = f"{'dog' if n % 2 else 'cat'}/{n // 2}.{'JPG' if n % 3 else 'png'}"
        save(tmp_path / name, scene(n, 20, 30, classes=2)[0])
    (tmp_path / "cat" / "notes.txt").write_text("not an image")
    return tmp_path


def listing(root: Path, *rows: str) -> None:
    (root / "labels.csv").write_text("\n".join(["path,label,split", *rows]) + "\n")


def test_a_folder_for_each_class(tree: Path) -> None:
    dataset = ImageFolder(str(tree))
    assert dataset.classes == ["cat", "dog"]
    found = [(image.name, image.label) for image in dataset.samples()]
    assert found == [(f"{name}/{n}", k) for k, name in enumerate(["cat", "dog"]) for n in range(3)]
    assert ImageFolder(str(tree), ["dog", "cat"]).samples()[0].name == "dog/0"


def test_folders_that_are_not_there(tree: Path) -> None:
    with pytest.raises(DataError, match=naming(tree / "none")):
        ImageFolder(str(tree / "none"))
    with pytest.raises(DataError, match=naming("cow")):
        ImageFolder(str(tree), ["cat", "cow"])
    with pytest.raises(ArgumentError, match=naming("cat")):
        ImageFolder(str(tree), ["cat"])
    save(tree / "cat" / "0.bmp", scene(0, 20, 30, classes=2)[0])
    with pytest.raises(DataError, match=naming("'cat/0'", "0.bmp")):
        ImageFolder(str(tree)).samples()


def test_files_as_listed(tree: Path) -> None:
    listing(tree, "cat/*,feline,train", "dog/1.png,canine,val")
    dataset = CsvDataset(str(tree))
    assert dataset.classes == ["canine", "feline"]
    found = [(image.name, image.label, image.split) for image in dataset.samples()]
    assert found == [*((f"cat/{n}", 1, "train") for n in range(3)), ("dog/1", 0, "val")]


def test_scores_as_listed(tree: Path) -> None:
    listing(tree, "cat/*,-0.5,", "dog/1.png,1e3,")
    dataset = CsvDataset(str(tree), label="score")
    assert dataset.classes == []
    assert [image.label for image in dataset.samples()] == [-0.5, -0.5, -0.5, 1000]


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ("cow/*,a,", naming("'cow/*'", "labels.csv")),
        ("cat/9.png,a,", naming("'cat/9.png'", "labels.csv")),
        ("cat/*,c,", naming("'c'", "'cat/*'", "labels.csv")),
        ("cat/*,a,half", naming(2, "labels.csv", "'half'")),
        (",a,", naming(2, "labels.csv", "''")),
    ],
)
def test_rows_that_cannot_be_used(row: str, error: str, tree: Path) -> None:
    listing(tree, row)
    with pytest.raises(DataError, match=error):
        CsvDataset(str(tree), classes=["a", "b"]).samples()


def test_files_that_cannot_be_used(tree: Path) -> None:
    with pytest.raises(DataError, match=naming(tree / "no.csv")):
        CsvDataset(str(tree), "no.csv")
    (tree / "labels.csv").write_text("file,class\na,b\n")
    with pytest.raises(DataError, match=naming("labels.csv", "['file', 'class']")):
        CsvDataset(str(tree))
    listing(tree, "cat/*,good,")
    with pytest.raises(DataError, match=naming("labels.csv", "'good'")):
        CsvDataset(str(tree), label="score").samples()


NAMES = [f"images/{n:02}_{kind}" for n in range(7) for kind in ("h", "g")]


@pytest.mark.parametrize("fold", range(3))
def test_folds_keep_groups_together(fold: int) -> None:
    split_of = KFold(3, fold, r"(\d+)_").split(NAMES, Path())
    for name in NAMES:
        number = int(name[7:9]) % 3
        expected = {fold: "test", (fold + 1) % 3: "val"}.get(number, "train")
        assert split_of[name] == expected


def test_folds_that_cannot_be() -> None:
    with pytest.raises(ArgumentError, match=naming("fold", 5)):
        KFold(5, 5)
    with pytest.raises(ArgumentError, match=naming(8, 7, "count")):
        KFold(8, 0, r"(\d+)_").split(NAMES, Path())


def test_other_splitters(tmp_path: Path) -> None:
    assert set(RandomSplit((1, 0, 0)).split(NAMES, tmp_path).values()) == {"train"}
    (tmp_path / "split.csv").write_text("*_h,train\nimages/00_g,val\n")
    split_of = SplitFile("split.csv").split(NAMES, tmp_path)
    assert split_of["images/03_h"] == "train"
    assert split_of["images/00_g"] == "val"
    assert "images/01_g" not in split_of


def test_a_data_set_may_be_divided_already(tree: Path) -> None:
    listing(tree, "cat/0.png,a,train", "cat/1.JPG,a,val", "dog/0.JPG,b,train")
    data = ClassificationDataModule(CsvDataset, str(tree), batch_size=2, num_workers=0)
    data.setup("fit")
    assert [image.name for image in data.parts["train"].samples] == ["cat/0", "dog/0"]
    assert [image.name for image in data.parts["val"].samples] == ["cat/1"]
    with pytest.raises(DataError, match=naming("'test'", "CsvDataset")):
        data.setup("test")
    (batch,) = data.train_dataloader()
    assert batch["image"].shape == (2, 3, 20, 30)
    assert batch["image"].dtype == torch.uint8
    assert sorted(batch["label"].tolist()) == [0, 1]
    assert batch["label"].dtype == torch.float32


def test_a_splitter_places_what_the_data_set_does_not(tree: Path) -> None:
    listing(tree, "cat/0.png,a,test", "cat/1.JPG,a,", "dog/0.JPG,b,", "dog/1.png,b,")

    def splits(splitter: Splitter | None) -> dict[str, list[str]]:
        data = ClassificationDataModule(CsvDataset, str(tree), splitter=splitter)
        return {split: [s.name for s in samples] for split, samples in data.splits.items()}

    assert splits(None) == {"train": [], "val": [], "test": ["cat/0"]}
    divided = splits(RandomSplit((2 / 3, 1 / 3, 0)))
    assert [len(names) for names in divided.values()] == [2, 1, 1]
    assert divided["test"] == ["cat/0"]


def test_what_a_checkpoint_keeps_of_the_data(tree: Path) -> None:
    data = ClassificationDataModule(ImageFolder, str(tree), level=2)
    assert data.describe() == {"data": "ImageFolder", "level": 2}
    assert SegmentationDataModule(BlueMarble).describe() == {"data": "BlueMarble"}


def test_images_of_different_sizes_need_batches_of_one(tree: Path) -> None:
    save(tree / "cat" / "3.png", scene(9, 24, 30, classes=2)[0])
    data = ClassificationDataModule(
        ImageFolder, str(tree), splitter=RandomSplit((1, 0, 0)), batch_size=7, num_workers=0
    )
    data.parts["train"] = data._part("train")
    with pytest.raises(ArgumentError, match=naming("(20, 30)", "(24, 30)")):
        next(iter(data.train_dataloader()))


def test_levels_are_means_of_pixels(tree: Path) -> None:
    file = tree / "cat" / "0.png"
    pixels = read_image(file)
    assert np.array_equal(read_level(file, 0), pixels)
    means = pixels.reshape(5, 4, 30, 3).mean(axis=1)[:, :28].reshape(5, 7, 4, 3).mean(axis=2)
    assert np.array_equal(read_level(file, 2)[:, :7], means.round().astype(np.uint8))


def test_only_a_level_of_a_large_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = scene(0, 160, 96, classes=3)[0]
    file = tmp_path / "slide.tif"
    tifffile.imwrite(file, pixels, photometric="rgb", tile=(32, 32))
    whole = read_level(file, 3)
    monkeypatch.setattr(large, "READ_WHOLE", 1000)
    assert np.array_equal(read_level(file, 3), whole)
    with pytest.raises(DataError, match=naming("slide.tif", "160 x 96", "--data.level=2")):
        read_level(file, 1)


def test_decoded_images_are_kept(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = str(tmp_path / "cache")
    data = ClassificationDataModule(
        ImageFolder, str(tree), level=1, splitter=RandomSplit((1, 0, 0)), cache=cache
    )
    part = data._part("train")
    first = part[0]["image"]
    assert first.shape == (3, 10, 15)

    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("deformsample.data.items.read_level", never)
    assert torch.equal(part[0]["image"], first)
    with pytest.raises(AssertionError):
        part[1]
