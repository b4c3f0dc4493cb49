"""Models of timm, and their features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from deformsample.errors import ArgumentError

_NO_PICKLES = frozenset({".npz", ".safetensors"})


def backbone(name: str, weights: str | None, **options: Any) -> Any:
    """A backbone that returns its features; arguments and errors as of :func:`timm_model`."""
    return timm_model(name, weights, features_only=True, **options)


def timm_model(name: str, weights: str | None, **options: Any) -> Any:
    """A model of timm.

    Args:
        name: of the model in timm.
        weights: ``None`` for random weights, ``"hub"`` for timm's own (downloaded once by timm), or
            the path of a file.
        options: of ``timm.create_model``.

    Raises:
        ArgumentError: no such model, no such file, or weights that cannot be had.
    """
    import timm  # takes as long as torch, and not every network is one of timm

    if not timm.is_model(name):
        raise ArgumentError(
            f"Expected the `name` of a model of timm, but got {name!r}: `timm.list_models()` lists "
            "them."
        )
    overlay = None
    if weights not in (None, "hub"):
        file = Path(str(weights)).expanduser()
        if not file.is_file():
            raise ArgumentError(
                f"Expected `weights` to be null, 'hub' or a file, but there is no file {file}."
            )
        _check_plain(file)
        overlay = {"file": str(file)}
    try:
        return timm.create_model(
            name,
            pretrained=weights is not None,
            pretrained_cfg_overlay=overlay,
            **options,
        )
    except Exception as error:
        if weights is None:
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ArgumentError(
            f"Expected weights for {name} from {weights!r}, but got: {reason} Give a file with "
            "`weights: PATH`, or train from random weights with `weights: null`."
        ) from error


def _check_plain(file: Path) -> None:
    """Make sure that no code is in a file of weights, which not every timm leaves unexecuted."""
    if file.suffix in _NO_PICKLES:
        return
    try:
        torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes of any kind make the reader fail in any way
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ArgumentError(
            f"Expected `weights` of plain tensors and numbers, but {file} cannot be read: {reason}"
        ) from None
