"""Measuring the accuracy of segmenters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from deformsample.conventions import IGNORE_INDEX
from deformsample.data import SegmentationSplit
from deformsample.geometry import unwarp_labels
from deformsample.metrics.iou import boundary_counts, confusion, iou_report, mean_iou
from deformsample.segmenters import SampledPrediction, Segmenter


@torch.no_grad()
def accuracy(
    segmenter: Segmenter,
    split: SegmentationSplit,
    class_groups: Mapping[str, Sequence[str]],
    boundary_width: int,
    *,
    guided: bool = False,
) -> dict[str, float]:
    """Measure a segmenter on all images of a split.

    Args:
        segmenter: segmenter in eval mode.
        split: images and labels.
        class_groups: groups of classes that are measured as one class, by name.
        boundary_width: width of the bands of the boundary IoU, in pixels.
        guided: as in :meth:`.Segmenter.segment`.

    Returns:
        ``miou`` and ``iou/CLASS`` at full resolution; ``boundary_iou/CLASS`` and their mean
        ``boundary_iou``. If images are sampled, also ``miou_warped`` at the samples, and the oracle
        upper bound ``upper_bound`` with ``upper_bound/CLASS``: the IoU of the grid if every sample
        has its true class, without guidance.
    """
    names = list(split.dataset.classes)
    count = len(names)
    full, warped, upper_bound = (torch.zeros(count, count, dtype=torch.long) for _ in range(3))
    bands = torch.zeros(2, count, dtype=torch.long)
    device, sampled = segmenter.device, segmenter.downsampler is not None
    for index in tqdm(range(len(split)), unit="image", leave=False, disable=None):
        item = split[index]
        labels = item["labels"]
        true = labels.to(device)[None]
        image = item["image"].to(device)[None]
        if sampled:
            prediction: SampledPrediction = segmenter(image, true)
            small = prediction.targets(true)
            warped += confusion(prediction.logits.argmax(dim=1), small, count).cpu()
            upper_bound += confusion(_best(small, prediction, true), true, count).cpu()
            size = (true.shape[1], true.shape[2])
            unwarped = prediction.guided_labels(image) if guided else prediction.labels(size)
            predicted = unwarped[0].cpu()
        else:
            predicted = segmenter.segment(image, true, guided=guided)[0].cpu()
        full += confusion(predicted, labels, count)
        bands += boundary_counts(
            predicted.numpy(),
            labels.numpy(),
            num_classes=count,
            width=boundary_width,
            ignore_index=IGNORE_INDEX,
        )
    boundary = bands[0].double() / bands[1]
    scores = {"miou": float(mean_iou(full)), "boundary_iou": float(boundary.nanmean())}
    if sampled:
        scores |= {
            "miou_warped": float(mean_iou(warped)),
            "upper_bound": float(mean_iou(upper_bound)),
        }
    return {
        **scores,
        **{f"iou/{n}": float(v) for n, v in iou_report(full, names, class_groups).items()},
        **{
            f"upper_bound/{n}": float(v)
            for n, v in iou_report(upper_bound, names, class_groups).items()
        },
        **{
            f"boundary_iou/{n}": float(v)
            for n, v in zip(names, boundary, strict=True)
            if not bool(v.isnan())
        },
    }


def _best(small: Tensor, prediction: SampledPrediction, true: Tensor) -> Tensor:
    """The labels (1, H, W) if the true labels (1, h, w) were predicted at the samples."""
    one_hot = _one_hot(small, prediction.logits.shape[1])
    return unwarp_labels(one_hot, prediction.grid, (true.shape[1], true.shape[2]))


def _one_hot(labels: Tensor, count: int) -> Tensor:
    """(b, k, h, w); all zeros for pixels without a class."""
    return F.one_hot(labels.long().clamp_max(count), count + 1)[..., :count].movedim(-1, 1).float()
