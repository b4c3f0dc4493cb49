import math

import pytest
import torch
from torchmetrics.functional.classification import (
    multiclass_confusion_matrix,
    multiclass_jaccard_index,
)

from deformsample.metrics import class_iou, iou_report, mean_iou, merged_iou


def test_iou_of_a_known_matrix() -> None:
    confusion = torch.tensor([[6, 2, 0], [1, 3, 0], [0, 0, 0]])
    iou = class_iou(confusion)
    assert iou[:2].tolist() == pytest.approx([6 / 9, 3 / 6])
    assert math.isnan(float(iou[2]))
    assert float(mean_iou(confusion)) == pytest.approx((6 / 9 + 3 / 6) / 2)


def test_iou_against_another_library() -> None:
    truth, predicted = torch.randint(0, 5, (2, 4000))
    truth[:100] = 255
    confusion = multiclass_confusion_matrix(predicted, truth, 5, ignore_index=255)
    expected = multiclass_jaccard_index(predicted, truth, 5, average=None, ignore_index=255)
    torch.testing.assert_close(class_iou(confusion).float(), expected)


def test_merged_classes_count_as_one() -> None:
    truth = torch.tensor([0, 1, 2, 2, 0, 1])
    predicted = torch.tensor([0, 2, 1, 0, 1, 1])
    confusion = multiclass_confusion_matrix(predicted, truth, 3)
    both = merged_iou(confusion, [1, 2])
    assert float(both) == pytest.approx(3 / 5)


def test_report_leaves_out_classes_that_never_occur() -> None:
    confusion = torch.tensor([[5, 0, 0], [1, 4, 0], [0, 0, 0]])
    report = iou_report(confusion, ["a", "b", "c"], {"ab": ["a", "b"]})
    assert set(report) == {"a", "b", "ab"}
    assert float(report["ab"]) == 1.0
