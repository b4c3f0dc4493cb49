"""Networks of other libraries behind a learned downsampler."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

import deformsample
from deformsample.checkpoints.builder import build_part
from deformsample.errors import ArgumentError, CheckpointError
from deformsample.samplers import UniformSampler
from deformsample.segmenters import Segmenter
from tests.helpers import save, scene


class Encoder(nn.Module):
    """Features of timm, and a layer that makes logits of them: coarser than the image."""

    def __init__(self) -> None:
        super().__init__()
        features: Any = timm.create_model("resnet10t", features_only=True, out_indices=(1,))
        self.features = features
        self.head = nn.Conv2d(features.feature_info.channels()[0], 3, 1)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(image)[0])
        return logits


def segformer() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    return transformers.SegformerForSemanticSegmentation(  # type: ignore[no-any-return]
        transformers.SegformerConfig(
            num_labels=3,
            depths=[1, 1, 1, 1],
            hidden_sizes=[8, 8, 16, 16],
            num_attention_heads=[1, 1, 2, 2],
            decoder_hidden_size=16,
        )
    )


def of_torchvision(name: str) -> nn.Module:
    build: Callable[..., nn.Module] = getattr(torchvision.models.segmentation, name)
    return build(num_classes=3, weights=None, weights_backbone=None)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "smp": lambda: smp.Unet("resnet18", encoder_weights=None, classes=3),
    "lraspp": lambda: of_torchvision("lraspp_mobilenet_v3_large"),
    "deeplab": lambda: of_torchvision("deeplabv3_mobilenet_v3_large"),
    "segformer": segformer,
    "timm": Encoder,
}


def example() -> tuple[Tensor, Tensor]:
    pairs = [scene(n, 96, 128, classes=3) for n in range(2)]
    images, labels = (np.stack(arrays) for arrays in zip(*pairs, strict=True))
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), torch.from_numpy(labels)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_other_libraries(name: str) -> None:
    image, labels = example()
    model = deformsample.segmenter(NETWORKS[name](), (33, 40), network_multiple=32).train()
    loss = model.loss(image, labels)
    loss.backward()
    assert bool(loss.isfinite())
    gradients = [p.grad for p in model.segmenter.downsampler.parameters()]
    assert any(g is not None and bool(g.any()) for g in gradients)
    model.eval()
    logits = model(image)
    assert logits.shape == (2, 3, 96, 128)
    labels_of_model = model.segment(image)
    assert labels_of_model.dtype == torch.uint8
    assert float((labels_of_model == logits.argmax(dim=1)).float().mean()) > 0.999


def test_a_checkpoint_can_name_a_function_of_torchvision() -> None:
    path = "torchvision.models.segmentation.lraspp_mobilenet_v3_large"
    described = {"class_path": path, "init_args": {"num_classes": 3, "weights_backbone": "no such"}}
    architecture = {
        "class_path": "deformsample.segmenters.TiledSegmenter",
        "init_args": {"network": described, "network_multiple": 32},
    }
    segmenter = build_part(Segmenter, architecture, "a test").eval()
    assert segmenter.segment(torch.rand(1, 3, 40, 50)).shape == (1, 40, 50)


def test_a_constant_network_gives_its_constants() -> None:
    class Constant(nn.Module):
        def forward(self, image: Tensor) -> dict[str, Tensor]:
            return {"out": image.new_tensor([1.0, -2.0]).view(1, 2, 1, 1).expand(1, 2, 5, 7)}

    model = deformsample.segmenter(Constant(), (8, 12), sampler=UniformSampler()).eval()
    logits = model(torch.rand(1, 3, 40, 60))
    torch.testing.assert_close(logits[0, :, 3, 50], torch.tensor([1.0, -2.0]))
    assert logits.shape == (1, 2, 40, 60)


def test_a_plain_training_loop_lowers_the_loss_and_weights_are_kept(tmp_path: Path) -> None:
    image, labels = example()

    def build() -> Any:
        network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1))
        return deformsample.segmenter(network, 1200)

    model = build()
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = model.loss(image, labels)
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.8 * losses[0]
    model.save(tmp_path / "model.safetensors")
    again = build().load(tmp_path / "model.safetensors")
    file = save(tmp_path / "a.png", image[0].permute(1, 2, 0).numpy())
    assert torch.equal(again.segment(file), model.segment(image[:1]))
    assert model.training  # segment leaves the mode as it was
    (tmp_path / "no.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match=r"no\.safetensors"):
        again.load(tmp_path / "no.safetensors")
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        deformsample.segmenter(nn.Conv2d(3, 3, 1)).load(tmp_path / "model.safetensors")


@pytest.mark.slow
def test_a_wrapped_network_can_be_compiled() -> None:
    image, labels = example()
    torch._dynamo.reset()
    model = deformsample.segmenter(nn.Conv2d(3, 3, 3, padding=1), (16, 24)).eval()
    expected = model(image)
    compiled = torch.compile(model, backend="aot_eager")
    torch.testing.assert_close(compiled(image), expected, rtol=1e-4, atol=1e-4)
    assert labels.shape == expected.shape[:1] + expected.shape[2:]


def test_what_cannot_be_used_is_named() -> None:
    image, labels = example()
    with pytest.raises(ArgumentError, match=r"`network`.*function"):
        deformsample.segmenter(F.relu)  # type: ignore[arg-type]
    model = deformsample.segmenter(nn.Flatten(), (8, 12))
    with pytest.raises(ArgumentError, match=r"Flatten.*\(2, 288\)"):
        model(image)
    model = deformsample.segmenter(nn.Conv2d(3, 3, 1), (8, 12))
    with pytest.raises(ArgumentError, match=r"`labels` of shape \(2, 96, 128\)"):
        model.loss(image, labels[:, :50])
