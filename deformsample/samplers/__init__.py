"""Samplers: from a thumbnail to a density map and a sampling grid."""

from deformsample.samplers.detail import DetailSampler
from deformsample.samplers.edge_optimal import EdgeOptimalSampler
from deformsample.samplers.error_curves import ErrorCurveSampler
from deformsample.samplers.frozen import FrozenSampler
from deformsample.samplers.grids import DensityGrid, GaussianGrid, TransportGrid
from deformsample.samplers.learned import LearnedSampler
from deformsample.samplers.oracle import EdgeDensityOracle, EdgeOptimalOracle, OracleSampler
from deformsample.samplers.sampler import Placement, Sampler
from deformsample.samplers.separable import SeparableSampler
from deformsample.samplers.uniform import UniformSampler

__all__ = [
    "DensityGrid",
    "DetailSampler",
    "EdgeDensityOracle",
    "EdgeOptimalOracle",
    "EdgeOptimalSampler",
    "ErrorCurveSampler",
    "FrozenSampler",
    "GaussianGrid",
    "LearnedSampler",
    "OracleSampler",
    "Placement",
    "Sampler",
    "SeparableSampler",
    "TransportGrid",
    "UniformSampler",
]
