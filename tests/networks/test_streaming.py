import copy
from collections.abc import Callable, Iterator

import pytest
import timm
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from deformsample.errors import ArgumentError
from deformsample.networks import Streamed
from deformsample.networks.receptive import Window, clip, cut, divide
from tests.helpers import naming


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Maps this small are slower on two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Residual(nn.Module):
    """What it does, plus a shortcut."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        z: Tensor = self.shortcut(x)
        return y + z


class Forked(nn.Module):
    def __init__(self, last: Callable[[Tensor, Tensor], object]) -> None:
        super().__init__()
        self.convolution, self.last = nn.Conv2d(3, 3, 3), last

    def forward(self, x: Tensor) -> object:
        return self.last(x, self.convolution(x))


sides = st.tuples(st.integers(1, 4), st.integers(1, 4))
steps = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def convolutions(draw: st.DrawFn, before: int, after: int) -> nn.Module:
    groups = draw(st.sampled_from([g for g in (1, 2) if before % g == 0 and after % g == 0]))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    same = draw(st.booleans())
    stride = (1, 1) if same else draw(steps)
    padding = draw(st.sampled_from(["same", "valid"])) if same else draw(steps)
    return nn.Conv2d(before, after, draw(sides), stride, padding, dilation, groups, not same)


@st.composite
def pools(draw: st.DrawFn) -> nn.Module:
    kernel = draw(sides)
    padding = draw(st.tuples(*(st.integers(0, k // 2) for k in kernel)))
    if draw(st.booleans()):
        return nn.MaxPool2d(kernel, draw(steps), padding, draw(st.integers(1, 2)))
    return nn.AvgPool2d(kernel, draw(steps), padding)


@st.composite
def residuals(draw: st.DrawFn, channels: int) -> nn.Module:
    """Branches of different fields, and of a stride."""
    stride = draw(steps)
    body = nn.Sequential(
        nn.Conv2d(channels, channels, 3, stride, 1),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, 1, 1),
    )
    shortcut = nn.Identity() if stride == (1, 1) else nn.Conv2d(channels, channels, 1, stride)
    return Residual(body, shortcut)


@st.composite
def bodies(draw: st.DrawFn) -> nn.Module:
    layers: list[nn.Module] = []
    channels = 3
    for _ in range(draw(st.integers(1, 4))):
        after = draw(st.sampled_from([2, 3, 4]))
        layers.append(draw(convolutions(channels, after)))
        channels = after
        extra = draw(st.sampled_from(["norm", "relu", "gelu", "pool", "residual"]))
        if extra == "norm":
            layers.append(nn.BatchNorm2d(channels))
        elif extra == "pool":
            layers.append(draw(pools()))
        elif extra == "residual":
            layers.append(draw(residuals(channels)))
        else:
            layers.append(nn.ReLU(inplace=True) if extra == "relu" else nn.GELU())
    cut = draw(st.integers(0, len(layers)))
    return nn.Sequential(nn.Sequential(*layers[:cut]), *layers[cut:])


def prepared(body: nn.Module) -> nn.Module:
    """In float64, with norms that do something."""
    torch.manual_seed(0)
    for layer in body.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for value in (layer.running_mean, layer.running_var, layer.weight, layer.bias):
                assert value is not None
                nn.init.uniform_(value, 0.5, 1.5)
    return body.double().eval()


def assert_streams(body: nn.Module, tile: int, size: tuple[int, int], batch: int = 2) -> int:
    """Features and all gradients equal those of the whole; the number of tiles."""
    prepared(body)
    image = torch.randn(batch, 3, *size, dtype=torch.float64, requires_grad=True)
    streamed = Streamed(body, tile)
    whole = body(image)
    features = streamed(image)
    torch.testing.assert_close(features, whole, rtol=1e-9, atol=1e-9)
    direction = torch.randn_like(whole)
    parameters = [image, *body.parameters()]
    expected = torch.autograd.grad(whole, parameters, direction)
    got = torch.autograd.grad(features, parameters, direction)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    rows, columns = (streamed._tiles(axis, streamed._sizes(size)) for axis in (0, 1))
    return len(rows) * len(columns)


def _works(body: nn.Module, image: Tensor) -> bool:
    """The image is not too small, and no window of a max pooling lies in the padding alone."""
    try:
        return bool(body(image).isfinite().all())
    except RuntimeError:
        return False


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(bodies(), st.integers(0, 12), st.integers(9, 47), st.integers(9, 47))
def test_random_networks_stream_exactly(
    body: nn.Module, spare: int, height: int, width: int
) -> None:
    prepared(body)
    assume(_works(body, torch.zeros(1, 3, height, width, dtype=torch.float64)))
    smallest = max(Streamed(body, 10_000).field)
    assert_streams(body, smallest + spare, (height, width))


def stack() -> nn.Module:
    """Odd kernels and strides, and padding inside."""
    return nn.Sequential(
        nn.Conv2d(3, 4, (5, 3), (2, 1), (2, 1)),
        nn.LeakyReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
        nn.Sequential(nn.Conv2d(4, 6, 3, 1, 2, 2), nn.BatchNorm2d(6), nn.ReLU()),
        nn.AvgPool2d(2, 2, 1, divisor_override=3),
        nn.Conv2d(6, 2, 3, padding="same"),
    )


@pytest.mark.parametrize("size", [(97, 131), (128, 64), (63, 200)])
def test_many_tiles_of_a_stack(size: tuple[int, int]) -> None:
    assert assert_streams(stack(), 59, size) > 15


def test_padding_as_wide_as_the_kernel_has_cells_that_see_no_image() -> None:
    body = nn.Sequential(nn.Conv2d(3, 2, 1, 1, 3), nn.Sigmoid(), nn.Conv2d(2, 2, 2, 3, 4))
    assert assert_streams(body, 5, (11, 17)) > 10


def test_a_map_may_be_added_to_itself() -> None:
    assert assert_streams(Forked(lambda _, y: y + y), 6, (9, 12)) == 6


def test_a_resnet_of_timm_streams_exactly() -> None:
    small = {"layers": (1, 2, 1, 1), "channels": (8, 8, 12, 16)}
    body = timm.create_model("resnet18", num_classes=0, global_pool="", **small)  # type: ignore[arg-type]
    assert assert_streams(body, 280, (203, 251), batch=1) >= 8


def test_field_and_stride_of_a_resnet() -> None:
    streamed = Streamed(timm.create_model("resnet18", num_classes=0, global_pool=""), 512)
    assert streamed.field == (435, 435)
    assert streamed.stride == (32, 32)


def test_a_classifier_trains_the_same_end_to_end() -> None:
    """Head, loss and two steps of an optimiser with momentum."""

    def train(wrap: Callable[[nn.Module], nn.Module]) -> Iterator[Tensor]:
        torch.manual_seed(1)
        body = prepared(stack())
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3)).double()
        model = nn.Sequential(wrap(body), head)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        image = torch.randn(2, 3, 90, 75, dtype=torch.float64)
        for _ in range(2):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(image), torch.tensor([0, 2]))
            loss.backward()
            optimizer.step()
            yield loss.detach()
        yield from (parameter.detach() for parameter in model.parameters())

    streamed, whole = list(train(lambda body: Streamed(body, 60))), list(train(lambda body: body))
    for got, expected in zip(streamed, whole, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


def test_bytes_are_prepared_part_by_part() -> None:
    body = prepared(stack())
    seen: list[tuple[int, ...]] = []

    def prepare(part: Tensor) -> Tensor:
        seen.append(tuple(part.shape[2:]))
        return part.double() / 255 - 0.5

    image = torch.randint(256, (1, 3, 150, 111), dtype=torch.uint8)
    features = Streamed(body, 60, prepare)(image)
    torch.testing.assert_close(features, body(prepare(image)), rtol=1e-9, atol=1e-9)
    assert max(max(size) for size in seen[:-1]) <= 60  # the last one is of the whole


def test_only_the_image_is_kept_between_the_passes() -> None:
    image = torch.randint(256, (1, 3, 200, 200), dtype=torch.uint8)
    kept: set[int] = set()

    def keep(saved: Tensor) -> Tensor:
        kept.add(saved.untyped_storage().data_ptr())
        return saved

    streamed = Streamed(stack().eval(), 60, lambda part: part / 255)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
        streamed(image)
    assert kept == {image.untyped_storage().data_ptr()}


def test_frozen_layers_get_no_gradient_and_the_rest_does() -> None:
    body = prepared(stack())
    first = next(body.parameters())
    first.requires_grad = False
    Streamed(body, 60)(torch.randn(1, 3, 80, 80, dtype=torch.float64)).sum().backward()
    assert first.grad is None
    assert all(p.grad is not None for p in [*body.parameters()][1:])


def test_a_copy_has_weights_of_its_own_under_the_same_names() -> None:
    streamed = Streamed(prepared(stack()), 60)
    other = copy.deepcopy(streamed)
    assert [*other.state_dict()] == [f"body.{name}" for name in streamed.body.state_dict()]
    image = torch.randn(1, 3, 70, 70, dtype=torch.float64)
    nn.init.zeros_(other.body[0].weight)  # type: ignore[index]
    assert not torch.equal(streamed(image), other(image))


def test_autocast_is_the_same_in_both_passes() -> None:
    body = stack().eval()
    image = torch.randn(1, 3, 80, 80)
    with torch.autocast("cpu", torch.bfloat16):
        features = Streamed(body, 60)(image)
        whole = body(image)
    assert features.dtype == whole.dtype == torch.bfloat16
    got = torch.autograd.grad(features.sum(), [*body.parameters()])
    for one, other in zip(got, torch.autograd.grad(whole.sum(), [*body.parameters()]), strict=True):
        torch.testing.assert_close(one, other, rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (nn.Sequential(nn.Conv2d(3, 3, 3), nn.GroupNorm(1, 3)), naming("`1`", "GroupNorm")),
        (nn.Sequential(nn.Conv2d(3, 3, 3, padding_mode="reflect")), naming("`0`", "'reflect'")),
        (nn.Sequential(nn.MaxPool2d(2, ceil_mode=True)), naming("`0`", "MaxPool2d", "ceil_mode")),
        (nn.Sequential(nn.MaxPool2d(2, return_indices=True)), "return_indices"),
        (nn.Sequential(nn.AvgPool2d(3, 2, 1, count_include_pad=False)), "count_include_pad"),
        (nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)), "track_running_stats"),
        (nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(3, 3, 3)), naming("`0`")),
        (Forked(lambda x, y: torch.cat((x, y))), naming("cat")),
        (Forked(lambda x, y: y if x.sum() > 0 else x), naming("control flow")),  # torch's word
        (Forked(lambda x, y: (x, y)), naming("body")),
    ],
)
def test_what_cannot_be_streamed_is_named(body: nn.Module, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Streamed(body, 64)


def test_a_tile_below_the_field_is_an_error() -> None:
    body = nn.Sequential(nn.Conv2d(3, 3, (3, 7)), nn.MaxPool2d(2))
    with pytest.raises(ArgumentError, match=naming("tile", 8, 7)):
        Streamed(body, 7)


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(3), nn.Dropout(0.5)])
def test_training_mode_is_an_error_where_it_depends_on_the_tiles(layer: nn.Module) -> None:
    streamed = Streamed(nn.Sequential(nn.Conv2d(3, 3, 3), layer), 16)
    with pytest.raises(ArgumentError, match=naming("`1`", "eval()")):
        streamed(torch.rand(1, 3, 20, 20))
    layer.eval()
    assert streamed(torch.rand(1, 3, 20, 20)).shape == (1, 3, 18, 18)


def test_images_that_do_not_fit_are_errors() -> None:
    streamed = Streamed(nn.Sequential(nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3)), 16)
    with pytest.raises(ArgumentError, match=naming("4 x 9", "`1`")):
        streamed(torch.rand(1, 3, 4, 9))
    with pytest.raises(ArgumentError, match=naming(torch.uint8, "prepare")):
        streamed(torch.zeros(1, 3, 20, 20, dtype=torch.uint8))
    uneven = Streamed(Forked(lambda x, y: x + y), 16)
    with pytest.raises(ArgumentError, match=naming((20, 20), (18, 18))):
        uneven(torch.rand(1, 3, 20, 20))


def test_windows_spans_and_parts_by_hand() -> None:
    window = Window(length=3, stride=2, before=1, after=1)
    assert window.outputs(7) == 4
    assert window.needed((0, 1)) == (-1, 2)
    assert window.needed((1, 4)) == (1, 8)
    assert clip((-1, 8), 7) == (0, 7)
    assert clip((-5, -2), 7) == (0, 1)
    assert clip((8, 9), 7) == (6, 7)
    assert divide(10, 4) == [(0, 3), (3, 6), (6, 10)]
    assert divide(4, 4) == [(0, 4)]


def test_cut_pads_only_outside_the_map() -> None:
    whole = torch.arange(12.0).reshape(1, 1, 3, 4)
    held = whole[:, :, 1:]  # rows 1 and 2 are at hand
    part = cut(held, ((1, 3), (0, 4)), ((2, 4), (-1, 2)), (3, 4), -1.0)
    assert part[0, 0].tolist() == [[-1, 8, 9], [-1, -1, -1]]
