"""On a GPU, nothing of a training step is read by the host, which would stop the GPU.

The tensors of these tests only pretend to be on a GPU: they have no values, so that asking for one
is an error. A copy between host and GPU is an error too, unless it is asynchronous.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import deformsample
from deformsample.geometry import boundary_grid, gaussian, transport
from deformsample.segmenters import Segmenter
from deformsample.training.faults import NonFiniteGuard
from deformsample.training.segmentation_task import SegmentationTask
from tests.helpers import compute_as_on_a_gpu

CONFIGS = Path(deformsample.__file__).parents[1] / "configs" / "method"

METHODS = [
    "learned",
    "error_curves",
    "boundary_gaussian",
    "uniform",
    "separable",
    "edge_optimal",
    "edge_optimal_sampler",
    "learned_paper",
    "fixed",
]
FAST = ("learned", "uniform", "edge_optimal_sampler", "learned_paper")
CASES = [m if m in FAST else pytest.param(m, marks=pytest.mark.slow) for m in METHODS]


class AsynchronousCopies(TorchDispatchMode):
    """Refuses copies between devices for which the host waits."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        result = func(*args, **(kwargs or {}))
        tensors = [t for t in (*args, result) if isinstance(t, Tensor)]
        copies = func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
        if copies and len({t.device.type for t in tensors}) > 1:
            assert (kwargs or {}).get("non_blocking"), f"{func} between devices"
        return result


class Event:
    """Stands for an event of a GPU."""

    def record(self) -> None:
        pass

    def query(self) -> bool:
        return False


@contextmanager
def pretended_gpu() -> Iterator[None]:
    caches: Any = (boundary_grid._path_eigen, gaussian._reflected_gaussian, transport._cosines)
    for cache in caches:
        cache.cache_clear()
    with FakeTensorMode():
        yield
    for cache in caches:
        cache.cache_clear()


def method_task(method: str) -> SegmentationTask:
    """The task of a shipped method, with small networks."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_argument("--model.segmenter", type=Segmenter)
    parser.add_argument("--model.loss", type=torch.nn.Module)
    first, second = (f"--config={CONFIGS / name}.yaml" for name in ("learned", method))
    network = "--model.segmenter.init_args.network"
    options = [
        f"{network}=deformsample.networks.UNet",
        f"{network}.init_args.num_classes=3",
        f"{network}.init_args.widths=[4,8]",
        f"{network}.init_args.logit_upsampling=2",
        "--model.segmenter.init_args.downsampler.sampled_size=[16,24]",
    ]
    parsed = parser.parse_args([first, *options, second])
    model = parser.instantiate(parsed).model
    classes = {"a": (0, 0, 0), "b": (1, 1, 1), "c": (2, 2, 2)}
    task = SegmentationTask(model.segmenter, model.loss, classes, torch.optim.AdamW)
    task._progress = lambda: 0.5  # type: ignore[method-assign]  # without a trainer
    return task


def pretend(module: torch.nn.Module) -> None:
    """Replace all tensors of a module by ones that pretend to be on a GPU."""
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            like = torch.empty(parameter.shape, dtype=parameter.dtype, device="cuda")
            part._parameters[name] = torch.nn.Parameter(like, parameter.requires_grad)
        for name, buffer in part.named_buffers(recurse=False):
            part._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device="cuda")


def example() -> dict[str, Tensor]:
    labels = torch.randint(0, 3, (2, 4, 6), dtype=torch.uint8)
    labels = labels.repeat_interleave(16, 1).repeat_interleave(16, 2)
    labels[:, :5] = 255
    image = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    return {"image": image, "labels": labels, "index": torch.arange(2)}


def backward(loss: Tensor) -> None:
    """``loss.backward()`` without the engine of torch, which needs the driver of a GPU."""
    order: list[Any] = []
    seen = set()
    stack: list[tuple[Any, bool]] = [(loss.grad_fn, False)]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack += [(after, False) for after, _ in node.next_functions if after is not None]
    gradients: dict[Any, dict[int, Tensor]] = defaultdict(dict)
    gradients[loss.grad_fn][0] = torch.ones_like(loss)
    for node in reversed(order):
        given = gradients.pop(node, {})
        if not given:
            continue
        if hasattr(node, "variable"):
            node.variable.grad = given[0]
            continue
        results = node(*[given.get(number) for number in range(len(node._input_metadata))])
        results = results if isinstance(results, tuple) else (results,)
        for (after, number), gradient in zip(node.next_functions, results, strict=True):
            if after is None or gradient is None:
                continue
            expected = after._input_metadata[number]
            gradient = gradient.sum_to_size(expected.shape).to(expected.dtype)
            before = gradients[after].get(number)
            gradients[after][number] = gradient if before is None else before + gradient


@pytest.mark.parametrize("method", CASES)
def test_a_training_step_on_a_gpu_waits_for_nothing(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "Event", Event)
    trainer: Any = SimpleNamespace(global_step=3)
    task = method_task(method)
    with pretended_gpu():
        pretend(task)
        logged: dict[str, object] = {}
        monkeypatch.setattr(task, "log", lambda name, value, **_: logged.update({name: value}))
        batch = {name: value.to("cuda") for name, value in example().items()}
        optimizer = torch.optim.AdamW(task.parameters(), capturable=True)
        guard = NonFiniteGuard()
        guard.on_fit_start(trainer, task)

        def step(number: int) -> None:
            guard.on_train_batch_start(trainer, task, batch, number)
            loss = task.training_step(batch, number)
            optimizer.zero_grad()
            backward(loss)
            guard.on_before_optimizer_step(trainer, task, optimizer)
            optimizer.step()

        with torch.no_grad():
            task.training_step(batch, 0)  # creates cached constants
        with AsynchronousCopies():  # type: ignore[no-untyped-call]
            step(1)
    gradients = [p.grad for p in task.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.device.type == "cuda" for gradient in gradients)
    assert logged
    assert all(isinstance(value, Tensor) for value in logged.values())


@pytest.mark.parametrize("method", CASES)
def test_the_loss_on_a_gpu_is_that_on_a_cpu(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task, batch = method_task(method), example()
    task.loss.eval()  # a fixed start of the supervision grid
    losses = []
    for elsewhere in (False, True):
        if elsewhere:
            compute_as_on_a_gpu(monkeypatch)
        torch.manual_seed(1)
        _, terms = task.loss_of(batch)
        losses.append(torch.stack(list(terms.values())))
    # Nearest boundaries of a chamfer mask differ a little from exact ones.
    tolerance = 0.05 if method == "edge_optimal_sampler" else 1e-4
    torch.testing.assert_close(losses[1], losses[0], rtol=tolerance, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_the_forward_pass_and_the_loss_are_one_graph(method: str) -> None:
    torch._dynamo.reset()  # the number of graphs of a function is limited
    task, batch = method_task(method), example()

    def loss() -> Tensor:
        return torch.stack(list(task.loss_of(batch)[1].values())).sum()

    assert bool(torch.compile(loss, backend="eager", fullgraph=True)().isfinite())
