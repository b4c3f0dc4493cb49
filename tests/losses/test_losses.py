import math
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from segmentation_models_pytorch import losses as smp_losses
from torch import Tensor
from torch.nn import functional as F

from deformsample.conventions import IGNORE_INDEX, Size
from deformsample.errors import ArgumentError
from deformsample.geometry import (
    ErrorCurves,
    boundary_density,
    identity_grid,
    resize_grid,
    sampling_grid,
    softmax_density,
    unwarp,
)
from deformsample.losses import (
    BoundaryKLLoss,
    BoundaryLoss,
    BoundaryMSELoss,
    EdgeGridLoss,
    ErrorCurveLoss,
    FullResolutionLoss,
    LovaszLoss,
    NegativeLogDice,
    PixelLoss,
    TileLoss,
    WarpedLoss,
    cross_entropy,
)
from deformsample.losses.full_resolution import supervision_stride
from deformsample.networks import DeformationNet, UNet
from deformsample.samplers import (
    Downsampler,
    EdgeOptimalOracle,
    ErrorCurveSampler,
    LearnedSampler,
    Sampler,
)
from deformsample.samplers.downsampler import Downsampled
from deformsample.segmenters import SampledPrediction, SampledSegmenter, TiledSegmenter
from deformsample.training.segmentation_task import SegmentationTask
from tests.helpers import compute_as_on_a_gpu, naming


def predicted(logits: Tensor, grid: Tensor, density: Tensor, size: Size) -> SampledPrediction:
    image = torch.zeros(len(logits), 3, *size)
    return SampledPrediction(logits, grid, Downsampled(image, resize_grid(grid, size), density))


def of_density(density: Tensor) -> Downsampled:
    """What a sampler of a density did, for terms that look at nothing else."""
    return Downsampled(torch.zeros(1), torch.zeros(1), density)


def example(*, requires_grad: bool = False) -> tuple[SampledPrediction, Tensor, Tensor]:
    scores = torch.randn(2, 1, 6, 8, requires_grad=requires_grad)
    density = softmax_density(scores)
    grid = sampling_grid(density, (6, 8), 2.0)
    labels = torch.randint(0, 3, (2, 30, 40), dtype=torch.uint8)
    labels[:, :10, :10] = IGNORE_INDEX
    logits = torch.randn(2, 3, 6, 8)
    return predicted(logits, grid, density, (6, 8)), labels, scores


def test_cross_entropy_is_torchs_own_without_areas() -> None:
    logits = torch.randn(2, 3, 5, 7)
    labels = torch.randint(0, 3, (2, 5, 7))
    labels[0, 0] = IGNORE_INDEX
    weights = torch.tensor([1.0, 2.0, 0.5])
    for w in (None, weights):
        expected = F.cross_entropy(logits, labels, w, ignore_index=IGNORE_INDEX)
        torch.testing.assert_close(cross_entropy(logits, labels, w)[0], expected)


def test_no_gradient_flows_through_labels() -> None:
    prediction, labels, scores = example(requires_grad=True)
    loss = WarpedLoss()(prediction, labels, 0.0)["segmentation"]
    assert not loss.requires_grad
    assert scores.grad is None


def test_all_ignored_is_zero_and_not_nan() -> None:
    prediction, labels, _ = example()
    loss = WarpedLoss(class_weights=[1, 2, 3])(
        prediction, torch.full_like(labels, IGNORE_INDEX), 0.0
    )
    assert float(loss["segmentation"]) == 0


@pytest.mark.parametrize("term", [BoundaryKLLoss(), BoundaryMSELoss()])
def test_density_terms_are_zero_at_their_target_and_lead_there(term: BoundaryLoss) -> None:
    _, labels, _ = example()
    target = boundary_density(
        labels, (6, 8), blur=term.blur, floor=term.floor, ignore_index=IGNORE_INDEX
    )
    assert float(term(of_density(target), labels, None, 0.0)) == pytest.approx(0, abs=1e-5)
    scores = torch.randn(2, 1, 6, 8, requires_grad=True)
    before = term(of_density(softmax_density(scores)), labels, None, 0.0)
    (gradient,) = torch.autograd.grad(before, scores)
    step = 0.1 * gradient / gradient.norm()
    assert term(of_density(softmax_density(scores - step)), labels, None, 0.0) < before


@pytest.mark.parametrize("term", [BoundaryKLLoss(), BoundaryMSELoss()])
@pytest.mark.parametrize("value", [0, IGNORE_INDEX])
def test_constant_labels_have_a_finite_loss_and_gradient(term: BoundaryLoss, value: int) -> None:
    scores = torch.randn(1, 1, 6, 8, requires_grad=True)
    labels = torch.full((1, 30, 40), value, dtype=torch.uint8)
    loss = term(of_density(softmax_density(scores)), labels, None, 0.0)
    loss.backward()
    assert bool(loss.isfinite())
    assert scores.grad is not None
    assert bool(scores.grad.isfinite().all())


@pytest.mark.parametrize("ids", [[1, 1], [1, 255], [255, 255]])
def test_labels_that_do_not_count_have_a_loss_and_gradient_of_zero(ids: list[int]) -> None:
    logits = torch.zeros(1, 2, 1, 2, requires_grad=True)
    terms, _ = PixelLoss([1.0, 0.0])(logits, torch.tensor([[ids]]))
    loss = terms["segmentation"]
    loss.backward()
    assert float(loss) == 0
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros(1, 2, 1, 2))


def test_terms_are_reported_by_name() -> None:
    prediction, labels, _ = example()
    assert set(WarpedLoss(density=BoundaryKLLoss())(prediction, labels, 0.0)) == {
        "segmentation",
        "density",
    }


def test_wrong_class_weights_are_named() -> None:
    prediction, labels, _ = example()
    with pytest.raises(ArgumentError, match=naming("class_weights", 3, 2)):
        WarpedLoss(class_weights=[1, 2])(prediction, labels, 0.0)


def test_loss_on_the_identity_reads_the_labels_at_the_samples() -> None:
    labels = torch.arange(3, dtype=torch.uint8).repeat(1, 5, 4)
    grid = identity_grid((5, 12), torch.zeros(1))
    logits = F.one_hot(labels.long(), 3).movedim(-1, 1).float() * 50
    prediction = predicted(logits, grid, torch.ones(1, 1, 5, 12) / 60, (5, 12))
    assert float(WarpedLoss()(prediction, labels, 0.0)["segmentation"]) == pytest.approx(
        0, abs=1e-6
    )


def test_full_resolution_loss_is_that_of_the_unwarped_logits() -> None:
    prediction, labels, _ = example()
    loss = FullResolutionLoss(class_weights=[1, 2, 3], points_per_sample=2.0).eval()
    step = supervision_stride((30, 40), (6, 8), 2.0)
    assert step == 2  # 5 pixels per sample and side, to the nearest
    full = unwarp(prediction.logits, prediction.grid, (30, 40))[:, :, 1::2, 1::2]
    expected = F.cross_entropy(
        full, labels[:, 1::2, 1::2].long(), torch.tensor([1.0, 2, 3]), ignore_index=IGNORE_INDEX
    )
    actual = loss(prediction, labels, 0.0)["segmentation"]
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_full_resolution_loss_moves_the_samples_to_the_boundary() -> None:
    """A sample of each class on both sides of an edge: the crossing must come to lie on it."""
    labels = torch.zeros(1, 9, 41, dtype=torch.uint8)
    labels[:, :, 28:] = 1
    x = torch.tensor([-1.0, -0.4, 0.2, 1.0])
    shift = torch.zeros(1, requires_grad=True)
    loss = FullResolutionLoss(points_per_sample=20.0).eval()
    optimizer = torch.optim.Adam([shift], lr=0.02)
    logits = torch.tensor([[6.0, 6, -6, -6], [-6, -6, 6, 6]])[None, :, None].expand(1, 2, 3, 4)
    for _ in range(80):
        moved = x + shift * torch.tensor([0.0, 1, 1, 0])
        y = torch.tensor([-1.0, 0, 1])
        grid = torch.stack(torch.meshgrid(moved, y, indexing="xy"), dim=-1)[None]
        density = torch.full((1, 1, 3, 4), 1 / 12)
        prediction = predicted(logits, grid, density, (3, 4))
        optimizer.zero_grad()
        loss(prediction, labels, 0.0)["segmentation"].backward()
        optimizer.step()
    crossing = float(moved[1] + moved[2]) / 2
    assert (crossing + 1) * 20 == pytest.approx(27.5, abs=0.3)  # between pixels 27 and 28


def test_gradient_to_the_grid_can_be_left_out() -> None:
    prediction, labels, scores = example(requires_grad=True)
    logits = prediction.logits.requires_grad_()
    for grid_gradient in (True, False):
        loss = FullResolutionLoss(grid_gradient=grid_gradient)
        scores.grad = None
        loss(prediction._replace(logits=logits), labels, 0.0)["segmentation"].backward(
            retain_graph=True
        )
        assert (scores.grad is not None) == grid_gradient


def test_supervision_grid_starts_anywhere_in_training_only() -> None:
    prediction, labels, _ = example()
    loss = FullResolutionLoss(points_per_sample=1.0)
    values = {float(loss.train()(prediction, labels, 0.0)["segmentation"]) for _ in range(10)}
    assert len(values) > 1
    values = {float(loss.eval()(prediction, labels, 0.0)["segmentation"]) for _ in range(3)}
    assert len(values) == 1


def test_a_second_loss_is_added_with_its_weight() -> None:
    prediction, labels, _ = example()
    lovasz = LovaszLoss()
    plain = FullResolutionLoss().eval()(prediction, labels, 0.0)["segmentation"]
    both = [
        FullResolutionLoss(aux_loss=lovasz, aux_weight=w).eval()(prediction, labels, 0.0)
        for w in (1.0, 3.0)
    ]
    for terms in both:
        torch.testing.assert_close(terms["segmentation"], plain)
    added = [float(terms["auxiliary"]) for terms in both]
    assert added[0] > 0.1
    assert added[1] == pytest.approx(3 * added[0], rel=1e-4)


def test_weight_of_a_density_term_follows_its_schedule() -> None:
    prediction, labels, _ = example()
    term = BoundaryKLLoss(weight=1.0, final_weight=0.0)
    values = [float(term(prediction.sampled, labels, None, p)) for p in (0.0, 0.25, 1.0)]
    assert values[0] > 0
    assert values[1] == pytest.approx(0.75 * values[0])
    assert values[2] == 0


def test_errors_at_the_samples_are_no_errors_of_the_image() -> None:
    with pytest.raises(ArgumentError, match="ErrorCurveLoss"):
        WarpedLoss(density=ErrorCurveLoss())


def test_boundaries_of_a_class_can_count_more() -> None:
    labels = torch.zeros(1, 40, 60, dtype=torch.uint8)
    labels[:, 5:10, 5:10] = 1
    labels[:, 25:30, 45:50] = 2
    options: list[dict[str, Any]] = [
        {},
        {"class_weights": [1, 1, 9]},
        {"class_weights": "balanced"},
        {"important": {"c": 9}},
    ]
    corner = (..., slice(4, 7), slice(8, 11))
    shares = []
    for given in options:
        term = BoundaryKLLoss(**given)
        term.prepare(["a", "b", "c"], lambda: [0.98, 0.01, 0.0001])
        scores = torch.zeros(1, 1, 8, 12, requires_grad=True)
        term(of_density(softmax_density(scores)), labels, None, 0.0).backward()
        assert scores.grad is not None
        # The gradient is the density, which is flat, less the target.
        target = 1 / 96 - scores.grad
        shares.append(float(target[corner].sum()))
    assert all(share > 1.5 * shares[0] for share in shares[1:])


def test_classes_that_count_are_known_and_prepared() -> None:
    labels = torch.zeros(1, 40, 60, dtype=torch.uint8)
    sampled = of_density(torch.ones(1, 1, 8, 12) / 96)
    with pytest.raises(ArgumentError, match=naming("important", "'b'", "'x'")):
        BoundaryKLLoss(important={"x": 2}).prepare(["a", "b"], lambda: [0.5, 0.5])
    with pytest.raises(ArgumentError, match=naming("class_weights", 2, 3)):
        BoundaryKLLoss(class_weights=[1, 2, 3]).prepare(["a", "b"], lambda: [0.5, 0.5])
    with pytest.raises(ArgumentError, match=naming("BoundaryKLLoss.prepare")):
        BoundaryKLLoss(class_weights="balanced")(sampled, labels, None, 0.0)


def test_lovasz_beside_the_cross_entropy_is_zero_where_no_pixel_counts() -> None:
    prediction, labels, scores = example(requires_grad=True)
    lovasz = LovaszLoss()
    plain = FullResolutionLoss().eval()(prediction, labels, 0.0)["segmentation"]
    both = FullResolutionLoss(aux_loss=lovasz).eval()(prediction, labels, 0.0)
    torch.testing.assert_close(both["segmentation"], plain)
    assert 0 < float(both["auxiliary"]) < 1
    terms = FullResolutionLoss(aux_loss=lovasz)(
        prediction, torch.full_like(labels, IGNORE_INDEX), 0.0
    )
    nothing = terms["segmentation"] + terms["auxiliary"]
    assert float(nothing) == 0
    nothing.backward()
    assert scores.grad is not None
    assert not bool(scores.grad.any())


@pytest.mark.parametrize("value", [0, IGNORE_INDEX])
@pytest.mark.parametrize(
    "loss",
    [
        WarpedLoss(class_weights=[1, 0, 2], density=BoundaryKLLoss()),
        FullResolutionLoss(density=BoundaryMSELoss(), aux_loss=NegativeLogDice()),
        EdgeGridLoss((4, 5), 1.0),
    ],
)
def test_labels_of_one_value_have_finite_losses_and_gradients(
    loss: torch.nn.Module, value: int
) -> None:
    prediction, labels, scores = example(requires_grad=True)
    logits = prediction.logits.requires_grad_()
    terms = loss(prediction, torch.full_like(labels, value), 0.5)
    total = torch.stack(list(terms.values())).sum()
    gradients = torch.autograd.grad(total, [scores, logits], allow_unused=True)
    assert bool(total.isfinite())
    assert all(g is None or bool(g.isfinite().all()) for g in gradients)


def test_edge_grid_loss_is_zero_at_its_target() -> None:
    labels = torch.zeros(1, 30, 40, dtype=torch.uint8)
    labels[:, 10:20, 10:30] = 1
    _, grid, _ = EdgeOptimalOracle((4, 5), 1.0).from_labels(labels, (6, 8), (12, 16))
    best = predicted(torch.zeros(1, 2, 12, 16), grid, torch.ones(1, 1, 6, 8) / 48, (12, 16))
    loss = EdgeGridLoss((4, 5), 1.0)
    assert float(loss(best, labels, 0.0)["grid"]) == pytest.approx(0, abs=1e-10)
    uniform = predicted(best.logits, identity_grid((12, 16), grid), best.sampled.density, (12, 16))
    assert float(loss(uniform, labels, 0.0)["grid"]) > 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make_sampler", "loss"),
    [
        (
            lambda: LearnedSampler(DeformationNet((4,))),
            FullResolutionLoss(aux_loss=LovaszLoss(), density=BoundaryKLLoss(0.1)),
        ),
        (
            lambda: ErrorCurveSampler(UNet(2, (4,))),
            FullResolutionLoss(grid_gradient=False, density=ErrorCurveLoss()),
        ),
    ],
    ids=["boundaries", "error curves"],
)
def test_a_training_step_is_one_graph(
    make_sampler: Callable[[], Sampler], loss: FullResolutionLoss
) -> None:
    loss.training = False  # a fixed start of the supervision grid
    # Made here, with seeded weights: at edges of triangles the gradient to the grid is not unique.
    segmenter = SampledSegmenter(
        Downsampler(make_sampler(), (8, 12), sample_gradient=False), UNet(3, (4, 4))
    )
    state = deepcopy(loss.state_dict())
    image = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    labels = torch.randint(0, 3, (2, 64, 96), dtype=torch.uint8)

    def step() -> Tensor:
        return torch.stack(list(loss(segmenter(image), labels, 0.0).values())).sum()

    gradients = []
    for run in (step, torch.compile(step, backend="aot_eager", fullgraph=True)):
        torch.manual_seed(1)
        segmenter.zero_grad()
        loss.load_state_dict(state)
        run().backward()
        gradients.append([parameter.grad for parameter in segmenter.parameters()])
    for plain, compiled in zip(*gradients, strict=True):
        assert plain is not None
        torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-6)


# What sees every pixel


def test_negative_log_dice_is_that_of_the_paper() -> None:
    likely = torch.tensor([[0.9, 0.2, 0.6], [0.3, 0.5, 0.8]], dtype=torch.float64)
    true = torch.tensor([[1, 0, 1], [255, 0, 1]])
    logits = torch.stack((torch.log(1 - likely), torch.log(likely)))[None]
    both = 0.9 + 0.6 + 0.8
    expected = -math.log((2 * both + 1) / (both + 0.2 + 0.5 + 3 + 1))
    assert float(NegativeLogDice()(logits, true[None])) == pytest.approx(expected)
    whole = (2 * both + 0.5) / (both + 0.2 + 0.5 + 3 + 0.5)
    assert float(NegativeLogDice(0.5)(logits, true[None])) == pytest.approx(-math.log(whole))


def test_negative_log_dice_is_the_mean_over_foreground_classes() -> None:
    logits = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    labels = torch.randint(0, 3, (2, 5, 4))
    probabilities = logits.softmax(dim=1)
    terms = []
    for k in (1, 2):
        p, t = probabilities[:, k], (labels == k).double()
        terms.append(-torch.log((2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)))
    torch.testing.assert_close(NegativeLogDice()(logits, labels), torch.stack(terms).mean())


def test_negative_log_dice_has_a_gradient_and_bears_images_without_a_class() -> None:
    logits = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 2, (1, 3, 4))
    assert torch.autograd.gradcheck(lambda x: NegativeLogDice()(x, labels), logits)
    none = NegativeLogDice()(logits, torch.full((1, 3, 4), 255))
    assert float(none) == 0


def test_tile_loss_is_cross_entropy_and_the_extra_loss_at_the_pixels_of_the_tile() -> None:
    segmenter = TiledSegmenter(torch.nn.Conv2d(3, 2, 1), (6, 8)).train()
    labels = torch.randint(0, 2, (2, 20, 30), dtype=torch.uint8)
    labels[:, 3] = 255
    prediction = segmenter(torch.rand(2, 3, 20, 30))
    targets = prediction.targets(labels).long()
    entropy = F.cross_entropy(prediction.logits, targets, ignore_index=255)
    dice = NegativeLogDice()(prediction.logits, targets)
    plain = TileLoss()(prediction, labels, 0.5)
    assert list(plain) == ["segmentation"]
    torch.testing.assert_close(plain["segmentation"], entropy)
    both = TileLoss(aux_loss=NegativeLogDice(), aux_weight=2.0)(prediction, labels, 0.5)
    torch.testing.assert_close(both, {"segmentation": entropy, "auxiliary": 2 * dice})
    alone = TileLoss(aux_loss=NegativeLogDice(), cross_entropy_weight=0.0)(prediction, labels, 0.5)
    torch.testing.assert_close(alone, {"segmentation": 0 * entropy, "auxiliary": dice})


@pytest.mark.parametrize("loss", [FullResolutionLoss(), WarpedLoss(), EdgeGridLoss()])
def test_losses_that_need_a_grid_say_so(loss: torch.nn.Module) -> None:
    segmenter = TiledSegmenter(torch.nn.Conv2d(3, 2, 1), (6, 8))
    with pytest.raises(
        ArgumentError, match=naming(type(loss).__name__, "deformsample.losses.TileLoss")
    ):
        SegmentationTask(segmenter, loss, {"a": (0, 0, 0)}, torch.optim.AdamW)


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_the_lovasz_loss_is_that_of_another_library(
    seed: int, *, elsewhere: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(seed)
    classes = (2, 3, 11)[seed % 3]
    logits = torch.randn(2, classes, 13, 17, requires_grad=True)
    labels = torch.randint(0, classes, (2, 13, 17))
    labels[labels == seed % classes] = 0  # may lack a class
    labels[:, : 3 * (seed % 2)] = IGNORE_INDEX
    expected = smp_losses.LovaszLoss("multiclass", ignore_index=IGNORE_INDEX)(logits, labels)
    (gradient,) = torch.autograd.grad(expected, logits)
    if elsewhere:
        compute_as_on_a_gpu(monkeypatch)
    loss = LovaszLoss()(logits, labels)
    (found,) = torch.autograd.grad(loss, logits)
    if elsewhere:
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(found, gradient)
        assert float(LovaszLoss()(logits, torch.full_like(labels, IGNORE_INDEX))) == 0
    else:
        assert torch.equal(loss, expected)
        assert torch.equal(found, gradient)


@pytest.mark.parametrize("start", range(4))
def test_the_supervision_grid_of_other_devices_has_a_fixed_size(
    start: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    prediction, labels, scores = example(requires_grad=True)  # 30 x 40 pixels
    curves = ErrorCurves(scores, scores.exp())
    prediction = prediction._replace(sampled=prediction.sampled._replace(curves=curves))
    density = ErrorCurveLoss()
    loss = FullResolutionLoss(points_per_sample=1.2, density=density)
    monkeypatch.setattr(torch, "randint", lambda *_, **__: torch.tensor(start))
    expected = loss(prediction, labels, 0.0)
    density.mean_error.zero_()
    compute_as_on_a_gpu(monkeypatch)
    found = loss(prediction, labels, 0.0)
    assert expected.keys() == found.keys() == {"segmentation", "density"}
    for name, term in expected.items():
        torch.testing.assert_close(found[name], term)
