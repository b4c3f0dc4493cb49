"""Samplers: from a thumbnail to a density map and a sampling grid."""

from deformsample.samplers.base import Placement, Sampler
from deformsample.samplers.detail import DetailSampler
from deformsample.samplers.edge_optimal import EdgeOptimalSampler
from deformsample.samplers.frozen import FrozenSampler
from deformsample.samplers.learned import LearnedSampler
from deformsample.samplers.oracle import EdgeDensityOracle, EdgeOptimalOracle, OracleSampler
from deformsample.samplers.separable import SeparableSampler
from deformsample.samplers.uniform import UniformSampler

__all__ = [
    "DetailSampler",
    "EdgeDensityOracle",
    "EdgeOptimalOracle",
    "EdgeOptimalSampler",
    "FrozenSampler",
    "LearnedSampler",
    "OracleSampler",
    "Placement",
    "Sampler",
    "SeparableSampler",
    "UniformSampler",
]
