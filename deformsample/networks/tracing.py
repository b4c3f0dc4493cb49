"""The layers of a network in the order of the work."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import fx, nn

from deformsample.errors import ArgumentError
from deformsample.networks.receptive import Window, Windows, layer_windows


class Step(NamedTuple):
    """A layer in the order of the work, or the sum of two steps."""

    layer: str | None
    """Its name in the body; ``None`` for a sum."""

    inputs: Sequence[int]
    """The numbers of the steps whose outputs it takes; the image is number 0, the first step 1."""

    done: Sequence[int]
    """Those of them whose outputs no later step takes."""

    windows: Windows


def trace(body: nn.Module) -> list[Step]:
    """The layers of a network in the order of the work.

    Raises:
        ArgumentError: it has a layer, or does something between layers, that cannot be streamed.
    """
    try:
        traced = fx.symbolic_trace(body)
    except Exception as error:
        reason = str(error).split("\n")[0]
        raise ArgumentError(
            f"Expected a `body` that does the same with every image, but its tracing says: {reason}"
        ) from error
    traced.graph.eliminate_dead_code()
    image, *nodes, output = traced.graph.nodes
    numbers = {image: 0}
    steps: list[Step] = []
    for number, node in enumerate(nodes, start=1):
        name, windows = _layer_of(node, body)
        inputs = [i for i in node.args if isinstance(i, fx.Node)]
        done = {numbers[i] for i in inputs if [*i.users][-1] is node}
        steps.append(Step(name, [numbers[i] for i in inputs], sorted(done), windows))
        numbers[node] = number
    if not nodes or output.args != (nodes[-1],):
        raise ArgumentError(
            f"Expected a `body` with one map of features as its output, but got {output.args[0]}."
        )
    return steps


def _layer_of(node: fx.Node, body: nn.Module) -> tuple[str | None, Windows]:
    """The name of a node's layer, ``None`` for a sum, and what it sees."""
    plain = all(isinstance(argument, fx.Node) for argument in node.args) and not node.kwargs
    if node.op == "call_function" and node.target in (operator.add, torch.add) and plain:
        return None, (Window(), Window())
    if node.op != "call_module" or not plain:
        raise ArgumentError(
            "Expected a `body` of layers and sums of two maps, but it also has "
            f"`{node.format_node()}`: write it as a layer."
        )
    name = str(node.target)
    layer = body.get_submodule(name)
    (source,) = node.all_input_nodes
    if getattr(layer, "inplace", False) and (source.op == "placeholder" or len(source.users) > 1):
        raise ArgumentError(
            f"Expected `{name}` not to work in place, since what it takes is used again."
        )
    return name, layer_windows(name, layer)
