"""Dispatch between compiled functions (on the CPU, outside of graphs) and tensor operations.

Reading a value of a tensor stops the stream of a GPU until all queued work is done, and cannot be
traced. Code of a training step therefore reads values only where :func:`is_readable` is true.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache, lru_cache, wraps
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


def cached_constants(function: _Function) -> _Function:
    """Cache the tensors that a function of plain arguments returns.

    ``torch.compile`` keeps them in the graph, like ``torch.compiler.assume_constant_result``.
    """
    cached: Any = lru_cache(maxsize=64)(function)

    @wraps(function)
    def call(*args: Any) -> Any:
        # Tensors created in inference mode could not be used in a later training step.
        with torch.inference_mode(mode=False):
            return cached(*args)

    call._dynamo_marked_constant = True  # type: ignore[attr-defined]  # as the tracer looks for it
    call.cache_clear = cached.cache_clear  # type: ignore[attr-defined]
    return cast("_Function", call)


def is_readable(tensor: Tensor) -> bool:
    """Whether values of a tensor can be read without a wait: on the CPU, outside of graphs."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def is_constant(*tensors: Tensor) -> bool:
    """Whether tensors are on the CPU and need no gradient, so that compiled functions can be used.

    False while torch traces a graph to compile or export it.
    """
    learning = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    on_cpu = all(tensor.device.type == "cpu" for tensor in tensors)
    return on_cpu and not learning and not torch.compiler.is_compiling()
