"""Slices of volumes, on small volumes."""

from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
import pytest

from deformsample.cli.main import main
from deformsample.data import Nifti, RandomSplit, SegmentationDataModule
from deformsample.errors import ArgumentError, DataError
from tests.helpers import naming

CLASSES = {"background": (0, 0, 0), "tumour": (255, 255, 255)}
VALUES = {"background": [0], "tumour": [1, 4]}


def write(path: Path, voxels: npt.NDArray[np.int16]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), path)
    return path


def volume(number: int) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int16]]:
    """A bright ball in a head of (x, y, z) = (40, 32, 4) voxels, 0 outside of it."""
    random = np.random.default_rng(number)
    x, y = np.mgrid[:40, :32]
    head = np.hypot((x - 20) / 18, (y - 16) / 14) < 1
    tumour = np.hypot(x - random.uniform(12, 28), y - random.uniform(10, 22)) < 6
    grey = np.where(head, 300 + 400 * tumour + random.normal(0, 20, (40, 32)), 0)
    image = np.repeat(grey[..., None], 4, axis=2)
    labels = np.repeat(np.where(tumour & head, 4, 0)[..., None], 4, axis=2)
    return image.astype(np.int16), labels.astype(np.int16)


@pytest.fixture
def brats(tmp_path: Path) -> Path:
    root = tmp_path / "brats"
    for n in range(7):
        image, labels = volume(n)
        write(root / "HGG" / f"P{n}" / f"P{n}_flair.nii.gz", image)
        write(root / "HGG" / f"P{n}" / f"P{n}_t1.nii.gz", image * 0 + 7)
        write(root / "HGG" / f"P{n}" / f"P{n}_seg.nii.gz", labels)
    return root


@pytest.fixture
def decathlon(tmp_path: Path) -> Path:
    root = tmp_path / "decathlon"
    for n in range(4):
        image, labels = volume(n)
        write(root / "imagesTr" / f"BRATS_{n:03}.nii.gz", np.stack((image, 0 * image + 9), axis=-1))
        write(root / "labelsTr" / f"BRATS_{n:03}.nii.gz", labels)
        (root / "imagesTr" / f"._BRATS_{n:03}.nii.gz").write_bytes(b"of another system")
    return root


def test_slices_are_images_of_rows_and_columns(tmp_path: Path) -> None:
    image = np.zeros((3, 2, 2), np.int16)
    image[:, :, 1] = [[0, 100], [150, 200], [300, 250]]  # (x, y)
    labels = np.zeros((3, 2, 2), np.int16)
    labels[2, 0, 1], labels[2, 1, 1] = 4, 2
    write(tmp_path / "P" / "P_flair.nii", image)
    write(tmp_path / "P" / "P_seg.nii", labels)
    data = Nifti(str(tmp_path), CLASSES, VALUES, percentiles=(0, 100))
    samples = data.samples()
    assert [s.name for s in samples] == ["P_000", "P_001"]
    assert not data.read_image(samples[0]).any()
    pixels = data.read_image(samples[1])
    assert pixels.shape == (2, 3, 3)
    # From 100 to 300: black to white; what is 0 is outside.
    assert pixels[..., 0].tolist() == [[0, 64, 255], [0, 128, 191]]
    assert (pixels == pixels[..., :1]).all()
    assert data.read_labels(samples[1]).tolist() == [[0, 0, 1], [0, 0, 255]]


def test_percentiles_are_of_the_voxels_that_are_not_0(tmp_path: Path) -> None:
    image = np.zeros((101, 10, 1), np.int16)
    image[:, 0, 0] = np.arange(1000, 1101)
    write(tmp_path / "P" / "P_flair.nii.gz", image)
    write(tmp_path / "P" / "P_seg.nii.gz", image * 0)
    data = Nifti(str(tmp_path), CLASSES, VALUES, percentiles=(10, 90))
    row = data.read_image(data.samples()[0])[0, :, 0]
    assert row[[0, 10, 50, 90, 100]].tolist() == [0, 0, 128, 255, 255]
    assert row[30] == round(255 * 20 / 80)


@pytest.mark.parametrize("layout", ["brats", "decathlon"])
def test_patients_are_never_in_two_splits(layout: str, request: pytest.FixtureRequest) -> None:
    root: Path = request.getfixturevalue(layout)
    splits = SegmentationDataModule(
        lambda root: Nifti(root, CLASSES, VALUES),
        str(root),
        splitter=RandomSplit((0.5, 0.25, 0.25)),
    ).splits
    found = [{s.name[:-4] for s in samples} for samples in splits.values()]
    assert all(found)
    assert len(set.union(*found)) == sum(map(len, found))
    assert [len(samples) for samples in splits.values()] == [4 * len(names) for names in found]


def test_channels_of_the_decathlon(decathlon: Path) -> None:
    first, second = (Nifti(str(decathlon), CLASSES, VALUES, channel=c) for c in (0, 1))
    sample = first.samples()[0]
    assert len(np.unique(first.read_image(sample))) > 10
    assert np.unique(second.read_image(sample)).tolist() == [0]  # all voxels are alike
    assert set(np.unique(first.read_labels(sample))) == {0, 1}
    third = Nifti(str(decathlon), CLASSES, VALUES, channel=2)
    with pytest.raises(DataError, match=naming(2, sample.image, "--data.dataset.channel")):
        third.read_image(sample)


def test_wrong_volumes_and_arguments_are_named(brats: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=naming("values", "tumour")):
        Nifti(None, CLASSES, {"tumour": [1]})
    with pytest.raises(ArgumentError, match=naming("percentiles", [90, 10])):
        Nifti(None, CLASSES, VALUES, percentiles=(90, 10))
    data = Nifti(str(brats), CLASSES, VALUES)
    patient = brats / "HGG" / "P0"
    sample = data.samples()[3]
    (patient / "P0_seg.nii.gz").unlink()
    with pytest.raises(DataError, match=naming("*_seg.nii*", patient, 0)):
        data.samples()
    write(patient / "P0_seg.nii.gz", np.zeros((40, 32, 2), np.int16))
    with pytest.raises(DataError, match=naming(4, sample.labels, 2)):
        data.read_labels(sample)
    flair = patient / "P0_flair.nii.gz"
    flair.write_bytes(flair.read_bytes()[:-500])
    with pytest.raises(DataError, match=naming(flair)):
        data.read_image(sample)
    flair.write_bytes(b"no volume")
    with pytest.raises(DataError, match=naming(flair)):
        data.samples()
    write(flair, np.zeros((4, 4), np.int16))
    with pytest.raises(DataError, match=naming(flair, (4, 4))):
        data.samples()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=naming("*_flair.nii*", tmp_path / "empty")):
        Nifti(str(tmp_path / "empty"), CLASSES, VALUES).samples()


def test_all_slices_are_loaded(brats: Path) -> None:
    data = SegmentationDataModule(
        lambda root: Nifti(root, CLASSES, VALUES), str(brats), batch_size=3, num_workers=0
    )
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (3, 3, 32, 40)
    assert batch["labels"].shape == (3, 32, 40)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["tiled_paper", "uniform"])
def test_the_shipped_config_through_the_command_line(
    method: str, brats: Path, in_tmp: Path
) -> None:
    tiled = method == "tiled_paper"
    own = (
        ["--model.segmenter.tile=[16,16]", "--model.segmenter.network.widths=[4,4,4,4,4]"]
        if tiled
        else [
            "--model.segmenter.network=deformsample.networks.UNet",
            "--model.segmenter.network.widths=[4,4]",
            "--model.segmenter.downsampler.sampled_size=[16,20]",
        ]
    )
    common = [
        *("--config=brats.yaml", f"--config=method/{method}.yaml", f"--data.root={brats}", *own),
        *("--data.num_workers=0", "--data.batch_size=4", "--trainer.accelerator=cpu"),
        *("--trainer.enable_progress_bar=false", "--data.cache=cache"),
    ]
    assert main(["fit", *common, "--output=run", "--trainer.max_epochs=1"]) == 0
    last = "run/checkpoints/last.ckpt"
    for command in ("test", "predict"):
        assert main([command, *common, f"--ckpt_path={last}", f"--output={command}"]) == 0
    assert len(list(Path("predict/predictions").glob("P*_00?.png"))) == 4
    if tiled:
        report = ["tiles", last, "--config=run/config.yaml", "--images=2", "--output=report"]
        assert main(report) == 0
        assert "| whole |" in Path("report/tiles.md").read_text()
