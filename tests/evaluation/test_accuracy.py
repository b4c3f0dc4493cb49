from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from deformsample.conventions import STAGES
from deformsample.data import Folder, SegmentationSplit
from deformsample.evaluation.accuracy import accuracy
from deformsample.evaluation.cost import cost
from deformsample.geometry import identity_grid, unwarp_labels, warp_labels
from deformsample.metrics.iou import class_iou, confusion
from deformsample.samplers import Downsampler, UniformSampler
from deformsample.segmenters import SampledSegmenter
from tests.helpers import TWO


class Brightness(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        bright = image[:, :1]
        return torch.cat((bright, -bright), dim=1)


@pytest.fixture
def part(folder_tree: Path) -> SegmentationSplit:
    dataset = Folder(str(folder_tree), TWO)
    return SegmentationSplit(dataset, dataset.samples())


def test_scores_are_those_of_the_segmenters_own_labels(part: SegmentationSplit) -> None:
    segmenter = SampledSegmenter(Downsampler(UniformSampler(), (16, 24)), Brightness()).eval()
    scores = accuracy(segmenter, part, {"all": ["background", "object"]}, boundary_width=2)
    full, best = torch.zeros(2, 2), torch.zeros(2, 2)
    for n in range(len(part)):
        labels = part[n]["labels"].long()
        grid = identity_grid((16, 24), torch.zeros(1))
        small = warp_labels(labels[None], grid)
        for matrix, predicted in (
            (full, segmenter.segment(part[n]["image"][None])),
            (best, unwarp_labels(torch.stack((1.0 - small, small.float()), 1), grid, (64, 96))),
        ):
            for t in range(2):
                for p in range(2):
                    matrix[t, p] += int(((labels == t) & (predicted[0] == p)).sum())
    assert scores["iou/object"] == pytest.approx(float(class_iou(full)[1]))
    assert scores["upper_bound/object"] == pytest.approx(float(class_iou(best)[1]))
    assert scores["upper_bound"] > scores["miou"]
    assert scores["iou/all"] == 1
    assert 0 < scores["boundary_iou"] < 1


def test_guided_scores_are_those_of_guided_labels(part: SegmentationSplit) -> None:
    segmenter = SampledSegmenter(Downsampler(UniformSampler(), (16, 24)), Brightness()).eval()
    scores = accuracy(segmenter, part, {}, boundary_width=2, guided=True)
    full = torch.zeros(2, 2)
    for n in range(len(part)):
        predicted = segmenter.segment(part[n]["image"][None], guided=True)[0]
        full += confusion(predicted, part[n]["labels"], 2)
    assert scores["iou/object"] == pytest.approx(float(class_iou(full)[1]))
    unguided = accuracy(segmenter, part, {}, boundary_width=2)
    assert scores["iou/object"] != unguided["iou/object"]
    assert scores["upper_bound"] == unguided["upper_bound"]


def test_costs_of_every_stage(part: SegmentationSplit) -> None:
    network = nn.Conv2d(3, 2, 3, padding=1, bias=False)
    costs = cost(
        SampledSegmenter(Downsampler(UniformSampler(), (16, 24)), network).eval(), part, repeats=2
    )
    assert costs["gigamacs"] == pytest.approx(16 * 24 * 3 * 2 * 9 / 1e9)
    assert costs["pixels"] == 16 * 24
    assert costs["seconds"] == pytest.approx(sum(costs[f"seconds/{name}"] for name in STAGES))
    assert min(costs[f"seconds/{name}"] for name in ("decode", *STAGES)) > 0
