"""Pure geometry: density maps, sampling grids, warping and unwarping.

Convention: images (b, c, h, w); sizes (h, w); points (x, y); grids (b, h, w, 2) in [-1, 1] with
``align_corners=True``.
"""

from deformsample.geometry.allocation import ErrorCurves, best_density, budget_curve, expected_error
from deformsample.geometry.boundary_grid import edge_optimal_grid, nearest_boundary
from deformsample.geometry.coordinates import from_pixels, identity_grid, to_pixels
from deformsample.geometry.density import (
    boundary_density,
    density_of,
    grid_density,
    min_max,
    softmax_density,
    uniform_density,
)
from deformsample.geometry.focus import box_coverage, focused_density, mask_coverage
from deformsample.geometry.grid import local_stretch, resize_grid, sample_areas, sampling_grid
from deformsample.geometry.guided import guided_label_bands, guided_labels
from deformsample.geometry.inverse import inverse_coordinates
from deformsample.geometry.transport import area_mean, relative_density, transport_grid
from deformsample.geometry.unwarp import interpolate_mesh, label_bands, unwarp, unwarp_labels
from deformsample.geometry.warp import halve, image_pyramid, warp, warp_labels, warp_pyramid

__all__ = [
    "ErrorCurves",
    "area_mean",
    "best_density",
    "boundary_density",
    "box_coverage",
    "budget_curve",
    "density_of",
    "edge_optimal_grid",
    "expected_error",
    "focused_density",
    "from_pixels",
    "grid_density",
    "guided_label_bands",
    "guided_labels",
    "halve",
    "identity_grid",
    "image_pyramid",
    "interpolate_mesh",
    "inverse_coordinates",
    "label_bands",
    "local_stretch",
    "mask_coverage",
    "min_max",
    "nearest_boundary",
    "relative_density",
    "resize_grid",
    "sample_areas",
    "sampling_grid",
    "softmax_density",
    "to_pixels",
    "transport_grid",
    "uniform_density",
    "unwarp",
    "unwarp_labels",
    "warp",
    "warp_labels",
    "warp_pyramid",
]
