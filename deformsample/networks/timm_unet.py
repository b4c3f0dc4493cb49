"""The U-Net of segmentation-models-pytorch with an encoder of timm, for small images."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from deformsample.errors import ArgumentError
from deformsample.networks.backbone import backbone

_MULTIPLE = 32


class TimmUNet(nn.Module):
    """A U-Net whose encoder can start from ImageNet weights.

    Encoders of classification networks halve their input at once. To keep every sample of a small
    image, the input is interpolated first, and the logits lie between the samples, too.

    Args:
        num_classes: number of classes.
        name: name of the encoder in timm; its features have the strides 2, 4, 8, 16 and 32.
        weights: weights of the encoder, as in :class:`.HRNet`.
        logit_upsampling: factor s of the interpolation, and of the logits per side.
    """

    def __init__(
        self,
        num_classes: int,
        name: str = "tf_efficientnet_lite0",
        weights: str | None = None,
        logit_upsampling: int = 2,
    ) -> None:
        from segmentation_models_pytorch import Unet  # slow to import

        super().__init__()
        if logit_upsampling < 1:
            raise ArgumentError(
                f"Expected `logit_upsampling` of at least 1, but got {logit_upsampling}."
            )
        encoder = backbone(name, weights)
        if (strides := encoder.feature_info.reduction()) != [2, 4, 8, 16, 32]:
            raise ArgumentError(
                "Expected an encoder with features of the strides 2, 4, 8, 16 and 32, but "
                f"{name!r} has {strides}."
            )
        self.unet = Unet(f"tu-{name}", encoder_weights=None, classes=num_classes)
        self.unet.encoder.model.load_state_dict(encoder.state_dict())
        self.logit_upsampling = logit_upsampling

    def forward(self, image: Tensor) -> Tensor:
        """Normalised image (b, 3, h, w) of any size to logits (b, k, h', w').

        h' is (h - 1) s + 1 for the factor s of ``logit_upsampling``, w' likewise.
        """
        h, w = ((side - 1) * self.logit_upsampling + 1 for side in image.shape[2:])
        finer = F.interpolate(image, (h, w), mode="bilinear", align_corners=True)
        padded = F.pad(finer, (0, -w % _MULTIPLE, 0, -h % _MULTIPLE), mode="replicate")
        logits: Tensor = self.unet(padded)
        return logits[..., :h, :w]
