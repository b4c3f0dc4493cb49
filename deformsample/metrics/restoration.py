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
        where: (h, w) bool, the pixels that count; ``None`` for all. SSIM (Wang et al. 2004) still
            looks at the pixels around each of them.

    Returns:
        ``psnr`` in dB, infinite where nothing differs, and ``ssim`` in [-1, 1], which
        images of less than 11 pixels a side do not have.
    """
    one, other = (_brightness(image) for image in (original, restored))
    counts = torch.ones_like(one[0, 0], dtype=torch.bool) if where is None else where
    quality = {"psnr": float(-10 * (one - other)[0, 0][counts].square().mean().log10())}
    if min(one.shape[2:]) < _SSIM_WINDOW:
        return quality
    _, similarity = structural_similarity_index_measure(
        other, one, data_range=1.0, return_full_image=True
    )
    return {**quality, "ssim": float(similarity[0, 0][counts].mean())}


def _brightness(image: Tensor) -> Tensor:
    weights = torch.tensor((0.299, 0.587, 0.114), device=image.device)
    return torch.einsum("chw,c->hw", image.float(), weights)[None, None]
