"""Models and feature extractors of timm."""

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
        name: name of the model in timm.
        weights: ``None`` for random weights, ``"hub"`` for pretrained weights (downloaded once by
            timm), or the path of a file.
        options: further arguments of ``timm.create_model``.

    Raises:
        ArgumentError: no such model, no such file, or weights that cannot be loaded.
    """
    import timm  # slow to import, and not needed by all networks

    if not timm.is_model(name):
        raise ArgumentError(
            f"Expected the `name` of a timm model, but got {name!r}: see `timm.list_models()`."
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
            f"Cannot load weights for {name} from {weights!r}: {reason} Set a file with "
            "`weights: PATH`, or train from random weights with `weights: null`."
        ) from error


def _check_plain(file: Path) -> None:
    """Check that a file of weights contains no code, which some versions of timm would execute."""
    if file.suffix in _NO_PICKLES:
        return
    try:
        torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # readers raise any exception on invalid bytes
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ArgumentError(
            f"Cannot read {file} as `weights` of plain tensors and numbers: {reason}"
        ) from None
