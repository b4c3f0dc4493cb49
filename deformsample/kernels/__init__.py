"""From samples to pixels with NumPy and Numba alone: for programs that run a network without torch.

Conventions are those of :mod:`deformsample.geometry`, whose functions on a CPU are these.
"""

from deformsample.kernels.interpolation import unwarp, unwarp_labels

__all__ = ["unwarp", "unwarp_labels"]
