"""The layers of a network in execution order."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import fx, nn

from deformsample.errors import ArgumentError
from deformsample.networks.receptive import Window, Windows, layer_windows


class Step(NamedTuple):
    """A layer, or the sum of two steps, in execution order."""

    layer: str | None
    """Name in the body; ``None`` for a sum."""

    inputs: Sequence[int]
    """Indices of the steps whose outputs are the inputs; 0 is the image, 1 the first step."""

    done: Sequence[int]
    """Inputs that no later step uses."""

    windows: Windows


def trace(body: nn.Module) -> list[Step]:
    """The layers of a network in execution order.

    Raises:
        ArgumentError: a layer, or an operation between layers, cannot be streamed.
    """
    try:
        traced = fx.symbolic_trace(body)
    except Exception as error:
        reason = str(error).split("\n")[0]
        raise ArgumentError(
            f"Cannot trace the `body`, which must do the same for every image: {reason}"
        ) from error
    traced.graph.eliminate_dead_code()
    image, *nodes, output = traced.graph.nodes
    indices = {image: 0}
    steps: list[Step] = []
    for index, node in enumerate(nodes, start=1):
        name, windows = _layer_of(node, body)
        inputs = [i for i in node.args if isinstance(i, fx.Node)]
        done = {indices[i] for i in inputs if [*i.users][-1] is node}
        steps.append(Step(name, [indices[i] for i in inputs], sorted(done), windows))
        indices[node] = index
    if not nodes or output.args != (nodes[-1],):
        raise ArgumentError(
            f"Expected a `body` with one feature map as its output, but got {output.args[0]}."
        )
    return steps


def _layer_of(node: fx.Node, body: nn.Module) -> tuple[str | None, Windows]:
    """The name of the layer of a node (``None`` for a sum), and its receptive field."""
    plain = all(isinstance(argument, fx.Node) for argument in node.args) and not node.kwargs
    if node.op == "call_function" and node.target in (operator.add, torch.add) and plain:
        return None, (Window(), Window())
    if node.op != "call_module" or not plain:
        raise ArgumentError(
            "Expected a `body` of layers and sums of two maps, but got "
            f"`{node.format_node()}`: write it as a layer."
        )
    name = str(node.target)
    layer = body.get_submodule(name)
    (source,) = node.all_input_nodes
    if getattr(layer, "inplace", False) and (source.op == "placeholder" or len(source.users) > 1):
        raise ArgumentError(
            f"Expected `{name}` not to work in place, since its input is used again."
        )
    return name, layer_windows(name, layer)
