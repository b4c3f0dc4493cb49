"""Where compiled functions take the place of tensor operations: on the CPU, outside of graphs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache, wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

_Function = TypeVar("_Function", bound=Callable[..., object])


def untraced(function: _Function) -> _Function:
    """Keep ``torch.compile`` out of a function, whose inner workings are no tensor operations.

    ``torch.compiler.disable`` does that, but importing it takes a second, which only programs that
    compile need to spend.
    """
    disabled: Any = cache(lambda: torch.compiler.disable(function))

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        chosen = disabled() if "torch._dynamo" in sys.modules else function
        return chosen(*args, **kwargs)

    call._torchdynamo_disable = True  # type: ignore[attr-defined]  # as the tracer looks for it
    return cast("_Function", call)


def is_constant(*tensors: Tensor) -> bool:
    """Tensors on the CPU that no gradient is wanted for: compiled functions may work on them.

    While torch traces a graph, to compile or export it, there are only tensor operations.
    """
    learning = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    on_cpu = all(tensor.device.type == "cpu" for tensor in tensors)
    return on_cpu and not learning and not torch.compiler.is_compiling()
