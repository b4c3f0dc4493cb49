"""Dispatch between compiled functions (on the CPU, outside of graphs) and tensor operations."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache, wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

_Function = TypeVar("_Function", bound=Callable[..., object])


def untraced(function: _Function) -> _Function:
    """Exclude a function from ``torch.compile``, like ``torch.compiler.disable``.

    Importing the latter takes a second, which only programs that compile need to spend.
    """
    disabled: Any = cache(lambda: torch.compiler.disable(function))

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        chosen = disabled() if "torch._dynamo" in sys.modules else function
        return chosen(*args, **kwargs)

    call._torchdynamo_disable = True  # type: ignore[attr-defined]  # as the tracer looks for it
    return cast("_Function", call)


def is_constant(*tensors: Tensor) -> bool:
    """Whether tensors are on the CPU and need no gradient, so that compiled functions can be used.

    False while torch traces a graph to compile or export it.
    """
    learning = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    on_cpu = all(tensor.device.type == "cpu" for tensor in tensors)
    return on_cpu and not learning and not torch.compiler.is_compiling()
