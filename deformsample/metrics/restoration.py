"""The quality of restored images."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

_SSIM_WINDOW = 11


def restoration_quality(
    original: Tensor, restored: Tensor, where: Tensor | None = None
) -> dict[str, float]:
    """PSNR and SSIM of the brightness (ITU-R BT.601).

    Args:
        original: (3, h, w) in [0, 1].
        restored: (3, h, w) in [0, 1].
        where: (h, w) bool, the pixels to measure; ``None`` for all. SSIM (Wang et al. 2004) also
            uses their neighbours.

    Returns:
        ``psnr`` in dB (infinite for equal images), and ``ssim`` in [-1, 1] for images of at least
        11 pixels per side.

    Example:
        >>> original = torch.full((3, 32, 32), 0.5)
        >>> round(restoration_quality(original, original + 0.1)["psnr"])
        20
    """
    target, result = (_brightness(image) for image in (original, restored))
    counts = torch.ones_like(target[0, 0], dtype=torch.bool) if where is None else where
    quality = {"psnr": float(-10 * (target - result)[0, 0][counts].square().mean().log10())}
    if min(target.shape[2:]) < _SSIM_WINDOW:
        return quality
    _, similarity = structural_similarity_index_measure(
        result, target, data_range=1.0, return_full_image=True
    )
    return {**quality, "ssim": float(similarity[0, 0][counts].mean())}


def _brightness(image: Tensor) -> Tensor:
    weights = torch.tensor((0.299, 0.587, 0.114), device=image.device)
    return torch.einsum("chw,c->hw", image.float(), weights)[None, None]
