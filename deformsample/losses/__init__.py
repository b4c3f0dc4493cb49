"""Losses of joint training, and density losses that train the sampler."""

from deformsample.losses.density_losses import (
    BoundaryKLLoss,
    BoundaryLoss,
    BoundaryMSELoss,
    DensityLoss,
    Observed,
)
from deformsample.losses.dice import NegativeLogDice
from deformsample.losses.edge_grid import EdgeGridLoss
from deformsample.losses.error_curve_loss import ErrorCurveLoss
from deformsample.losses.full_resolution import FullResolutionLoss
from deformsample.losses.lovasz import LovaszLoss
from deformsample.losses.pixelwise import PixelLoss, cross_entropy
from deformsample.losses.tile import TileLoss
from deformsample.losses.warped import WarpedLoss

__all__ = [
    "DensityLoss",
    "BoundaryKLLoss",
    "EdgeGridLoss",
    "BoundaryMSELoss",
    "BoundaryLoss",
    "ErrorCurveLoss",
    "FullResolutionLoss",
    "LovaszLoss",
    "NegativeLogDice",
    "Observed",
    "PixelLoss",
    "TileLoss",
    "WarpedLoss",
    "cross_entropy",
]
