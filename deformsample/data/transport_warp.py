"""Random optimal-transport warps as augmentation, for any network."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F
from typing_extensions import override

from deformsample.conventions import Pixels
from deformsample.data.augmentation import DualTransform
from deformsample.errors import ArgumentError
from deformsample.geometry import resize_grid, to_pixels, transport_grid
from deformsample.geometry.transport import check_parameters

_VERTICES = 33
"""Vertices of the warp per side; it is bilinear between them."""


class TransportWarp(DualTransform):  # type: ignore[misc]
    """Enlarge random regions of an image and its labels, and shrink others.

    A transform of albumentations for images and masks. The image is sampled at the grid of a smooth
    random density (:func:`deformsample.geometry.transport_grid`): no part is lost, mirrored or
    folded, and the border stays in place. After Zheng, Ghosh and Narasimhan 2025, "Instance-Warp:
    Saliency Guided Image Warping for Unsupervised Domain Adaptation", WACV, where instances
    determine the enlarged regions.

    Args:
        deviation: standard deviation of the logarithm of the density.
        nodes: random values per side, between which the density is smooth.
        minimum: least density relative to the mean, in (0, 1]: a region shrinks at most to this
            share of its area.
        p: probability of the transform.

    Example:
        >>> warp = TransportWarp(p=1.0)
        >>> warped = warp(image=np.zeros((60, 90, 3), np.uint8), mask=np.ones((60, 90), np.uint8))
        >>> warped["image"].shape, warped["mask"].shape
        ((60, 90, 3), (60, 90))
    """

    def __init__(
        self, deviation: float = 0.7, nodes: int = 6, minimum: float = 0.2, p: float = 0.5
    ) -> None:
        super().__init__(p=p)
        if not deviation > 0:
            raise ArgumentError(f"Expected `deviation` above 0, but got {deviation}.")
        if nodes < 2:
            raise ArgumentError(f"Expected `nodes` of at least 2, but got {nodes}.")
        check_parameters(minimum, iterations=1)
        self.deviation = deviation
        self.nodes = nodes
        self.minimum = minimum

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        """The points (h, w, 2) of a random warp, in pixels."""
        height, width = params["shape"][:2]
        field = self.random_generator.normal(0, self.deviation, (1, 1, self.nodes, self.nodes))
        size = (_VERTICES, _VERTICES)
        density = F.interpolate(
            torch.from_numpy(field.astype(np.float32)), size, mode="bicubic", align_corners=True
        ).exp()
        grid = resize_grid(transport_grid(density, size, minimum=self.minimum), (height, width))
        return {"points": to_pixels(grid, (height, width))[0].numpy()}

    @override
    def apply(self, img: Pixels, points: npt.NDArray[np.float32], **params: Any) -> Pixels:
        """Warp an image bilinearly."""
        return _sampled(img, points, cv2.INTER_LINEAR)

    @override
    def apply_to_mask(self, mask: Pixels, points: npt.NDArray[np.float32], **params: Any) -> Pixels:
        """Warp labels; each pixel takes the nearest one."""
        return _sampled(mask, points, cv2.INTER_NEAREST)


def _sampled(pixels: Pixels, points: npt.NDArray[np.float32], interpolation: int) -> Pixels:
    x, y = points[..., 0], points[..., 1]
    sampled: Any = cv2.remap(pixels, x, y, interpolation, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(sampled)
