import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torchmetrics.functional.classification import (
    multiclass_confusion_matrix,
    multiclass_jaccard_index,
)

from deformsample.metrics.iou import boundary_counts, class_iou, group_iou, iou_report, mean_iou


def test_iou_of_a_known_matrix() -> None:
    confusion = torch.tensor([[6, 2, 0], [1, 3, 0], [0, 0, 0]])
    iou = class_iou(confusion)
    assert iou[:2].tolist() == pytest.approx([6 / 9, 3 / 6])
    assert math.isnan(float(iou[2]))
    assert float(mean_iou(confusion)) == pytest.approx((6 / 9 + 3 / 6) / 2)


def test_iou_against_another_library() -> None:
    ground_truth, predicted = torch.randint(0, 5, (2, 4000))
    ground_truth[:100] = 255
    confusion = multiclass_confusion_matrix(predicted, ground_truth, 5, ignore_index=255)
    expected = multiclass_jaccard_index(predicted, ground_truth, 5, average=None, ignore_index=255)
    torch.testing.assert_close(class_iou(confusion).float(), expected)


def test_a_group_of_classes_counts_as_one() -> None:
    ground_truth = torch.tensor([0, 1, 2, 2, 0, 1])
    predicted = torch.tensor([0, 2, 1, 0, 1, 1])
    confusion = multiclass_confusion_matrix(predicted, ground_truth, 3)
    both = group_iou(confusion, [1, 2])
    assert float(both) == pytest.approx(3 / 5)


def test_report_leaves_out_classes_that_never_occur() -> None:
    confusion = torch.tensor([[5, 0, 0], [1, 4, 0], [0, 0, 0]])
    report = iou_report(confusion, ["a", "b", "c"], {"ab": ["a", "b"]})
    assert set(report) == {"a", "b", "ab"}
    assert float(report["ab"]) == 1.0


def naive_band(mask: npt.NDArray[np.bool_], width: int) -> npt.NDArray[np.bool_]:
    """Pixels of a mask with a pixel outside of it at most ``width`` rows and columns away."""
    band = np.zeros_like(mask)
    height, length = mask.shape
    for i, j in np.argwhere(mask):
        rows = slice(max(0, i - width), min(height, i + width + 1))
        columns = slice(max(0, j - width), min(length, j + width + 1))
        band[i, j] = not mask[rows, columns].all()
    return band


@pytest.mark.parametrize("width", [1, 3])
def test_boundary_counts_against_a_naive_loop(width: int) -> None:
    random = np.random.default_rng(0)
    true = (random.random((30, 40)) > 0.02).astype(np.uint8) * 2
    true[10:22, 5:30] = 1
    predicted = np.roll(true, 2, axis=1)
    true[0, :9] = 255
    counts = boundary_counts(predicted, true, num_classes=3, width=width, ignore_index=255)
    valid = true != 255
    for k in range(3):
        ours, theirs = (naive_band((ids == k) & valid, width) & valid for ids in (predicted, true))
        assert counts[:, k].tolist() == [(ours & theirs).sum(), (ours | theirs).sum()]


def test_boundary_iou_of_a_perfect_prediction_is_one() -> None:
    true = np.zeros((30, 40), dtype=np.uint8)
    true[10:20, 10:20] = 1
    hit, union = boundary_counts(true, true, num_classes=2, width=2, ignore_index=255)
    assert torch.equal(hit, union)
    assert int(hit[1]) == 100 - 36  # a square of 10 without its inner square of 6
