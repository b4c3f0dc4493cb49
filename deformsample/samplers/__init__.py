"""Samplers (sampling locations from a thumbnail), and downsampling by them."""

from deformsample.samplers.detail import DetailSampler
from deformsample.samplers.downsampler import Downsampled, Downsampler, sampled_size
from deformsample.samplers.edge_optimal import EdgeOptimalSampler
from deformsample.samplers.error_curves import ErrorCurveSampler
from deformsample.samplers.focus import Focus
from deformsample.samplers.frozen import FrozenSampler
from deformsample.samplers.grids import DensityGrid, GaussianGrid, TransportGrid
from deformsample.samplers.image_source import ImageSource, InMemoryImage, as_pixels
from deformsample.samplers.learned import LearnedSampler
from deformsample.samplers.oracle import BoundaryDensityOracle, EdgeOptimalOracle, OracleSampler
from deformsample.samplers.out_of_core import OutOfCoreImage
from deformsample.samplers.sampler import Placement, Sampler
from deformsample.samplers.separable import SeparableSampler
from deformsample.samplers.uniform import UniformSampler

__all__ = [
    "DensityGrid",
    "DetailSampler",
    "Downsampled",
    "Downsampler",
    "BoundaryDensityOracle",
    "EdgeOptimalOracle",
    "EdgeOptimalSampler",
    "ErrorCurveSampler",
    "Focus",
    "FrozenSampler",
    "GaussianGrid",
    "ImageSource",
    "InMemoryImage",
    "LearnedSampler",
    "OracleSampler",
    "OutOfCoreImage",
    "Placement",
    "Sampler",
    "SeparableSampler",
    "TransportGrid",
    "UniformSampler",
    "as_pixels",
    "sampled_size",
]
