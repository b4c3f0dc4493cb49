"""Networks: the deformation module, and those that segment or classify what they are shown."""

from deformsample.networks.classifying import ConvClassifier, TimmClassifier
from deformsample.networks.deformation import DeformationNet
from deformsample.networks.edge_regressor import EdgeRegressor
from deformsample.networks.fixed_scores import FixedScores
from deformsample.networks.hrnet import HRNet
from deformsample.networks.streaming import Streamed
from deformsample.networks.unet import UNet

__all__ = [
    "ConvClassifier",
    "DeformationNet",
    "EdgeRegressor",
    "FixedScores",
    "HRNet",
    "Streamed",
    "TimmClassifier",
    "UNet",
]
