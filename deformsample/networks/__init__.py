"""Networks: the deformation module, and networks for segmentation and classification."""

from deformsample.networks.classifying import ConvClassifier, TimmClassifier
from deformsample.networks.deformation import DeformationNet
from deformsample.networks.edge_regressor import EdgeRegressor
from deformsample.networks.fixed_logits import FixedDensityLogits
from deformsample.networks.hrnet import HRNet
from deformsample.networks.streaming import Streamed
from deformsample.networks.timm_unet import TimmUNet
from deformsample.networks.torchvision_network import TorchvisionNetwork
from deformsample.networks.unet import UNet

__all__ = [
    "ConvClassifier",
    "DeformationNet",
    "EdgeRegressor",
    "FixedDensityLogits",
    "HRNet",
    "Streamed",
    "TimmClassifier",
    "TimmUNet",
    "TorchvisionNetwork",
    "UNet",
]
