"""Intersection over union, from counts over the whole data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from deformsample.conventions import IGNORE_INDEX


def class_iou(confusion: Tensor) -> Tensor:
    """Intersection over union of every class (Everingham et al. 2010).

    Args:
        confusion: (k, k) counts, rows are true classes, columns predicted ones.

    Returns:
        (k,) float64 in [0, 1]; NaN for a class that neither occurs nor is predicted.

    Example:
        >>> class_iou(torch.tensor([[3, 1], [0, 4]])).tolist()
        [0.75, 0.8]
    """
    confusion = confusion.double()
    hit = confusion.diagonal()
    return hit / (confusion.sum(dim=0) + confusion.sum(dim=1) - hit)


def mean_iou(confusion: Tensor) -> Tensor:
    """Mean of :func:`class_iou` over the classes that occur or are predicted, float64.

    Example:
        >>> round(float(mean_iou(torch.tensor([[3, 1], [0, 4]]))), 3)
        0.775
    """
    return class_iou(confusion).nanmean()


def group_iou(confusion: Tensor, members: Sequence[int]) -> Tensor:
    """Intersection over union of a group of classes, float64.

    Example:
        >>> counts = torch.tensor([[8, 0, 0], [0, 3, 1], [1, 1, 3]])
        >>> round(float(group_iou(counts, [1, 2])), 3)  # confusion within the group does not count
        0.889
    """
    confusion = confusion.double()
    chosen = torch.zeros(len(confusion), dtype=torch.bool, device=confusion.device)
    chosen[list(members)] = True
    hit = confusion[chosen][:, chosen].sum()
    return hit / (confusion[chosen].sum() + confusion[:, chosen].sum() - hit)


def iou_report(
    confusion: Tensor, names: Sequence[str], class_groups: Mapping[str, Sequence[str]]
) -> dict[str, Tensor]:
    """IoU of classes and groups by name, without those that never occur.

    Args:
        confusion: (k, k) counts.
        names: names of the k classes.
        class_groups: groups of classes that are treated as one class, by name.
    """
    report = dict(zip(names, class_iou(confusion), strict=True))
    for name, members in class_groups.items():
        report[name] = group_iou(confusion, [names.index(member) for member in members])
    return {name: value for name, value in report.items() if not bool(value.isnan())}


def boundary_counts(
    predicted: npt.NDArray[np.uint8],
    true: npt.NDArray[np.uint8],
    *,
    num_classes: int,
    width: int,
    ignore_index: int,
) -> Tensor:
    """Intersection and union of the boundary bands of every class in one image.

    The band of a class is the part of its mask within ``width`` pixels of the boundary of the mask;
    the image border is no boundary (Cheng et al. 2021, "Boundary IoU"). The boundary IoU is the
    ratio of both, summed over the images of a data set.

    Args:
        predicted: (h, w) class ids.
        true: (h, w) class ids.
        num_classes: number of classes.
        width: width of the band in pixels; 2 % of the image diagonal in the paper.
        ignore_index: id of ignored pixels in ``true``.

    Returns:
        (2, num_classes) int64.

    Example:
        >>> true = np.zeros((20, 20), np.uint8)
        >>> true[:, 10:] = 1
        >>> boundary_counts(true, true, num_classes=2, width=1, ignore_index=255).tolist()
        [[20, 20], [20, 20]]
    """
    valid = true != ignore_index
    counts = torch.zeros(2, num_classes, dtype=torch.long)
    for class_id in range(num_classes):
        bands = (_band((ids == class_id) & valid, width) & valid for ids in (predicted, true))
        predicted_band, true_band = bands
        counts[0, class_id] = int(np.count_nonzero(predicted_band & true_band))
        counts[1, class_id] = int(np.count_nonzero(predicted_band | true_band))
    return counts


def _band(mask: npt.NDArray[np.bool_], width: int) -> npt.NDArray[np.bool_]:
    inside = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=width)
    band: npt.NDArray[np.bool_] = mask & (inside == 0)
    return band


def confusion(predicted: Tensor, true: Tensor, count: int) -> Tensor:
    """Pixel counts (count, count) by true and predicted class, for maps of equal shape.

    Example:
        >>> confusion(torch.tensor([0, 1, 1, 1]), torch.tensor([0, 0, 1, 255]), 2).tolist()
        [[1, 1], [0, 1]]
    """
    return multiclass_confusion_matrix(
        predicted.long().flatten(), true.long().flatten(), count, ignore_index=IGNORE_INDEX
    )
