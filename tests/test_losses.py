import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from deformsample.errors import ArgumentError
from deformsample.geometry import (
    boundary_density,
    identity_grid,
    sample_areas,
    sampling_grid,
    softmax_density,
    warp_labels,
)
from deformsample.losses import (
    IGNORE_INDEX,
    EdgeDivergence,
    EdgeSquaredError,
    EdgeTerm,
    WarpedLoss,
    cross_entropy,
)
from deformsample.segmenters import Prediction

NONE = torch.zeros(2, 4, 4)  # errors, which edge terms do not look at


def example(*, requires_grad: bool = False) -> tuple[Prediction, Tensor, Tensor]:
    scores = torch.randn(2, 1, 6, 8, requires_grad=requires_grad)
    density = softmax_density(scores)
    grid = sampling_grid(density, (6, 8), 2.0)
    labels = torch.randint(0, 3, (2, 30, 40), dtype=torch.uint8)
    labels[:, :10, :10] = IGNORE_INDEX
    logits = torch.randn(2, 3, 6, 8)
    return Prediction(logits, grid, density, torch.rand(2, 3, 6, 8)), labels, scores


def test_cross_entropy_is_torchs_own_without_areas() -> None:
    logits = torch.randn(2, 3, 5, 7)
    labels = torch.randint(0, 3, (2, 5, 7))
    labels[0, 0] = IGNORE_INDEX
    weights = torch.tensor([1.0, 2.0, 0.5])
    for w in (None, weights):
        expected = F.cross_entropy(logits, labels, w, ignore_index=IGNORE_INDEX)
        torch.testing.assert_close(cross_entropy(logits, labels, w, None)[0], expected)


def test_area_weights_make_the_mean_one_over_the_image() -> None:
    prediction, labels, _ = example()
    small = warp_labels(labels, prediction.grid).long()
    areas = sample_areas(prediction.grid)
    total = weight = 0.0
    for n in range(2):
        for i in range(6):
            for j in range(8):
                if small[n, i, j] == IGNORE_INDEX:
                    continue
                log_p = prediction.logits[n, :, i, j].log_softmax(dim=0)[small[n, i, j]]
                total -= float(log_p * areas[n, i, j])
                weight += float(areas[n, i, j])
    loss = WarpedLoss(area_weighted=True)(prediction, labels, 0.0)["segmentation"]
    assert float(loss) == pytest.approx(total / weight, rel=1e-5)


def test_no_gradient_flows_through_areas_and_labels() -> None:
    prediction, labels, scores = example(requires_grad=True)
    loss = WarpedLoss(area_weighted=True)(prediction, labels, 0.0)["segmentation"]
    assert not loss.requires_grad
    assert scores.grad is None


def test_all_ignored_is_zero_and_not_nan() -> None:
    prediction, labels, _ = example()
    loss = WarpedLoss(class_weights=[1, 2, 3])(
        prediction, torch.full_like(labels, IGNORE_INDEX), 0.0
    )
    assert float(loss["segmentation"]) == 0


@pytest.mark.parametrize("term", [EdgeDivergence(), EdgeSquaredError()])
def test_density_terms_are_zero_at_their_target_and_lead_there(term: EdgeTerm) -> None:
    _, labels, _ = example()
    target = boundary_density(
        labels, (6, 8), blur=term.blur, floor=term.floor, ignore_index=IGNORE_INDEX
    )
    assert float(term(target, labels, NONE, 0.0)) == pytest.approx(0, abs=1e-5)
    scores = torch.randn(2, 1, 6, 8, requires_grad=True)
    before = term(softmax_density(scores), labels, NONE, 0.0)
    (gradient,) = torch.autograd.grad(before, scores)
    step = 0.1 * gradient / gradient.norm()
    assert term(softmax_density(scores - step), labels, NONE, 0.0) < before


@pytest.mark.parametrize("term", [EdgeDivergence(), EdgeSquaredError()])
@pytest.mark.parametrize("value", [0, IGNORE_INDEX])
def test_constant_labels_have_a_finite_loss_and_gradient(term: EdgeTerm, value: int) -> None:
    scores = torch.randn(1, 1, 6, 8, requires_grad=True)
    loss = term(
        softmax_density(scores), torch.full((1, 30, 40), value, dtype=torch.uint8), NONE, 0.0
    )
    loss.backward()
    assert bool(loss.isfinite())
    assert scores.grad is not None
    assert bool(scores.grad.isfinite().all())


def test_terms_are_reported_by_name() -> None:
    prediction, labels, _ = example()
    assert set(WarpedLoss(density=EdgeDivergence())(prediction, labels, 0.0)) == {
        "segmentation",
        "density",
    }


def test_wrong_class_weights_are_named() -> None:
    prediction, labels, _ = example()
    with pytest.raises(ArgumentError, match="`class_weights` for 3 classes, but got 2"):
        WarpedLoss(class_weights=[1, 2])(prediction, labels, 0.0)


def test_loss_on_the_identity_reads_the_labels_at_the_samples() -> None:
    labels = torch.arange(3, dtype=torch.uint8).repeat(1, 5, 4)
    grid = identity_grid((5, 12), torch.zeros(1))
    logits = F.one_hot(labels.long(), 3).movedim(-1, 1).float() * 50
    prediction = Prediction(logits, grid, torch.ones(1, 1, 5, 12) / 60, torch.zeros(1, 3, 5, 12))
    assert float(WarpedLoss()(prediction, labels, 0.0)["segmentation"]) == pytest.approx(
        0, abs=1e-6
    )
