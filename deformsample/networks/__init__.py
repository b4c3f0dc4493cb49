"""Networks: the deformation module, and segmentation networks for the small image."""

from deformsample.networks.deformation import DeformationNet
from deformsample.networks.hrnet import HRNet
from deformsample.networks.unet import UNet

__all__ = ["DeformationNet", "HRNet", "UNet"]
