"""Unwarping with NumPy and Numba, for programs that run a network without torch.

Conventions are those of :mod:`deformsample.geometry`, which calls these functions on a CPU.
"""

from deformsample.kernels.interpolation import unwarp, unwarp_labels

__all__ = ["unwarp", "unwarp_labels"]
