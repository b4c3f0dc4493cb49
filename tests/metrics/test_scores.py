"""Metrics of the scores of images."""

import math

import pytest
import torch

from deformsample.metrics.scores import ClassificationMetrics, RegressionMetrics

pytestmark = pytest.mark.filterwarnings("ignore:Metric .* will save all targets")


def test_accuracy_and_confusion_of_all_batches() -> None:
    metrics = ClassificationMetrics(["a", "b", "c"])
    scores = torch.tensor([[2.0, 1, 0], [0, 3, 1], [0, 3, 1], [0, 0, 9]])
    label = torch.tensor([0.0, 0, 1, 2])
    metrics.update(scores[:3], label[:3])
    metrics.update(scores[3:], label[3:])
    measured = metrics.compute()
    assert measured["accuracy"] == 3 / 4
    counts = {k: v.item() for k, v in measured.items() if k.startswith("confusion/") and v > 0}
    assert counts == {f"confusion/{x}": 1 for x in ("a/a", "a/b", "b/b", "c/c")}
    metrics.reset()
    metrics.update(scores[1:2], label[1:2])
    assert metrics.compute()["accuracy"] == 0


def test_auroc_is_the_share_of_pairs_in_order() -> None:
    metrics = ClassificationMetrics(["a", "b", "c"])
    scores, label = torch.randn(40, 3), torch.randint(3, (40,))
    metrics.update(scores, label)
    measured = metrics.compute()
    shares = []
    for number, name in enumerate(metrics.classes):
        own = scores.softmax(dim=1)[:, number]
        inside, outside = own[label == number], own[label != number]
        shares.append((inside[:, None] > outside).float().mean())
        torch.testing.assert_close(measured[f"auroc/{name}"], shares[-1])
    torch.testing.assert_close(measured["auroc"], torch.stack(shares).mean())


def test_a_class_without_images_has_no_curve(recwarn: pytest.WarningsRecorder) -> None:
    metrics = ClassificationMetrics(["a", "b", "c"])
    metrics.update(torch.tensor([[2.0, 1, 0], [0, 3, 1]]), torch.tensor([0, 1]))
    measured = metrics.compute()
    assert math.isnan(measured["auroc/c"])
    assert measured["auroc/a"] == measured["auroc/b"] == measured["auroc"] == 1
    assert not [x for x in recwarn if "samples in targets" in str(x.message)]


def test_spearman_looks_at_ranks_only() -> None:
    metrics = RegressionMetrics()
    label = torch.tensor([1.0, 2, 4, 3])
    metrics.update(label[:2, None].exp(), label[:2])
    metrics.update(label[2:, None].exp(), label[2:])
    assert metrics.compute()["spearman"] == pytest.approx(1)
    metrics.reset()
    metrics.update(torch.tensor([[1.0], [2], [3], [4]]), label)
    assert metrics.compute()["spearman"] == pytest.approx(0.8)  # 1 - 6 * 2 / (4 * 15)
