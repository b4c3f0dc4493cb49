"""Models and feature extractors of timm."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import nn

from deformsample.errors import ArgumentError, listed

_NO_PICKLES = frozenset({".npz", ".safetensors"})
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_PROBE_SECONDS = 5


def backbone(name: str, weights: str | None, **options: Any) -> Any:
    """A backbone that returns its features; arguments and errors as of :func:`timm_model`."""
    return timm_model(name, weights, features_only=True, **options)


def timm_model(name: str, weights: str | None, **options: Any) -> Any:
    """A model of timm.

    Args:
        name: name of the model in timm.
        weights: ``None`` for random weights, ``"hub"`` for pretrained weights (downloaded once by
            timm), ``"auto"`` for pretrained weights or, with a warning, random ones if they cannot
            be downloaded, or the path of a file.
        options: further arguments of ``timm.create_model``.

    Raises:
        ArgumentError: no such model, no such file, or weights that cannot be loaded.
    """
    import timm  # slow to import, and not needed by all networks

    if not timm.is_model(name):
        raise ArgumentError(
            f"Expected the `name` of a timm model, but got {name!r}: see `timm.list_models()`."
        )
    logging.getLogger("timm.models._builder").addFilter(_is_no_list_of_unused_weights)
    seed = torch.get_rng_state()
    random: nn.Module = timm.create_model(name, **options)
    if weights is None:
        return random
    try:
        overlay = None if weights in ("auto", "hub") else {"file": str(_plain_file(weights))}
        if overlay is None:
            _check_hub(name)
        torch.set_rng_state(seed)
        model: nn.Module = timm.create_model(
            name, pretrained=True, pretrained_cfg_overlay=overlay, **options
        )
    except ArgumentError:
        raise
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        if weights == "auto":
            _warn(
                f"Cannot download the pretrained weights of {name}, so its weights are random: "
                f"{reason}. Set a file with `--model.segmenter.network.weights=PATH`, or accept "
                "random weights with `--model.segmenter.network.weights=null`."
            )
            return random
        raise ArgumentError(
            f"Cannot load weights for {name} from {weights!r}: {reason}. Set a file with "
            "`weights: PATH`, or train from random weights with `weights: null`."
        ) from error
    _check_loaded(model, random, f"{name} from {weights!r}")
    return model


def _check_hub(name: str) -> None:
    """Check that weights are cached or the hub answers, which downloads try for minutes.

    Raises:
        ConnectionError: they are not, and it does not.
    """
    import timm
    from huggingface_hub import constants, get_session, try_to_load_from_cache

    config = timm.models.get_pretrained_cfg(name)
    hub_id = config and config.hf_hub_id
    files = (try_to_load_from_cache(hub_id, file) for file in _HUB_FILES if hub_id)
    if not any(isinstance(file, str) for file in files):
        try:
            get_session().head(constants.ENDPOINT, timeout=_PROBE_SECONDS)
        except Exception as error:  # of the HTTP library of this version
            raise ConnectionError(f"{constants.ENDPOINT}: {error}") from error


def _check_loaded(model: nn.Module, random: nn.Module, source: str) -> None:
    """Check that the weights of a model differ from its random initialization.

    Models without some layers, such as backbones, are loaded from files with more weights, and
    timm is silent about weights that a file lacks.
    """
    pairs = zip(model.named_parameters(), random.parameters(), strict=True)
    # Biases and norms start from constants that weights can have.
    compared = [(key, torch.equal(new, old)) for (key, new), old in pairs if new.ndim > 1]
    missing = [key for key, is_equal in compared if is_equal]
    if missing and len(missing) == len(compared):
        raise ArgumentError(f"Expected weights of {source}, but got none of this model.")
    if missing:
        _warn(
            f"{len(missing)} of {len(compared)} weight tensors of {source} are missing there and "
            f"stay random: {listed(missing)}."
        )


def _is_no_list_of_unused_weights(record: logging.LogRecord) -> bool:
    return "Unexpected keys" not in record.getMessage()


def _warn(message: str) -> None:
    from pytorch_lightning.utilities import rank_zero_warn  # slow to import

    rank_zero_warn(message, stacklevel=5)


def _plain_file(weights: str) -> Path:
    """Check that a file of weights contains no code, which some versions of timm would execute."""
    file = Path(weights).expanduser()
    if not file.is_file():
        raise ArgumentError(
            f"Expected `weights` to be null, 'auto', 'hub' or a file, but there is no file {file}."
        )
    if file.suffix in _NO_PICKLES:
        return file
    try:
        torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # readers raise any exception on invalid bytes
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ArgumentError(
            f"Cannot read {file} as `weights` of plain tensors and numbers: {reason}"
        ) from None
    return file
