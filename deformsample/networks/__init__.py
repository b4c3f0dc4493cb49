"""Networks: the deformation module, and segmentation networks for the small image."""

from deformsample.networks.deformation import DeformationNet
from deformsample.networks.hrnet import HRNet

__all__ = ["DeformationNet", "HRNet"]
