"""Segmenting the frames of a video, with densities from the last prediction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor
from torch.autograd.profiler import record_function
from torch.nn import functional as F

from deformsample.conventions import Size
from deformsample.errors import ArgumentError
from deformsample.geometry import ErrorCurves, best_density, relative_density, unwarp
from deformsample.samplers import Downsampled, InMemoryImage
from deformsample.segmenters import SampledPrediction, SampledSegmenter

ELASTICITY = 0.3
FLOOR = 0.1
MINIMUM, MAXIMUM = 0.3, 4.0
_POINTS = 3
"""Points per cell and axis at which the uncertainty is averaged."""


def stream(
    segmenter: SampledSegmenter, frames: Iterable[Tensor], refresh: int | None = None
) -> Iterator[SampledPrediction]:
    """The predictions of consecutive frames (1, 3, H, W) of one size.

    The density of the first frame, and of every ``refresh``-th, comes from the sampler. That of any
    other frame comes from the prediction of the frame before, without a thumbnail: the uncertainty
    1 - max p of each cell is taken as its error at its known density, with a fixed elasticity.
    """
    last: SampledPrediction | None = None
    size: Size | None = None
    for number, frame in enumerate(frames):
        if size is not None and frame.shape[2:] != size:
            raise ArgumentError(
                f"Expected frames of one size, {size}, but got {tuple(frame.shape[2:])}."
            )
        size = (frame.shape[2], frame.shape[3])
        if last is None or (refresh is not None and number % refresh == 0):
            last = segmenter(frame)
        else:
            with record_function("density"):
                density = density_after(last)
            last = predict_with(segmenter, frame, density)
        yield last


def predict_with(segmenter: SampledSegmenter, frame: Tensor, density: Tensor) -> SampledPrediction:
    """The prediction of a frame (1, 3, H, W) with a density (1, 1, h, w) for its samples."""
    downsampler, source = segmenter.downsampler, InMemoryImage(frame)
    before = segmenter.downsampler.sampled_size
    assert not isinstance(before, int)
    with record_function("density"):
        grid = downsampler.sampler.regrid(density, (before[0], before[1]))
    with record_function("warp"):
        small = source.sample(grid, downsampler.lod_bias)
    return segmenter.predict(Downsampled(small, grid, density))


def density_after(last: SampledPrediction) -> Tensor:
    """The density (1, 1, h, w) for the frame after a prediction, by its uncertainty."""
    likely = last.logits.float().softmax(dim=1)
    cells = _cell_means(1 - likely.amax(dim=1, keepdim=True), last)
    errors = F.avg_pool2d(F.pad(cells, [1] * 4, mode="replicate"), 3, stride=1) + FLOOR
    log_density = relative_density(last.sampled.density).log()
    curves = ErrorCurves(
        errors.log() + ELASTICITY * log_density, errors.new_full(errors.shape, ELASTICITY)
    )
    density = best_density(curves, minimum=MINIMUM, maximum=MAXIMUM)
    return density / density.sum(dim=(2, 3), keepdim=True)


def _cell_means(values: Tensor, last: SampledPrediction) -> Tensor:
    """Means over the cells of the density map of values at the samples."""
    fine = [(n - 1) * _POINTS + 1 for n in last.sampled.density.shape[2:]]
    full = unwarp(values, last.grid, (fine[0], fine[1]))
    padded = F.pad(full, [_POINTS // 2] * 4, mode="reflect")
    return F.avg_pool2d(padded, _POINTS, stride=_POINTS)
