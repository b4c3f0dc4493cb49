"""Frames of a video share sampling grids."""

import numpy as np
import pytest
import torch

from deformsample.conventions import Pixels
from deformsample.errors import ArgumentError
from deformsample.inference.model import SegmentationModel
from deformsample.networks import DeformationNet, UNet
from deformsample.samplers import InMemoryImage, LearnedSampler
from deformsample.samplers.downsampler import Downsampler
from deformsample.segmenters import SampledSegmenter, TiledSegmenter
from tests.helpers import naming, scene

CLASSES = {"a": (0, 0, 0), "b": (1, 1, 1)}


@pytest.fixture
def model() -> SegmentationModel:
    torch.manual_seed(0)
    network = DeformationNet((4,))
    for weight in network.layers[-1].parameters():
        torch.nn.init.normal_(weight, std=5)
    downsampler = Downsampler(LearnedSampler(network), (14, 22))
    return SegmentationModel(SampledSegmenter(downsampler, UNet(2, (4, 8))), {"classes": CLASSES})


@pytest.fixture
def frames() -> list[Pixels]:
    return [scene(seed, 70, 110, classes=2)[0] for seed in range(5)]


def test_a_grid_serves_the_frames_after_it(model: SegmentationModel, frames: list[Pixels]) -> None:
    grids = []
    model.downsampler.sampler.register_forward_hook(lambda *_: grids.append(1))
    labels = list(model.stream(frames, keep=2))
    assert len(grids) == 3
    for index in (0, 2, 4):
        assert np.array_equal(labels[index], model.segment(frames[index]))
    assert isinstance(model.segmenter, SampledSegmenter)
    shared = model.downsample(frames[0])
    points = torch.from_numpy(frames[1].transpose(2, 0, 1).copy())[None]
    with torch.inference_mode():
        alone = model.downsampler(points)
        image = InMemoryImage(points).sample(shared.grid, model.downsampler.lod_bias)
        small = shared._replace(image=image)
        expected = model.segmenter.predict(small).labels((70, 110))[0]
    assert np.array_equal(labels[1], expected.numpy())
    assert not torch.allclose(alone.grid, shared.grid)


def test_one_frame_per_grid_is_segmentation(model: SegmentationModel, frames: list[Pixels]) -> None:
    for frame, labels in zip(frames, model.stream(frames, keep=1), strict=True):
        assert np.array_equal(labels, model.segment(frame))


def test_streams_that_cannot_be_are_named(model: SegmentationModel, frames: list[Pixels]) -> None:
    with pytest.raises(ArgumentError, match=naming("keep", 0)):
        next(model.stream(frames, keep=0))
    with pytest.raises(ArgumentError, match=naming((35, 110), (70, 110))):
        list(model.stream([frames[0], frames[1][:35]]))
    tiles = SegmentationModel(TiledSegmenter(UNet(2, (4, 8)), tile=(32, 32)), {"classes": CLASSES})
    with pytest.raises(ArgumentError, match=naming("tiles")):
        next(tiles.stream(frames))
