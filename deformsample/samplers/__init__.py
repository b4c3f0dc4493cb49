"""Samplers: from a thumbnail to a density map and a sampling grid."""

from deformsample.samplers.base import Sampler
from deformsample.samplers.learned import LearnedSampler
from deformsample.samplers.uniform import UniformSampler

__all__ = ["LearnedSampler", "Sampler", "UniformSampler"]
