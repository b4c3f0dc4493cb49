"""Networks of other libraries behind a learned downsampler."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
import yaml
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import deformsample
from deformsample.checkpoints.builder import build_part
from deformsample.errors import ArgumentError, CheckpointError
from deformsample.files.configs import configs_folder
from deformsample.losses import BoundaryKLLoss, FullResolutionLoss
from deformsample.networks import TorchvisionNetwork, UNet
from deformsample.samplers import TransportGrid, UniformSampler
from deformsample.segmenters import Segmenter
from deformsample.wrapping import TrainableSegmenter
from tests.helpers import naming, save, scene


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


def tiny(classes: int = 3) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, classes, 1))


def example() -> tuple[Tensor, Tensor]:
    pairs = [scene(n, 64, 96, classes=3) for n in range(2)]
    images, labels = (np.stack(arrays) for arrays in zip(*pairs, strict=True))
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), torch.from_numpy(labels)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_other_libraries(name: str) -> None:
    image, labels = example()
    model = deformsample.segmenter(
        NETWORKS[name](), (17, 24), num_classes=3, network_multiple=32
    ).train()
    loss = model.loss(image, labels)
    loss.backward()
    assert bool(loss.isfinite())
    for part in (model.segmenter.downsampler, model.segmenter.network):
        assert any(p.grad is not None and bool(p.grad.any()) for p in part.parameters())
    model.eval()
    logits = model(image)
    assert logits.shape == (2, 3, 64, 96)
    labels_of_model = model.segment(image)
    assert labels_of_model.dtype == torch.uint8
    assert float((labels_of_model == logits.argmax(dim=1)).float().mean()) > 0.999


def test_a_checkpoint_can_name_a_network_of_torchvision() -> None:
    network = {
        "class_path": "deformsample.networks.TorchvisionNetwork",
        "init_args": {"name": "lraspp_mobilenet_v3_large", "num_classes": 3, "weights": "hub"},
    }
    architecture = {
        "class_path": "deformsample.segmenters.TiledSegmenter",
        "init_args": {"network": network, "network_multiple": 32},
    }
    segmenter = build_part(Segmenter, architecture, "a test").eval()  # downloads nothing
    assert segmenter.segment(torch.rand(1, 3, 40, 50)).shape == (1, 40, 50)
    with pytest.raises(ArgumentError, match=naming("resnet18")):
        TorchvisionNetwork("resnet18", 3)


class Constant(nn.Module):
    """The same logits for all images, in a form of output."""

    def __init__(self, form: Callable[[Tensor], object], logits: Tensor) -> None:
        super().__init__()
        self.form = form
        self.register_buffer("logits", logits[None])

    def forward(self, image: Tensor) -> object:
        return self.form(self.logits.expand(len(image), -1, -1, -1))  # type: ignore[operator]


FORMS: dict[str, Callable[[Tensor], object]] = {
    "a tensor": lambda logits: logits,
    "torchvision": lambda logits: {"out": logits, "aux": logits[:, :1]},
    "transformers": lambda logits: SimpleNamespace(logits=logits),
}


@pytest.mark.parametrize("form", FORMS)
def test_coarse_logits_are_interpolated_from_corner_to_corner(form: str) -> None:
    logits = torch.tensor([[[0.0, 4.0], [8.0, 12.0]], [[-2.0, -2.0], [-2.0, -2.0]]])
    network = Constant(FORMS[form], logits)
    model = deformsample.segmenter(network, (3, 5), sampler=UniformSampler()).eval()
    expected = torch.tensor([[0.0, 1, 2, 3, 4], [4, 5, 6, 7, 8], [8, 9, 10, 11, 12]])
    result = model(torch.rand(1, 3, 3, 5))
    torch.testing.assert_close(result[0, 0], expected)
    torch.testing.assert_close(result[0, 1], torch.full((3, 5), -2.0))
    rows, columns = torch.linspace(0, 8, 5)[:, None], torch.linspace(0, 4, 9)
    torch.testing.assert_close(model(torch.rand(1, 3, 5, 9))[0, 0], rows + columns)


def test_defaults_are_those_of_the_config() -> None:
    config = yaml.safe_load((configs_folder() / "method" / "learned.yaml").read_text())["model"]
    arguments = config["segmenter"]["init_args"]["downsampler"]
    given = arguments["sampler"]["init_args"]
    model = deformsample.segmenter(tiny())
    downsampler, loss = model.segmenter.downsampler, model.criterion
    assert isinstance(loss, FullResolutionLoss)
    assert isinstance(loss.density, BoundaryKLLoss)
    sampler: Any = downsampler.sampler
    assert isinstance(sampler.grid, TransportGrid)
    widths = given["network"]["init_args"]["widths"]
    assert repr(sampler.network) == repr(UNet(num_classes=1, widths=widths))
    expected = config["loss"]["init_args"]
    assert [
        downsampler.lod_bias,
        downsampler.sample_gradient,
        sampler.grid.minimum,
        loss.points_per_sample,
        loss.grid_gradient,
        type(loss.pixel_loss.aux_loss).__name__,
        loss.density.weight,
    ] == [
        arguments["lod_bias"],
        arguments["sample_gradient"],
        given["grid"]["init_args"]["minimum"],
        expected["points_per_sample"],
        expected["grid_gradient"],
        expected["aux_loss"]["class_path"].rpartition(".")[2],
        expected["density"]["init_args"]["weight"],
    ]


def test_a_plain_training_loop_lowers_the_loss() -> None:
    image, labels = example()
    model = deformsample.segmenter(tiny(), 600)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = model.loss(image, labels)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


def test_it_is_part_of_a_lightning_module(tmp_path: Path) -> None:
    class Task(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = deformsample.segmenter(tiny(), (16, 24))

        def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
            loss: Tensor = self.model.loss(*batch)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters())

    image, labels = example()
    data = DataLoader(TensorDataset(image, labels), batch_size=2)
    task = Task()
    before = [p.detach().clone() for p in task.parameters()]
    trainer = pl.Trainer(
        max_steps=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(task, data)
    assert any(
        not torch.equal(old, new) for old, new in zip(before, task.parameters(), strict=True)
    )


def test_saved_models_give_equal_results(tmp_path: Path) -> None:
    image, _ = example()
    options: dict[str, Any] = {"network_multiple": 8, "lod_bias": None, "thumbnail_scale": 0.5}
    model = deformsample.segmenter(tiny(), (17, 25), classes=["a", "b", "c"], **options)
    model.save(tmp_path / "model")
    assert sorted(file.name for file in (tmp_path / "model").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    again = deformsample.segmenter(tiny()).load(tmp_path / "model")
    assert torch.equal(again.eval()(image), model.eval()(image))
    assert (again.classes, again.num_classes) == (["a", "b", "c"], 3)
    budget = deformsample.segmenter(tiny(), 600)
    budget.save(tmp_path / "budget")
    assert again.load(tmp_path / "budget")(image).shape == (2, 3, 64, 96)
    assert again.segmenter.downsampler.sampled_size == 600
    assert torch.equal(again(image), budget.eval()(image))


def test_images_are_segmented_in_their_own_form(tmp_path: Path) -> None:
    image, _ = example()
    model = deformsample.segmenter(tiny(), (16, 24)).train()
    model.segmenter.network[1].eval()  # type: ignore[index]
    batch = model.segment(image)
    assert (batch.shape, batch.dtype) == ((2, 64, 96), torch.uint8)
    assert torch.equal(model.segment(image[0]), batch[0])
    pixels = image[0].permute(1, 2, 0).numpy()
    for given in (pixels, save(tmp_path / "a.png", pixels)):
        labels = model.segment(given)
        assert isinstance(labels, np.ndarray)
        assert np.array_equal(labels, batch[0].numpy())
    assert model.training  # all modes are as before
    assert not model.segmenter.network[1].training  # type: ignore[index]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_it_can_be_compiled(backend: str) -> None:
    image, labels = example()
    torch._dynamo.reset()
    model = deformsample.segmenter(tiny(), (16, 24)).eval()
    logits = torch.compile(model, backend=backend)(image)
    torch.testing.assert_close(logits, model(image), rtol=1e-4, atol=1e-4)
    loss = torch.compile(model.loss, backend=backend)(image, labels)
    torch.testing.assert_close(loss, model.loss(image, labels), rtol=1e-4, atol=1e-4)
    loss.backward()
    for part in (model.segmenter.downsampler, model.segmenter.network):
        assert any(p.grad is not None and bool(p.grad.any()) for p in part.parameters())


def test_weights_by_class_name_reach_the_loss() -> None:
    image, labels = example()
    density = BoundaryKLLoss(important={"c": 3.0})
    loss = FullResolutionLoss(density=density)
    model = deformsample.segmenter(tiny(), (16, 24), classes=["a", "b", "c"], loss=loss)
    assert bool(model.loss(image, labels).isfinite())
    factors = density.factors(torch.device("cpu"))
    assert factors is not None
    torch.testing.assert_close(factors, torch.tensor([0.6, 0.6, 1.8]))
    balanced = FullResolutionLoss(density=BoundaryKLLoss(class_weights="balanced"))
    with pytest.raises(ArgumentError, match=naming("balanced", "prepare")):
        deformsample.segmenter(tiny(), classes=["a", "b", "c"], loss=balanced)


def test_what_cannot_be_used_is_named() -> None:
    image, labels = example()
    with pytest.raises(ArgumentError, match=naming("network", "function")):
        deformsample.segmenter(F.relu)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=naming("network_multiple", 0)):
        deformsample.segmenter(tiny(), network_multiple=0)
    with pytest.raises(ArgumentError, match=naming("classes", 3, ["a", "b"])):
        deformsample.segmenter(tiny(), num_classes=3, classes=["a", "b"])
    with pytest.raises(ArgumentError, match=naming("Flatten", (2, 288))):
        deformsample.segmenter(nn.Flatten(), (8, 12))(image)
    outputs = Constant(lambda logits: {"masks": logits}, torch.zeros(3, 8, 12))
    with pytest.raises(ArgumentError, match=naming("Constant", "dict")):
        deformsample.segmenter(outputs, (8, 12))(image)
    with pytest.raises(ArgumentError, match=naming("Sequential", 5, 3)):
        deformsample.segmenter(tiny(), (8, 12), num_classes=5).loss(image, labels)
    model = deformsample.segmenter(tiny(), (8, 12))
    with pytest.raises(ArgumentError, match=naming("image", torch.int64)):
        model(image.long())
    with pytest.raises(ArgumentError, match=naming("image", (3, 64, 96))):
        model.loss(image[0], labels)
    with pytest.raises(ArgumentError, match=naming("labels", (2, 64, 96), (2, 50, 96))):
        model.loss(image, labels[:, :50])
    with pytest.raises(ArgumentError, match=naming("labels", torch.float32)):
        model.loss(image, labels.float())
    for class_id in (3, -100):
        with pytest.raises(ArgumentError, match=naming("labels", class_id)):
            model.loss(image, torch.full((2, 64, 96), class_id))


OPTIONS: dict[str, Any] = {
    "another file": lambda content: {"format": 2, "classes": ["a"]},
    "another type": lambda content: [content],
    "a number": lambda content: change(content, network_multiple="many"),
    "zero": lambda content: change(content, network_multiple=0),
    "a size": lambda content: change(content, downsampler={"sampled_size": [1, 8]}),
    "a class": lambda content: change(content, downsampler={"class_path": "os.system"}),
    "more": lambda content: change(content, more=1),
    "a sampler": lambda content: change(content, sampler="UniformSampler"),
}


def change(content: dict[str, Any], **options: object) -> dict[str, Any]:
    (kind,) = content.keys() - {"format"}
    return {**content, kind: {**content[kind], **options}}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    deformsample.segmenter(tiny(), (8, 12)).save(folder)
    return folder


@pytest.mark.parametrize("name", OPTIONS)
def test_options_that_cannot_be_used_name_the_folder(
    name: str, saved: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(saved, tmp_path / "changed"))
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(OPTIONS[name](content)))
    model = deformsample.segmenter(tiny(), (8, 12))
    with pytest.raises(CheckpointError, match=naming(folder)):
        model.load(folder)


def test_weights_that_cannot_be_used_name_the_folder(saved: Path, tmp_path: Path) -> None:
    model: TrainableSegmenter = deformsample.segmenter(tiny(), (8, 12))
    with pytest.raises(CheckpointError, match=naming(tmp_path / "none")):
        model.load(tmp_path / "none")
    with pytest.raises(CheckpointError, match=naming(saved)):
        deformsample.segmenter(nn.Conv2d(3, 3, 1)).load(saved)
    with pytest.raises(CheckpointError, match=naming(saved)):
        deformsample.load(saved)
    folder = Path(shutil.copytree(saved, tmp_path / "damaged"))
    (folder / "model.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match=naming(folder)):
        model.load(folder)
