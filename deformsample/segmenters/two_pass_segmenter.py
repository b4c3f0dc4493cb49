"""Two-pass segmentation: a look at the whole image, then samples where it is uncertain."""

from __future__ import annotations

import math
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.autograd.profiler import record_function
from typing_extensions import override

from deformsample.conventions import Size
from deformsample.errors import ArgumentError
from deformsample.geometry import identity_grid, resize_grid, warp
from deformsample.samplers.downsampler import Downsampled, Downsampler, sampled_size
from deformsample.segmenters.network_output import logits_at_pixels
from deformsample.segmenters.prediction import SampledPrediction
from deformsample.segmenters.sampled_segmenter import SampledSegmenter

_LEAST_SAMPLES = 4


class TwoPassSegmenter(SampledSegmenter):
    """Segment a thumbnail, and correct the logits at samples that it places.

    The first network segments the thumbnail. The sampler sees its class probabilities and their
    entropy beside the thumbnail. The second network sees them at the samples, and its output is
    added to the logits of the first, which remain where it returns 0. After Chen et al. 2019,
    "Collaborative Global-Local Networks" (GLNet), and Kirillov et al. 2020, "PointRend".

    Args:
        downsampler: downsamples the image for the second pass. Its ``sampled_size`` is the budget
            of both passes, and its ``thumbnail_scale`` s their ratio: the first pass has s^2 / (1 +
            s^2) of the samples.
        network: normalised image (b, 3, h, w) to logits (b, k, h', w'), with aligned corners.
        network_multiple: pad the thumbnail and the small image to a multiple of this by repeating
            their last row and column.
        first_network: the network of the first pass, with as many classes; ``None`` for a copy of
            ``network``.

    Raises:
        ArgumentError: networks with different numbers of classes.

    Example:
        >>> from deformsample.networks import UNet
        >>> from deformsample.samplers import ErrorCurveSampler
        >>> sampler = ErrorCurveSampler(UNet(num_classes=2, widths=(8, 16)))
        >>> downsampler = Downsampler(sampler, sampled_size=(32, 48), thumbnail_scale=0.5)
        >>> segmenter = TwoPassSegmenter(downsampler, UNet(num_classes=3, widths=(8, 16)))
        >>> segmenter.segment(torch.rand(1, 3, 256, 384)).shape
        torch.Size([1, 256, 384])
        >>> segmenter.downsampler.sizes((256, 384))  # at most 32 x 48 in total
        ((29, 42), (14, 21))
    """

    downsampler: _FirstPass

    def __init__(
        self,
        downsampler: Downsampler,
        network: nn.Module,
        network_multiple: int = 1,
        first_network: nn.Module | None = None,
    ) -> None:
        first = deepcopy(network) if first_network is None else first_network
        classes = _class_count(network, network_multiple)
        if (others := _class_count(first, network_multiple)) != classes:
            raise ArgumentError(
                f"Expected a `first_network` of {classes} classes, as `network` has, but got "
                f"{others}: set its `num_classes`."
            )
        first_pass = _FirstPass(downsampler, first, network_multiple, classes)
        super().__init__(first_pass, network, network_multiple)
        self.context = _Context(classes)

    @property
    def display_name(self) -> str:
        """The name of the sampler, with two passes."""
        return f"{self.downsampler.sampler.display_name}, two passes"

    @override
    def predict(self, sampled: Downsampled) -> SampledPrediction:
        assert sampled.first_logits is not None
        samples = sampled.grid.detach()
        with record_function("network"):
            image = sampled.image + self.context(sampled.first_logits, samples)
            correction = self._logits(image)
            size = (correction.shape[2], correction.shape[3])
            logits = warp(sampled.first_logits, resize_grid(samples, size)) + correction
        return SampledPrediction(logits, resize_grid(sampled.grid, size), sampled)

    @override
    def pixels(self, size: Size) -> int:
        """The number of pixels of the thumbnail and the small image."""
        return sum(math.prod(each) for each in self.downsampler.sizes(size))


class _FirstPass(Downsampler):
    """A downsampler whose thumbnail is segmented, and counts as part of the samples."""

    def __init__(
        self, downsampler: Downsampler, network: nn.Module, network_multiple: int, classes: int
    ) -> None:
        super().__init__(
            downsampler.sampler,
            downsampler.sampled_size,
            downsampler.thumbnail_scale,
            downsampler.lod_bias,
            downsampler.sample_gradient,
        )
        self.network = network
        self.network_multiple = network_multiple
        self.context = _Context(classes)

    @override
    def sizes(self, image_size: Size) -> tuple[Size, Size]:
        wanted = self.sampled_size
        aspect, budget = (
            (image_size, wanted) if isinstance(wanted, int) else (wanted, math.prod(wanted))
        )
        if budget < 2 * _LEAST_SAMPLES:
            raise ArgumentError(
                f"Expected at least {2 * _LEAST_SAMPLES} samples for two passes, but got a "
                f"`sampled_size` of {wanted}."
            )
        share = 1 - 1 / (1 + self.thumbnail_scale**2)
        first = min(max(_LEAST_SAMPLES, int(share * budget)), budget - _LEAST_SAMPLES)
        thumbnail = sampled_size(aspect, first)
        return sampled_size(aspect, budget - math.prod(thumbnail)), thumbnail

    @property
    @override
    def needs_thumbnail(self) -> bool:
        return True

    @override
    def first_pass(self, thumbnail: Tensor) -> tuple[Tensor, Tensor]:
        with record_function("network"):
            image = self.normalize(thumbnail)
            logits = logits_at_pixels(self.network, image, self.network_multiple).float()
        uniform = identity_grid((thumbnail.shape[2], thumbnail.shape[3]), thumbnail)
        return thumbnail + self.context(logits, uniform), logits


class _Context(nn.Module):
    """Class probabilities and their entropy, as changes of the colours of an image.

    Networks of three input channels can read them. The changes start from 0, and no gradient
    reaches the probabilities.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.colours = nn.Conv2d(classes + 1, 3, 1, bias=False)
        nn.init.zeros_(self.colours.weight)

    def forward(self, logits: Tensor, grid: Tensor) -> Tensor:
        """Logits (b, k, h, w) of the whole image, at a grid (b, h', w', 2): (b, 3, h', w')."""
        log_shares = logits.detach().log_softmax(dim=1)
        shares = log_shares.exp()
        entropy = -(shares * log_shares).sum(dim=1, keepdim=True)
        changes: Tensor = self.colours(warp(torch.cat((shares, entropy), dim=1), grid))
        return changes


@torch.no_grad()
def _class_count(network: nn.Module, multiple: int) -> int:
    """The number of logits of a network, from those of a black image."""
    side = multiple * math.ceil(64 / multiple)
    probe = deepcopy(network).eval()  # statistics of batches stay as they are
    image = next(network.parameters(), torch.zeros(1)).new_zeros(1, 3, side, side)
    return logits_at_pixels(probe, image, multiple).shape[1]
