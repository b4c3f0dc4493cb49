"""Whole images against tiles, in numbers."""

import csv
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from deformsample.cli.main import main
from deformsample.cli.tiles import tile_size
from deformsample.data import Folder, SegmentationSplit
from deformsample.errors import ArgumentError
from deformsample.evaluation.tile_report import difference_histogram, tiling_tables
from deformsample.evaluation.tile_study import Outcome, Setting, compare, measure, memory
from deformsample.metrics.iou import class_iou
from deformsample.segmenters import TiledSegmenter
from tests.helpers import TWO, naming, save, scene

WHOLE, TILES = Setting(None), Setting((16, 24), 0.5)


class Brightness(nn.Module):
    """Class 0 where the surroundings are bright."""

    def forward(self, image: Tensor) -> Tensor:
        bright = nn.functional.avg_pool2d(image[:, :1], 9, stride=1, padding=4)
        return torch.cat((bright, -bright), dim=1)


def outcome(image: str, setting: Setting, right: int, false: int, missed: int) -> Outcome:
    counts = torch.tensor([[100, false], [missed, right]])
    return Outcome(image, setting, counts, [1], pixels=400, seconds=0.5)


def test_dice_and_iou_are_smoothed_by_one() -> None:
    found = outcome("a", WHOLE, right=4, false=2, missed=1)
    assert found.counts == (4, 2, 1)
    assert found.dice == pytest.approx((2 * 4 + 1) / (6 + 5 + 1))
    assert found.iou == pytest.approx((4 + 1) / (7 + 1))
    assert outcome("empty", WHOLE, 0, 0, 0).dice == 1


def test_confusions_inside_the_foreground_are_hits() -> None:
    counts = torch.tensor([[50, 1, 2], [4, 10, 3], [5, 6, 20]])
    found = Outcome("a", WHOLE, counts, [1, 2], 1, 1.0)
    assert found.counts == (10 + 3 + 6 + 20, 1 + 2, 4 + 5)


@pytest.fixture
def outcomes() -> list[Outcome]:
    """Dice of 0.5, 0.5, 0.5, 1 as a whole and of 0.9, 0.5, about 0.45, 0 in tiles."""
    none = (10**6, 0, 0)
    half = (10**6, 10**6, 10**6)
    return [
        *(outcome(name, WHOLE, *half) for name in "abc"),
        outcome("d", WHOLE, *none),
        outcome("a", TILES, 9 * 10**5, 10**5, 10**5),
        outcome("b", TILES, *half),
        outcome("c", TILES, 9 * 10**5, 11 * 10**5, 11 * 10**5),
        outcome("d", TILES, 0, 10**6, 10**6),
    ]


def test_images_are_compared_one_by_one(outcomes: list[Outcome]) -> None:
    found = compare(outcomes, WHOLE, TILES)
    assert found.differences == pytest.approx([-0.4, 0.0, 0.05, 1.0], abs=1e-6)
    assert found.mean == pytest.approx(0.1625, abs=1e-6)
    assert found.share(0) == 0.75
    assert found.share(0.1, above=True) == 0.25
    assert found.share_below(-0.1) == 0.25
    with pytest.raises(ArgumentError, match=naming("whole", "9 x 9, overlap 0")):
        compare(outcomes, WHOLE, Setting((9, 9)))


def test_tables_and_histogram(outcomes: list[Outcome]) -> None:
    text = tiling_tables(outcomes, WHOLE, {WHOLE: 12.3}, ["background", "object"])
    lines = text.splitlines()
    assert "| 0.00 M | 0.50 | 12 MB |" in lines[2]
    assert lines[3].startswith("| 16 x 24, overlap 0.5 | ")
    assert lines[3].endswith("| - |")
    assert "| 16 x 24, overlap 0.5 | +0.1625 | 75% | 25% | 25% |" in lines
    assert lines[-1].startswith("4 images")
    panels = difference_histogram(outcomes, WHOLE).axes
    assert len(panels) == 1
    bars = [float(bar.get_height()) for bar in panels[0].patches]  # type: ignore[attr-defined]
    assert sum(bars) == 4


def test_several_classes_are_told_apart_and_taken_as_one() -> None:
    counts = torch.tensor([[50, 0, 0], [0, 30, 10], [0, 10, 30]])
    found = Outcome("a", WHOLE, counts, [1, 2], 1, 1.0)
    head, _, row = tiling_tables([found], WHOLE, {}, ["ground", "x", "y"]).splitlines()[:3]
    assert "| IoU, x, of all pixels | IoU, y, of all pixels | IoU, foreground, of all" in head
    assert "| 1.0000 | 1.0000 | 0.600 | 0.600 | 1.000 | 0.00% |" in row


@pytest.fixture
def part(folder_tree: Path) -> SegmentationSplit:
    dataset = Folder(str(folder_tree), TWO)
    return SegmentationSplit(dataset, dataset.samples()[:2])


def test_measures_are_those_of_the_segmenters(part: SegmentationSplit) -> None:
    segmenter = TiledSegmenter(Brightness(), (32, 32)).eval()
    found = measure(segmenter, part, [WHOLE, TILES], [1])
    assert [(o.image, o.setting) for o in found] == [
        (s.name, setting) for s in part.samples for setting in (WHOLE, TILES)
    ]
    assert {o.pixels for o in found if o.setting == WHOLE} == {64 * 96}
    assert {o.pixels for o in found if o.setting == TILES} == {7 * 7 * 16 * 24}
    item = part[0]
    for own, setting in zip(found, (WHOLE, TILES), strict=False):
        tile = setting.tile or (64, 96)
        labels = TiledSegmenter(segmenter.network, tile, 0.5).eval().segment(item["image"][None])
        iou = class_iou(own.confusion)[1]
        both = int(((labels[0] == 1) & (item["labels"] == 1)).sum())
        either = int(((labels[0] == 1) | (item["labels"] == 1)).sum())
        assert float(iou) == pytest.approx(both / either)
        assert own.iou == pytest.approx((both + 1) / (either + 1))


def test_a_whole_image_needs_the_memory(part: SegmentationSplit) -> None:
    class Wide(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return image.repeat(1, 2000, 1, 1)[:, :2]

    needed = memory(TiledSegmenter(Wide(), (16, 24)).eval(), part, [WHOLE, TILES])
    assert needed[WHOLE] > 100  # 64 x 96 pixels of 6000 channels are 147 MB
    assert needed[TILES] < needed[WHOLE] / 2


def test_the_command_writes_tables_and_a_picture(
    in_tmp: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for n in range(6):
        image, ids = scene(n, 64, 96, classes=2)
        save(in_tmp / "data" / "images" / f"{n}.png", image)
        save(in_tmp / "data" / "labels" / f"{n}.png", ids)
    train = [
        *("fit", "--config=folder.yaml", "--config=method/tiled.yaml", "--data.root=data"),
        *("--output=run", "--data.num_workers=0", "--data.batch_size=2"),
        *("--model.segmenter.tile=[16,24]", "--trainer.accelerator=cpu"),
        "--model.segmenter.network=deformsample.networks.UNet",
        *("--model.segmenter.network.widths=[4,4]", "--trainer.max_epochs=1"),
    ]
    assert main(train) == 0
    last = "run/checkpoints/last.ckpt"
    common = ["tiles", last, "--config=run/config.yaml", "--split=train", "--images=3"]
    more = ["--tile", "16x24", "32x32", "--overlap", "0", "0.5"]
    assert main([*common, *more, "--output=out"]) == 0
    rows = list(csv.DictReader((in_tmp / "out" / "images.csv").open()))
    assert len(rows) == 3 * 5
    assert {row["tile"] for row in rows} == {"whole", "16x24", "32x32"}
    assert all(0 < float(row["dice"]) <= 1 for row in rows)
    table = (in_tmp / "out" / "tiles.md").read_text()
    assert "| Dice | IoU | IoU, object, of all pixels | false positives |" in table
    assert "whole better or equal" in table
    assert (in_tmp / "out" / "differences.png").stat().st_size > 5_000

    assert main([*common, "--reference=32x32", "--output=parts"]) == 0
    assert "Dice of 32 x 32, overlap 0 less theirs" in (in_tmp / "parts" / "tiles.md").read_text()

    capsys.readouterr()
    for wrong, message in [
        (["--tile=big"], naming("256x256", "whole", "'big'")),
        (["--class=moon"], naming("--class", "'object'", "'moon'")),
    ]:
        assert main([*common, "--output=no", *wrong]) == 1
        assert re.search(message, capsys.readouterr().err)
    assert main(["tiles", str(checkpoint), "--config=run/config.yaml", "--output=no"]) == 1
    assert re.search(naming("method/tiled.yaml", "learned"), capsys.readouterr().err)


def test_sizes_of_tiles() -> None:
    assert tile_size("12x34") == (12, 34)
    assert tile_size("whole") is None
