import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np
import pytest
import torch
from PIL import Image

from deformsample.conventions import Pixels
from deformsample.data import (
    BlueMarble,
    Cityscapes,
    DeepGlobe,
    Folder,
    RandomSplit,
    SegmentationDataModule,
    SegmentationSplit,
    SplitFile,
    Splitter,
)
from deformsample.data.cache import DecodedCache
from deformsample.data.datasets.segmentation_dataset import SegmentationDataset
from deformsample.data.items import collate
from deformsample.errors import ArgumentError, DataError
from deformsample.files.images import read_image
from deformsample.files.label_maps import write_indexed
from tests.helpers import TWO, naming, save, scene

# Importing

OFFLINE = """
import importlib, pkgutil, socket

def refuse(*args, **options):
    asked.append(args)
    raise OSError("no network")

asked = []
socket.getaddrinfo = socket.socket.connect = refuse
for name in ("deformsample.data", "deformsample"):  # the data first, before commands set it up
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, f"{name}."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
assert not asked, asked
"""


def test_no_import_asks_the_network() -> None:
    environment = {k: v for k, v in os.environ.items() if k != "NO_ALBUMENTATIONS_UPDATE"}
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


# Reading


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=naming(tmp_path / "no.png")):
        read_image(tmp_path / "no.png")


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_truncated_image_is_named(tmp_path: Path, suffix: str) -> None:
    file = save(tmp_path / f"cut.{suffix}", scene(0, 64, 64, 2)[0])
    file.write_bytes(file.read_bytes()[:-400])
    with pytest.raises(DataError, match=naming(file)):
        read_image(file)


def test_a_file_of_another_kind_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(DataError, match=naming(tmp_path / "text.png")):
        read_image(tmp_path / "text.png")


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize(
    ("mode", "colour", "shown"),
    [
        ("L", 7, (7, 7, 7)),
        ("LA", (7, 0), (7, 7, 7)),
        ("RGBA", (1, 2, 3, 0), (1, 2, 3)),
        ("I;16", 513, (2, 2, 2)),
        ("1", 1, (255, 255, 255)),
    ],
)
def test_other_modes_are_shown_as_colours(
    suffix: str, mode: str, colour: int | tuple[int, ...], shown: tuple[int, ...], tmp_path: Path
) -> None:
    file = tmp_path / f"image.{suffix}"
    Image.new(mode, (5, 4), colour).save(file)
    pixels = read_image(file)
    assert pixels.shape == (4, 5, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == shown).all()


def test_a_palette_is_shown_by_its_colours(tmp_path: Path) -> None:
    image = Image.new("P", (5, 4), 1)
    image.putpalette([0, 0, 0, 9, 8, 7])
    image.save(tmp_path / "image.png", transparency=bytes([0, 3]))
    assert (read_image(tmp_path / "image.png") == (9, 8, 7)).all()


@pytest.mark.parametrize(("mode", "channels"), [("CMYK", 4), ("LAB", 3), ("F", 1), ("I", 1)])
def test_other_colours_are_refused(tmp_path: Path, mode: str, channels: int) -> None:
    file = tmp_path / "image.tif"
    Image.new(mode, (8, 8)).save(file)
    with pytest.raises(DataError, match=naming(file, mode, channels)):
        read_image(file)


def test_images_are_turned_upright(tmp_path: Path) -> None:
    image = Image.fromarray(scene(0, 20, 30, 2)[0])
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").shape == (30, 20, 3)


def test_indexed_images_hold_ids_and_show_colours(tmp_path: Path) -> None:
    ids = np.array([[0, 1], [2, 1]], dtype=np.uint8)
    write_indexed(tmp_path / "ids.png", ids, [(9, 8, 7), (1, 2, 3), (255, 0, 0)])
    image = Image.open(tmp_path / "ids.png")
    assert np.array_equal(np.asarray(image), ids)
    assert image.convert("RGB").getpixel((0, 1)) == (255, 0, 0)
    assert [file.name for file in tmp_path.iterdir()] == ["ids.png"]


# Splits


def test_seeded_split_keeps_groups_together_and_does_not_change() -> None:
    stems = [f"p{i}_{j}" for i in range(20) for j in range(3)]
    splitter = RandomSplit((0.6, 0.2, 0.2), group_pattern=r"^(p\d+)_", seed=1)
    split_of = splitter.split(stems, Path())
    for i in range(20):
        assert len({split_of[f"p{i}_{j}"] for j in range(3)}) == 1
    counts = [list(split_of.values()).count(s) for s in ("train", "val", "test")]
    assert counts == [36, 12, 12]
    assert splitter.split(stems[::-1], Path()) == split_of


def test_a_group_pattern_that_does_not_match_is_named() -> None:
    with pytest.raises(ArgumentError, match=naming("group_pattern", "'abc'")):
        RandomSplit(group_pattern=r"^\d").split(["abc"], Path())
    with pytest.raises(ArgumentError, match=naming("shares", [1, 1, 0])):
        RandomSplit((1, 1, 0))


def test_split_file_takes_the_first_row_that_fits(tmp_path: Path) -> None:
    (tmp_path / "split.csv").write_text("# comment\na_1,val\na_*,train\nz_*,test\n")
    split_of = SplitFile("split.csv").split(["a_1", "a_2", "b"], tmp_path)
    assert split_of == {"a_1": "val", "a_2": "train"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,dev\n", naming("split.csv", 1, "'a,dev'")),
        ("a\n", naming("split.csv", 1, "'a'")),
        ("b,train\n", naming("split.csv", "'b'")),
    ],
)
def test_wrong_split_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "split.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        SplitFile("split.csv").split(["a"], tmp_path)


# Data sets


def test_folder_pairs_by_stem_in_any_letter_case(folder_tree: Path) -> None:
    dataset = Folder(str(folder_tree), TWO)
    samples = dataset.samples()
    assert sorted(sample.name for sample in samples) == [f"p{n // 2}_{n}" for n in range(6)]
    ids = dataset.read_labels(samples[0])
    assert ids.shape == (64, 96)
    assert set(np.unique(ids)) == {0, 1}


def test_folder_with_unpaired_files_is_refused(folder_tree: Path) -> None:
    dataset = Folder(str(folder_tree), TWO)
    lonely = save(folder_tree / "images" / "extra.png", scene(9, 8, 8, 2)[0])
    with pytest.raises(DataError, match=naming(folder_tree / "labels", lonely)):
        dataset.samples()
    lonely.unlink()
    lonely = save(folder_tree / "labels" / "extra.png", scene(9, 8, 8, 2)[1])
    with pytest.raises(DataError, match=naming(folder_tree / "images", lonely)):
        dataset.samples()
    save(folder_tree / "labels" / "more.png", scene(9, 8, 8, 2)[1])
    with pytest.raises(DataError, match=naming(1, "deformsample check")):
        dataset.samples()


def test_folder_with_two_files_of_one_name_is_refused(folder_tree: Path) -> None:
    shutil.copy(folder_tree / "images" / "p0_1.png", folder_tree / "images" / "p0_0.png")
    with pytest.raises(DataError, match=naming("p0_0.png", "p0_0.JPG")):
        Folder(str(folder_tree), TWO).samples()


def test_ids_outside_the_classes_are_named(folder_tree: Path) -> None:
    dataset = Folder(str(folder_tree), TWO)
    sample = dataset.samples()[2]
    save(sample.labels, np.array([[0, 1, 7, 255]], dtype=np.uint8))
    with pytest.raises(DataError, match=naming(0, 1, 255, sample.labels, 7)):
        dataset.read_labels(sample)


def test_coloured_labels_follow_the_rule_of_the_colours(hrf_tree: Path) -> None:
    classes = {"background": (0, 0, 0), "artery": (255, 0, 0), "vein": (0, 0, 255)}
    dataset = Folder(str(hrf_tree), classes, labels="colours", colour_threshold=127)
    sample = dataset.samples()[0]
    row = [[130, 90, 10], [20, 20, 250], [0, 200, 0], [200, 0, 200], [100, 100, 100]]
    save(sample.labels, np.array([row], dtype=np.uint8))
    assert dataset.read_labels(sample).tolist() == [[1, 2, 255, 255, 0]]


def test_unknown_colours_are_named_where_none_may_be(hrf_tree: Path) -> None:
    dataset = Folder(str(hrf_tree), TWO, labels="colours", ignored_colours=[(0, 255, 0)])
    sample = dataset.samples()[0]
    save(sample.labels, np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 0]]], dtype=np.uint8))
    with pytest.raises(DataError, match=naming(sample.labels, (255, 0, 0))):
        dataset.read_labels(sample)


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    for dataset in (
        Folder(str(tmp_path / "no"), TWO),
        Cityscapes(str(tmp_path / "no")),
        DeepGlobe(str(tmp_path / "no")),
    ):
        with pytest.raises(DataError, match=naming(tmp_path / "no", "--data.root")):
            dataset.samples()


def test_cityscapes_ids_there_and_back(cityscapes_tree: Path) -> None:
    dataset = Cityscapes(str(cityscapes_tree))
    sample = dataset.samples()[0]
    official = np.array([[7, 8, 33, 0, 6, 26]], dtype=np.uint8)
    save(sample.labels, official)
    ids = dataset.read_labels(sample)
    assert ids.tolist() == [[0, 1, 18, 255, 255, 13]]
    assert dataset.encode(ids[:, :3]).tolist() == [[7, 8, 33]]
    save(sample.labels, np.array([[7, 90]], dtype=np.uint8))
    with pytest.raises(DataError, match=naming(33, sample.labels, 90)):
        dataset.read_labels(sample)
    sample.labels.unlink()
    with pytest.raises(DataError, match=naming(sample.image, sample.labels)):
        dataset.samples()


def test_cityscapes_ids_are_those_of_the_official_table() -> None:
    from cityscapesscripts.helpers.labels import labels

    official = {label.name: label for label in labels}
    for number, (name, colour) in enumerate(Cityscapes.classes.items()):
        assert official[name].trainId == number
        assert official[name].color == colour
        encoded = Cityscapes(None).encode(np.array([[number]], dtype=np.uint8))
        assert int(encoded[0, 0]) == official[name].id


def test_deepglobe_ignores_the_unknown(deepglobe_tree: Path) -> None:
    dataset = DeepGlobe(str(deepglobe_tree))
    assert [sample.name for sample in dataset.samples()] == [f"{n}" for n in range(100, 107)]
    sample = dataset.samples()[0]
    row = [[0, 255, 255], [10, 250, 140], [0, 0, 0], [255, 255, 255]]
    save(sample.labels, np.array([row], dtype=np.uint8))
    ids = dataset.read_labels(sample)
    assert ids.tolist() == [[0, 0, 255, 5]]
    assert dataset.encode(ids)[0, 3].tolist() == [255, 255, 255]
    sample.labels.unlink()
    with pytest.raises(DataError, match=naming(sample.image, sample.labels.name)):
        dataset.samples()


def test_blue_marble_is_there_with_its_lakes() -> None:
    dataset = BlueMarble(None, separate_lakes=True)
    tiles = SegmentationDataModule(BlueMarble).splits
    assert [len(x) for x in tiles.values()] == [24, 6, 6]
    assert len({s.name for samples in tiles.values() for s in samples}) == 36
    northeast = next(s for s in tiles["val"] if s.name == "block03_band0")
    image, labels = dataset.read_image(northeast), dataset.read_labels(northeast)
    assert image.shape == (660, 384, 3)
    assert labels.shape == (660, 384)

    # The block of 90 to 60 W: Lake Huron, the Atlantic, Quebec; 15 pixels to a degree.
    def at(north: float, west: float) -> int:
        return int(labels[round((72 - north) * 15), round((90 - west) * 15) - 33])

    assert at(44.8, 82.4) == 2
    assert at(35.0, 68.0) == 0
    assert at(48.0, 75.0) == 1

    assert list(dataset.classes) == ["ocean", "land", "lake"]
    coasts = BlueMarble(None)
    assert list(coasts.classes) == ["water", "land"]
    assert np.array_equal(coasts.read_labels(northeast), np.where(labels == 2, 0, labels))


def test_blue_marble_elsewhere_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=naming(tmp_path / "bmng.jpg", "--data.root")):
        BlueMarble(str(tmp_path)).samples()


# Loading


@pytest.mark.parametrize(
    ("splitter", "names"),
    [
        (RandomSplit((1 / 3, 1 / 3, 1 / 3), group_pattern=r"^p\d"), None),
        (SplitFile("split.csv"), {"train": ["p0_0"], "val": ["p1_2", "p1_3"], "test": []}),
    ],
)
def test_a_splitter_places_the_samples(
    splitter: Splitter, names: dict[str, list[str]] | None, folder_tree: Path
) -> None:
    (folder_tree / "split.csv").write_text("p0_0,train\np1_*,val\n")
    splits = make_data(folder_tree, splitter=splitter).splits
    found = {split: [sample.name for sample in samples] for split, samples in splits.items()}
    if names is not None:
        assert found == names
    else:
        assert sorted(map(len, found.values())) == [2, 2, 2]
        assert all(len({name[:2] for name in own}) == 1 for own in found.values())


def test_a_splitter_that_has_nothing_to_place_is_refused() -> None:
    data = SegmentationDataModule(BlueMarble, splitter=RandomSplit())
    with pytest.raises(ArgumentError, match=naming("data.splitter", "BlueMarble")):
        data.setup("fit")


def make_data(root: Path, **options: object) -> SegmentationDataModule:
    return SegmentationDataModule(
        lambda r: Folder(r, TWO),
        str(root),
        **{"splitter": RandomSplit((0.5, 0.5, 0)), "num_workers": 0, **options},
    )


def test_batches_have_images_and_labels_of_one_size(folder_tree: Path) -> None:
    data = make_data(folder_tree, batch_size=3)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (3, 3, 64, 96)
    assert batch["labels"].shape == (3, 64, 96)
    assert {batch["image"].dtype, batch["labels"].dtype} == {torch.uint8}


def test_augmentation_changes_image_and_labels_together(folder_tree: Path) -> None:
    dataset = Folder(str(folder_tree), TWO)
    samples = dataset.samples()
    plain = SegmentationSplit(dataset, samples)[0]
    flipped = SegmentationSplit(dataset, samples, [A.HorizontalFlip(p=1.0)])[0]
    assert torch.equal(flipped["image"], plain["image"].flip(-1))
    assert torch.equal(flipped["labels"], plain["labels"].flip(-1))


def test_augmentation_follows_the_seed(folder_tree: Path) -> None:
    dataset = Folder(str(folder_tree), TWO)
    split = SegmentationSplit(dataset, dataset.samples(), [A.RandomCrop(32, 32)])
    torch.manual_seed(5)
    first = [split[0]["image"] for _ in range(4)]
    torch.manual_seed(5)
    second = [split[0]["image"] for _ in range(4)]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not all(torch.equal(a, first[0]) for a in first)


def test_class_names_that_are_no_text_are_named(folder_tree: Path) -> None:
    classes: dict[Any, tuple[int, int, int]] = {False: (0, 0, 0), "object": (9, 9, 9), 1: (7, 7, 7)}
    with pytest.raises(ArgumentError, match=naming("False", "1", "quotes")):
        SegmentationDataModule(lambda root: Folder(root, classes), str(folder_tree))


def test_a_split_without_images_is_named(folder_tree: Path) -> None:
    with pytest.raises(DataError, match=naming("'test'", "Folder", "data.splitter")):
        make_data(folder_tree).setup("test")


def test_labels_of_another_size_are_named(folder_tree: Path) -> None:
    dataset = Folder(str(folder_tree), TWO)
    samples = dataset.samples()
    save(samples[0].labels, np.zeros((10, 12), dtype=np.uint8))
    with pytest.raises(DataError, match=naming("(64, 96)", "(10, 12)")):
        SegmentationSplit(dataset, samples)[0]


def test_images_of_two_sizes_in_a_batch_are_named(histology_tree: Path) -> None:
    classes = {str(k): (k, k, k) for k in range(6)}
    dataset = Folder(str(histology_tree), classes)
    split = SegmentationSplit(dataset, dataset.samples())
    with pytest.raises(ArgumentError, match=naming("--data.batch_size")):
        collate([split[0], split[1]])


def test_a_cache_decodes_once_and_sees_changes(
    folder_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[Path] = []

    def counted(path: Path) -> Pixels:
        decoded.append(path)
        return read_image(path)

    monkeypatch.setattr("deformsample.data.datasets.segmentation_dataset.read_image", counted)
    dataset = Folder(str(folder_tree), classes={"a": (0, 0, 0), "b": (255, 255, 255)})
    samples = dataset.samples()
    plain = SegmentationSplit(dataset, samples)[0]
    cached = SegmentationSplit(dataset, samples, cache=DecodedCache(tmp_path / "cache"))
    decoded.clear()
    for _ in range(2):
        item = cached[0]
        assert torch.equal(item["image"], plain["image"])
        assert torch.equal(item["labels"], plain["labels"])
    assert decoded == [samples[0].image]
    save(samples[0].image.with_suffix(".png"), np.zeros((64, 96, 3), dtype=np.uint8)).replace(
        samples[0].image
    )
    assert int(cached[0]["image"].max()) == 0
    assert not list((tmp_path / "cache").glob("*partial*"))


@pytest.mark.parametrize(
    ("tree", "make"),
    [
        (
            "hrf_tree",
            lambda root: Folder(root, {"none": (0, 0, 0), "vein": (0, 0, 255)}, "colours"),
        ),
        ("cityscapes_tree", Cityscapes),
        ("deepglobe_tree", DeepGlobe),
        (None, lambda _: BlueMarble()),
    ],
    ids=["colours", "Cityscapes", "DeepGlobe", "Blue Marble"],
)
def test_cached_samples_are_not_read_again(
    tree: str | None,
    make: Callable[[str], SegmentationDataset],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dataset = make("" if tree is None else str(request.getfixturevalue(tree)))
    samples = dataset.samples()[:3]
    plain = [SegmentationSplit(dataset, samples)[i] for i in range(len(samples))]
    cached = SegmentationSplit(dataset, samples, cache=DecodedCache(tmp_path / "cache"))
    first = [cached[i] for i in range(len(samples))]

    def read(*_: object) -> Pixels:
        raise AssertionError("read again")

    monkeypatch.setattr(type(dataset), "read_image", read)
    monkeypatch.setattr(type(dataset), "read_labels", read)
    for expected, *items in zip(
        plain, first, (cached[i] for i in range(len(samples))), strict=True
    ):
        for item in items:
            assert torch.equal(item["image"], expected["image"])
            assert torch.equal(item["labels"], expected["labels"])


def test_a_full_cache_keeps_what_it_has_and_decodes_the_rest(
    folder_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = Folder(str(folder_tree), classes={"a": (0, 0, 0), "b": (255, 255, 255)})
    samples = dataset.samples()
    plain = [SegmentationSplit(dataset, samples)[i] for i in range(2)]
    one = plain[0]["image"].numel() + plain[0]["labels"].numel()
    folder = tmp_path / "cache"
    cached = SegmentationSplit(dataset, samples, cache=DecodedCache(folder, limit=one + 1000))
    for expected, item in zip(plain, (cached[i] for i in range(2)), strict=True):
        assert torch.equal(item["image"], expected["image"])
        assert torch.equal(item["labels"], expected["labels"])
    assert len(list(folder.iterdir())) == 2

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("deformsample.data.cache.np.save", full)
    unlimited = SegmentationSplit(dataset, samples, cache=DecodedCache(folder))
    assert torch.equal(unlimited[1]["image"], plain[1]["image"])
    assert len(list(folder.iterdir())) == 2


def test_cached_labels_belong_to_their_settings(hrf_tree: Path, tmp_path: Path) -> None:
    cache = DecodedCache(tmp_path / "cache")
    classes = {"none": (0, 0, 0), "artery": (255, 0, 0), "vein": (0, 0, 255)}
    swapped = {"none": (0, 0, 0), "vein": (0, 0, 255), "artery": (255, 0, 0)}
    labels = []
    for names in (classes, swapped):
        dataset = Folder(str(hrf_tree), names, "colours")
        labels.append(SegmentationSplit(dataset, dataset.samples(), cache=cache)[0]["labels"])
    assert torch.equal(labels[0] == 1, labels[1] == 2)
    assert bool((labels[0] == 1).any())
