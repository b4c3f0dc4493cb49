"""Sampling grids by optimal transport: the sampling density equals the density map.

For a density rho > 0 with mean 1, the optimal transport map sends an image point p to the point
y(p) = p + grad psi(p) of the small image, where the potential solves the Monge-Ampere equation

    det(I + D^2 psi) = rho,   d psi / dn = 0 on the border.

The map has no rotation and no folds, and border points slide along the border. In two dimensions
(laplacian u)^2 = |D^2 u|^2 + 2 det D^2 u, which gives the fixed-point iteration

    psi <- laplacian^-1( sqrt((1 + psi_xx)^2 + (1 + psi_yy)^2 + 2 psi_xy^2 + 2 rho) - 2 )

(Benamou, Froese, and Oberman 2010, "Two Numerical Methods for the Elliptic Monge-Ampere Equation",
ESAIM: M2AN 44, method M1). The sampling grid is the inverse of y at the samples of the small image.

Convention: the potential is defined on the vertices of the density map, whose border vertices lie
on the image border. Lengths are in cells of the map: the transport is isotropic in the image.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from deformsample.conventions import Size
from deformsample.errors import ArgumentError
from deformsample.geometry.coordinates import (
    axis,
    check_size,
    from_pixels,
    to_pixels,
)
from deformsample.geometry.dispatch import cached_constants, is_readable
from deformsample.geometry.inverse import inverse_coordinates
from deformsample.geometry.walk import inverse_lattice

_LEAST_OF_MINIMUM = 0.25
"""Smallest area of a mapped triangle of the density map, as a fraction of the minimum density. The
continuous map keeps the minimum; the discretisation of sharp densities does not."""

_LEAST_AREA = 1e-3
"""Smallest area of a triangle of the sampling grid, relative to uniform sampling."""


def transport_grid(
    density: Tensor, size: Size, *, minimum: float = 0.1, iterations: int = 8
) -> Tensor:
    """Sampling grid whose sampling density equals a density map.

    A density that falls below ``minimum`` is mixed with a uniform density to reach it. The grid has
    these guarantees, for any density:

    - No triangle of the grid's mesh folds.
    - No triangle covers more than 1 / ``minimum`` times its area in a uniform grid: the sample
      spacing is at most 1 / sqrt(``minimum``) times the uniform spacing.
    - Border samples lie exactly on the image border. A flat density gives the uniform grid.

    If the discretisation of a sharp density violates the first two, all displacements of the image
    are scaled down.

    Args:
        density: (b, 1, h, w), not negative; its scale does not matter. An all-zero map is flat.
        size: (h, w) of the grid, independent of the size of the map.
        minimum: lower bound of the sampling density relative to uniform sampling, in (0, 1].
        iterations: number of fixed-point iterations. With 8, the median error of the sampling
            density is about 1 % for smooth densities of contrast 100.

    Returns:
        Grid (b, h, w, 2), float32 or wider. The gradient to the density is exact (all iterations
        are differentiated, and the inversion is differentiated implicitly). On a CPU the inversion
        is exact; on other devices, and in exported graphs, it takes a fixed number of Newton steps
        without synchronisation.

    Raises:
        ArgumentError: wrong shape, fewer than two cells or samples per side, or a parameter out of
            range.

    Example:
        >>> density = torch.ones(1, 1, 16, 32)
        >>> density[..., 12:20] = 4.0  # four times as many samples in the middle quarter
        >>> grid = transport_grid(density, (16, 32))
        >>> grid.shape
        torch.Size([1, 16, 32, 2])
        >>> int((grid[0, 8, :, 0].abs() < 0.25).sum())  # of a row; 8 of a uniform grid
        16
    """
    if density.ndim != 4 or density.shape[1] != 1:
        raise ArgumentError(
            f"Expected `density` of shape (b, 1, h, w), but got {tuple(density.shape)}."
        )
    check_size((density.shape[2], density.shape[3]), "density size")
    check_size(size, "size")
    check_parameters(minimum, iterations)
    # Second differences of a potential need more precision than half.
    with torch.autocast(density.device.type, enabled=False):
        exact = density[:, 0].to(torch.promote_types(density.dtype, torch.float32))
        potential = _potential(with_minimum(relative_density(exact), minimum), iterations)
        mapped = _limited(_mapped(potential), _LEAST_OF_MINIMUM * minimum, math.inf)
        grid = _limited(_inverted(mapped, size), _LEAST_AREA, 1 / minimum)
        return from_pixels(grid, size)


def check_parameters(minimum: float, iterations: int) -> None:
    """Raise ``ArgumentError`` unless the parameters of :func:`transport_grid` are in range."""
    if not 0 < minimum <= 1:
        raise ArgumentError(f"Expected `minimum` in (0, 1], but got {minimum}.")
    if iterations < 1:
        raise ArgumentError(f"Expected `iterations` of at least 1, but got {iterations}.")


def relative_density(density: Tensor) -> Tensor:
    """Density maps (..., h, w) divided by their mean over the image area; all-zero maps become 1.

    The mean is that of bilinear interpolation: border vertices count half.

    Example:
        >>> relative_density(torch.tensor([[1.0, 3.0], [1.0, 3.0]])).tolist()
        [[0.5, 1.5], [0.5, 1.5]]
    """
    largest = density.detach().amax(dim=(-2, -1), keepdim=True)
    empty = largest == 0
    scaled = density / largest.masked_fill(empty, 1.0)  # avoids overflow of the sum
    return torch.where(empty, 1.0, scaled / area_mean(scaled).masked_fill(empty, 1.0))


def area_mean(values: Tensor) -> Tensor:
    """Mean over the image area of maps (..., h, w), as (..., 1, 1); border vertices count half."""
    rows, columns = (_transform(n, values).mean for n in values.shape[-2:])
    # No matrix products: autocast would compute them in half precision.
    return (values * (rows[:, None] * columns)).sum(dim=(-2, -1), keepdim=True)


def with_minimum(density: Tensor, minimum: float) -> Tensor:
    """Mix relative densities (b, h, w) with a uniform density to reach a lower bound."""
    lowest = density.amin(dim=(-2, -1), keepdim=True)
    below = lowest < minimum
    share = (minimum - lowest) / (1 - lowest).where(below, 1.0)
    return torch.where(below, density + share * (1 - density), density)


class _Cosines(NamedTuple):
    """The cosine transform of one axis (DCT-I) as matrices."""

    analysis: Tensor
    """(n, n), from values to coefficients."""

    synthesis: Tensor
    """(n, n), from coefficients to values."""

    eigenvalues: Tensor
    """(n,) of the second difference with mirrored ends, with opposite sign."""

    mean: Tensor
    """(n,), from values to their mean by the trapezoid rule."""


def _transform(count: int, like: Tensor) -> _Cosines:
    return _cosines(count, like.device, like.dtype)


@cached_constants
def _cosines(count: int, device: torch.device, dtype: torch.dtype) -> _Cosines:
    step = torch.arange(count, dtype=torch.float64)
    synthesis = torch.cos(math.pi / (count - 1) * step[:, None] * step)
    ends = torch.ones(count, dtype=torch.float64)
    ends[0] = ends[-1] = 0.5
    analysis = 2 / (count - 1) * ends[:, None] * synthesis.T * ends
    eigenvalues = 2 - 2 * torch.cos(math.pi / (count - 1) * step)
    mean = ends / (count - 1)
    return _Cosines(*(t.to(device, dtype) for t in (analysis, synthesis, eigenvalues, mean)))


def _potential(density: Tensor, iterations: int) -> Tensor:
    """The potential psi (b, h, w) of relative densities."""
    rows, columns = (_transform(n, density) for n in density.shape[1:])
    eigenvalues = rows.eigenvalues[:, None] + columns.eigenvalues
    # The mean of a potential is arbitrary; its mode is set to 0.
    inverse = torch.where(eigenvalues > 0, -1 / eigenvalues.where(eigenvalues > 0, 1.0), 0.0)
    potential, doubled = torch.zeros_like(density), 2 * density
    for _ in range(iterations):
        padded = _mirrored(potential)
        middle = 2 * potential - 1
        x = padded[:, 1:-1, 2:] - middle + padded[:, 1:-1, :-2]  # 1 + psi_xx
        y = padded[:, 2:, 1:-1] - middle + padded[:, :-2, 1:-1]
        main = padded[:, 2:, 2:] + padded[:, :-2, :-2]
        mixed = main - padded[:, 2:, :-2] - padded[:, :-2, 2:]  # 4 psi_xy
        # In few operations, since each of them reads and writes whole maps.
        squares = doubled.addcmul(x, x).addcmul(y, y).addcmul(mixed, mixed, value=0.125)
        source = squares.sqrt() - 2
        coefficients = rows.analysis @ source @ columns.analysis.T * inverse
        potential = rows.synthesis @ coefficients @ columns.synthesis.T
    return potential


def _mirrored(potential: Tensor) -> Tensor:
    """Pad by one vertex on each side, mirrored at the border: no flow crosses it."""
    return F.pad(potential[:, None], (1, 1, 1, 1), mode="reflect")[:, 0]


def _mapped(potential: Tensor) -> Tensor:
    """The mapped vertices y = p + grad psi, (b, h, w, 2), in cells."""
    padded = _mirrored(potential)
    dx = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) / 2
    dy = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) / 2
    return _vertices(potential) + torch.stack((dx, dy), dim=-1)


def _vertices(like: Tensor) -> Tensor:
    """(h, w, 2): column and row of each vertex of maps (b, h, w, ...)."""
    rows, columns = (torch.arange(n, device=like.device, dtype=like.dtype) for n in like.shape[1:3])
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack((x, y), dim=-1)


def _limited(points: Tensor, least: float, most: float) -> Tensor:
    """Scale the displacements of a mesh so that the areas of its triangles are in bounds.

    With displacements scaled by t, a triangle has the relative area 1 + t tr + t^2 det, with trace
    and determinant of the displacement gradient. The largest t <= 1 up to which all triangles of an
    image stay in bounds is a minimum over roots of quadratic equations.

    Args:
        points: (b, h, w, 2), in cells.
        least: smallest area relative to an undisplaced triangle, below 1.
        most: largest relative area, at least 1.
    """
    uniform = _vertices(points)
    shift = points - uniform
    right, down = shift.diff(dim=2), shift.diff(dim=1)
    # The triangles of deformsample.geometry.mesh: each has one horizontal and one vertical edge.
    along = torch.stack((right[:, :-1], right[:, 1:]), dim=1)
    across = torch.stack((down[:, :, :-1], down[:, :, 1:]), dim=1)
    trace = along[..., 0] + across[..., 1]
    determinant = along[..., 0] * across[..., 1] - along[..., 1] * across[..., 0]
    scale = _first_root(determinant, trace, 1 - least)
    if most < math.inf:
        scale = torch.minimum(scale, _first_root(-determinant, -trace, most - 1))
    return uniform + scale.view(-1, 1, 1, 1) * shift


def _first_root(quadratic: Tensor, linear: Tensor, constant: float) -> Tensor:
    """The smallest root in [0, 1] of c + b t + a t^2, c >= 0, for each image; 1 without a root."""
    discriminant = linear.square() - 4 * constant * quadratic
    real = discriminant > 0
    denominator = discriminant.where(real, 1.0).sqrt() - linear
    crosses = real & (denominator > 2 * constant)  # otherwise the root is above 1
    root = torch.where(crosses, 2 * constant / denominator.where(crosses, 1.0), 1.0)
    return root.flatten(1).amin(dim=1)


def _inverted(mapped: Tensor, size: Size) -> Tensor:
    """The sampling grid (b, gh, gw, 2), in cells: the inverse of a mesh (b, h, w, 2).

    Border samples lie exactly on the border.
    """
    cells = (mapped.shape[1], mapped.shape[2])
    mesh = from_pixels(mapped, cells)
    if is_readable(mapped):
        if not bool(mapped.isfinite().all()):  # the caller reports it
            return mapped.new_full((len(mapped), *size, 2), math.nan)
        points = inverse_coordinates(mesh, axis(size[0], mesh), axis(size[1], mesh))
    else:
        points = inverse_lattice(mesh, size)
    grid = to_pixels(points, size)
    uniform = _vertices(grid)
    rows, columns = (torch.arange(n, device=grid.device) for n in size)
    inside_x = (columns > 0) & (columns < size[1] - 1)
    inside_y = (rows > 0) & (rows < size[0] - 1)
    x = torch.where(inside_x, grid[..., 0], uniform[..., 0])
    y = torch.where(inside_y[:, None], grid[..., 1], uniform[..., 1])
    return torch.stack((x, y), dim=-1)
