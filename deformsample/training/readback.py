"""Values of a device that the host reads later, without waiting for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Readback:
    """A copy of a tensor to the host, which is queued behind the work that computes the tensor.

    Args:
        value: a tensor of any device.

    Example:
        >>> later = Readback(torch.tensor([1.0, 2.0]))
        >>> later.is_ready(), later.read().tolist()  # on a CPU at once
        (True, [1.0, 2.0])
    """

    def __init__(self, value: Tensor) -> None:
        self._value = value.detach().to("cpu", non_blocking=True)
        self._copied: Any = None
        if value.device.type != "cpu":
            self._copied = torch.get_device_module(value.device).Event()
            self._copied.record()

    def is_ready(self) -> bool:
        """Whether :meth:`read` returns at once."""
        return self._copied is None or bool(self._copied.query())

    def read(self) -> Tensor:
        """The tensor on the CPU; waits for the copy, but not for later work of the device."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._value
