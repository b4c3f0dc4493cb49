"""Grids that stay near semantic boundaries (Marin et al. 2019, "Efficient Segmentation").

The target grid phi is the minimum of

    sum_i |phi_i - b(u_i)|^2 + lambda sum_(i, j) |phi_i - phi_j|^2,

where b(u_i) is the boundary point nearest to the uniform location u_i, and the second sum runs
over all pairs of horizontal or vertical neighbours, each once. Border samples slide along the
border but do not leave it. Each coordinate is a screened Poisson problem on a rectangle; in the
eigenvectors of the two axes' path Laplacians it is a division.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from deformsample.conventions import Size
from deformsample.errors import ArgumentError
from deformsample.geometry.coordinates import (
    axis,
    check_grid,
    from_pixels,
    identity_grid,
    to_pixels,
)
from deformsample.geometry.density import label_boundaries
from deformsample.geometry.dispatch import cached_constants, is_readable

_FREE, _FIXED = 1.0, 2.0
"""Diagonal of a path Laplacian at its ends: without a neighbour, or with a fixed one."""


def nearest_boundary(labels: Tensor, size: Size, ignore_index: int) -> Tensor:
    """The boundary pixel nearest to every location of a uniform grid.

    Args:
        labels: class ids (b, H, W), an integer dtype.
        size: (h, w) of the uniform grid.
        ignore_index: the id of pixels without a class.

    Returns:
        (b, h, w, 2) float32 normalised points; the uniform locations for an image without
        boundaries. Distances are those of a 5 x 5 chamfer mask in pixels on a CPU, and exact on
        other devices.
    """
    if not is_readable(labels):
        return _nearest_anywhere(label_boundaries(labels, ignore_index)[:, 0] > 0, size)
    uniform = identity_grid(size, torch.zeros(1))
    height, width = labels.shape[1:]
    pixels = to_pixels(uniform[0], (height, width)).round().long().numpy()
    nearest = []
    for edges in label_boundaries(labels, ignore_index)[:, 0].numpy():
        if not edges.any():
            nearest.append(uniform[0])
            continue
        _, owner = cv2.distanceTransformWithLabels(
            1 - edges, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
        )
        y, x = np.nonzero(edges)
        location = np.zeros((int(owner.max()) + 1, 2), dtype=np.float32)
        location[owner[y, x]] = np.stack((x, y), axis=1)
        points = torch.from_numpy(location[owner[pixels[..., 1], pixels[..., 0]]])
        nearest.append(from_pixels(points, (height, width)))
    return torch.stack(nearest)


def _nearest_anywhere(edges: Tensor, size: Size) -> Tensor:
    """The boundary pixels (b, H, W) nearest to a uniform grid, with tensor operations.

    First the nearest one in each row of pixels, then the nearest row.
    """
    b, height, width = edges.shape
    uniform = identity_grid(size, torch.zeros(b, device=edges.device))
    pixels = to_pixels(uniform[0], (height, width)).round().long()
    rows, columns = pixels[:, 0, 1], pixels[0, :, 0]
    far = 2 * (height + width)
    number = torch.arange(width, device=edges.device)
    left = number.where(edges, -far).cummax(dim=2).values[..., columns]
    right = number.where(edges, far).flip(2).cummin(dim=2).values.flip(2)[..., columns]
    nearest = left.where(columns - left <= right - columns, right)  # (b, H, m)
    across = (nearest - columns).square()
    line = torch.arange(height, device=edges.device)[:, None]
    points = []
    for row in rows:
        best = (across + (line - row).square()).argmin(dim=1, keepdim=True)
        points.append(torch.cat((nearest.gather(1, best), best), dim=1))
    found = from_pixels(torch.stack(points, dim=1).movedim(2, 3).float(), (height, width))
    return found.where(edges.any(dim=(1, 2)).view(-1, 1, 1, 1), uniform)


def edge_optimal_grid(boundary: Tensor, smoothness: float) -> Tensor:
    """Solve for the smooth grid closest to the boundary points.

    Args:
        boundary: (b, h, w, 2), the boundary point of every sample, from :func:`nearest_boundary`.
        smoothness: lambda of the energy above, positive; 1 in Marin et al. 2019.

    Returns:
        Grid (b, h, w, 2) that covers the image: the exact minimum.

    Raises:
        ArgumentError: fewer than two samples per side, or a smoothness that is not positive.
    """
    check_grid(boundary)
    if not smoothness > 0:
        raise ArgumentError(f"Expected `smoothness` above 0, but got {smoothness}.")
    x, y = boundary.unbind(-1)
    return torch.stack((_between_sides(x, smoothness), _between_sides(y.mT, smoothness).mT), -1)


def _between_sides(target: Tensor, smoothness: float) -> Tensor:
    """Minimise over one coordinate (b, h, w), fixed to -1 in the first and 1 in the last column."""
    b, h, w = target.shape
    solved = axis(w, target).expand(b, h, w).clone()
    if w == 2:
        return solved
    right = target[..., 1:-1].clone()
    right[..., 0] -= smoothness
    right[..., -1] += smoothness
    down_values, down = _path_eigen(h, _FREE, target.device, target.dtype)
    across_values, across = _path_eigen(w - 2, _FIXED, target.device, target.dtype)
    scale = 1 + smoothness * (down_values[:, None] + across_values)
    solved[..., 1:-1] = down @ ((down.mT @ right @ across) / scale) @ across.mT
    return solved


@cached_constants
def _path_eigen(
    count: int, end: float, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of a path Laplacian with given diagonal ends."""
    ones = torch.ones(count, dtype=torch.float64)
    laplacian = torch.diag(2 * ones) - torch.diag(ones[1:], 1) - torch.diag(ones[1:], -1)
    laplacian[0, 0] += end - 2
    laplacian[-1, -1] += end - 2
    values, vectors = torch.linalg.eigh(laplacian)
    return values.to(device, dtype), vectors.to(device, dtype)
