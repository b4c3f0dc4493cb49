import warnings
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn

from deformsample.errors import ArgumentError
from deformsample.networks import DeformationNet, HRNet, TimmUNet, UNet
from deformsample.networks.backbone import timm_model
from deformsample.networks.head import upsampling_head
from deformsample.samplers import Downsampler, UniformSampler
from deformsample.segmenters import SampledSegmenter
from tests.helpers import naming


def test_reference_module_has_the_published_number_of_parameters() -> None:
    net = DeformationNet((192, 192, 24))
    assert sum(p.numel() for p in net.parameters()) == 379_273


def test_deformation_net_keeps_any_size() -> None:
    net = DeformationNet().eval()
    for size in ((2, 3), (13, 40)):
        assert net(torch.rand(2, 3, *size)).shape == (2, 1, *size)


def test_a_flat_thumbnail_gives_flat_scores() -> None:
    scores = DeformationNet().eval()(torch.full((1, 3, 9, 9), 0.3))
    torch.testing.assert_close(scores, scores[:, :, :1, :1].expand_as(scores))


def test_empty_widths_are_named() -> None:
    with pytest.raises(ArgumentError, match="`widths`"):
        DeformationNet(())


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_hrnet_gives_logits_of_the_input_size(stride: int) -> None:
    net = HRNet(5, stem_stride=stride).eval()  # type: ignore[arg-type]
    seen: list[torch.Size] = []
    bn2: nn.Module = net.trunk.bn2
    bn2.register_forward_hook(lambda _, __, output: seen.append(output.shape[2:]))
    assert net(torch.rand(1, 3, 33, 50)).shape == (1, 5, 33, 50)
    height, width = (-(-side // (8 * stride)) * 8 for side in (33, 50))
    assert seen == [torch.Size((height, width))]


def test_hrnet_takes_weights_of_timm_from_a_file(tmp_path: Path) -> None:
    source = timm.create_model("hrnet_w18_small")
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    net = HRNet(3, stem_stride=1, weights=str(tmp_path / "weights.pth"))
    for name, value in net.trunk.state_dict().items():
        assert torch.equal(value, source.state_dict()[name]), name


def test_timm_unet_keeps_every_sample_and_takes_weights_from_a_file(tmp_path: Path) -> None:
    source = timm.create_model("tf_efficientnet_lite0", features_only=True)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    net = TimmUNet(4, weights=str(tmp_path / "weights.pth")).eval()
    for name, value in net.unet.encoder.model.state_dict().items():
        assert torch.equal(value, source.state_dict()[name]), name
    image = torch.rand(1, 3, 23, 30)
    assert net(image).shape == (1, 4, 45, 59)
    image[..., 11, 14] += 1  # one sample
    assert not torch.allclose(net(image), net(image.roll(1, dims=3)))
    with pytest.raises(ArgumentError, match=naming("strides", "convnext_atto")):
        TimmUNet(4, "convnext_atto")


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=naming(tmp_path / "missing.pth")):
        HRNet(3, weights=str(tmp_path / "missing.pth"))


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Names of models whose weights timm is asked to download; all weights are 0.5."""
    asked: list[str] = []
    create = timm.create_model

    def create_model(name: str, *, pretrained: bool = False, **options: Any) -> nn.Module:
        if pretrained and options.get("pretrained_cfg_overlay") is None:
            asked.append(name)
            half = {k: torch.full_like(v, 0.5) for k, v in create(name).state_dict().items()}
            torch.save(half, tmp_path / "download.pth")
            options["pretrained_cfg_overlay"] = {"file": str(tmp_path / "download.pth")}
        model: nn.Module = create(name, pretrained=pretrained, **options)
        return model

    monkeypatch.setattr(timm, "create_model", create_model)
    return asked


def test_weights_are_random_with_one_warning_if_the_hub_is_unreachable(
    downloads: list[str],
) -> None:
    with pytest.warns(UserWarning, match=naming("hrnet_w18_small", "weights=PATH")) as warned:
        net = HRNet(3, weights="auto")
    assert len(warned) == 1
    assert downloads == []
    torch.manual_seed(0)
    expected = HRNet(3).state_dict()
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match="random"):
        net = HRNet(3, weights="auto")
    assert all(torch.equal(value, expected[name]) for name, value in net.state_dict().items())
    with pytest.raises(ArgumentError, match=naming("'hub'", "hrnet_w18_small", "huggingface")):
        HRNet(3, weights="hub")


@pytest.mark.parametrize("weights", ["auto", "hub"])
def test_weights_of_the_hub(
    weights: str, downloads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: "a file")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net = HRNet(3, weights=weights)
    assert downloads == ["hrnet_w18_small"]
    assert all((value == 0.5).all() for value in net.trunk.parameters())


def test_weights_that_a_file_lacks_are_named(tmp_path: Path) -> None:
    weights = timm.create_model("hrnet_w18_small").state_dict()
    part = {name: value for name, value in weights.items() if not name.startswith("stage3.")}
    torch.save(part, tmp_path / "part.pth")
    with pytest.warns(UserWarning, match=naming("part.pth", "stage3")):
        HRNet(3, weights=str(tmp_path / "part.pth"))
    torch.save(
        {f"of.another.{name}": value for name, value in weights.items()}, tmp_path / "no.pth"
    )
    with pytest.raises(ArgumentError, match=naming("hrnet_w18_small", "no.pth")):
        HRNet(3, weights=str(tmp_path / "no.pth"))


@pytest.mark.parametrize("logit_upsampling", [1, 2, 3])
def test_unet_takes_any_size_and_refines_corner_to_corner(logit_upsampling: int) -> None:
    net = UNet(4, (8, 8, 8), logit_upsampling=logit_upsampling).eval()
    for height, width in ((17, 23), (16, 9)):
        logits = net(torch.rand(2, 3, height, width))
        expected = ((height - 1) * logit_upsampling + 1, (width - 1) * logit_upsampling + 1)
        assert logits.shape == (2, 4, *expected)


@pytest.mark.parametrize("stride", [2, 3, 4])
def test_a_stride_of_the_unet_skips_no_pixel_and_keeps_the_corners(stride: int) -> None:
    torch.manual_seed(0)
    net = UNet(2, (8, 8), stride=stride).eval()
    image = torch.rand(1, 3, 4 * stride + 1, 6 * stride + 1, requires_grad=True)
    logits = net(image)
    assert logits.shape == (1, 2, 5, 7)
    (gradient,) = torch.autograd.grad(logits.square().sum(), image)
    assert bool((gradient.abs().sum(dim=1) > 0).all())
    first = net.down[0].get_submodule("0")
    assert isinstance(first, torch.nn.Conv2d)
    torch.nn.init.zeros_(first.weight)
    torch.nn.init.ones_(first.weight[:, :, stride, stride])
    assert torch.allclose(first(image)[0, 0], image[0, :, ::stride, ::stride].sum(dim=0))


def test_a_stride_below_1_is_named() -> None:
    with pytest.raises(ArgumentError, match=naming("stride", 0)):
        UNet(2, (8, 8), stride=0)


def test_refined_logits_at_a_sample_depend_on_it_alone() -> None:
    head = upsampling_head(3, 2, 2)
    features = torch.rand(1, 3, 5, 6)
    changed = features.clone()
    changed[..., 2, 3] += 1
    where = (head(changed) - head(features)).abs().sum(dim=1)[0] > 1e-7
    assert bool(where[3:6, 5:8].all())
    where[3:6, 5:8] = False
    assert not bool(where.any())


def test_hrnet_refines_too() -> None:
    net = HRNet(3, stem_stride=1, logit_upsampling=2).eval()
    assert net(torch.rand(1, 3, 33, 50)).shape == (1, 3, 65, 99)
    with pytest.raises(ArgumentError, match=naming("logit_upsampling", 2, "stem_stride")):
        HRNet(3, stem_stride=2, logit_upsampling=2)


def test_pspnet_of_a_library_on_any_backbone_and_size() -> None:
    network = smp.PSPNet("tu-mobilenetv3_small_050", encoder_weights=None, classes=5)
    downsampler = Downsampler(UniformSampler(), (65, 90))
    segmenter = SampledSegmenter(downsampler, network, network_multiple=8).train()
    assert segmenter(torch.rand(1, 3, 130, 180)).logits.shape == (1, 5, 65, 90)


def test_an_unknown_backbone_is_named() -> None:
    with pytest.raises(ArgumentError, match=naming("'resnet19'")):
        timm_model("resnet19", None)


def test_dropout_of_a_unet_is_before_the_poolings_it_is_given_for() -> None:
    torch.manual_seed(0)
    net = UNet(2, (4, 4, 4), dropout=[0.0, 0.5])
    plain = UNet(2, (4, 4, 4))
    plain.load_state_dict(net.state_dict())
    image = torch.rand(1, 3, 16, 24)
    assert torch.equal(net.eval()(image), plain.eval()(image))
    pooled: list[Tensor] = []
    for level in net.train().down[1:]:
        level.register_forward_pre_hook(lambda _, given: pooled.append(given[0]))
    first: list[Tensor] = []
    net.down[0].register_forward_hook(lambda _m, _i, result: first.append(result))
    second: list[Tensor] = []
    net.down[1].register_forward_hook(lambda _m, _i, result: second.append(result))
    net(image)
    assert torch.equal(pooled[0], torch.nn.functional.max_pool2d(first[0], 2))
    assert not torch.equal(pooled[1], torch.nn.functional.max_pool2d(second[0], 2))


@pytest.mark.parametrize("dropout", [[0.1, 0.1], [1.0], [-0.1]])
def test_dropout_that_cannot_be_is_named(dropout: list[float]) -> None:
    with pytest.raises(ArgumentError, match=naming("dropout", dropout)):
        UNet(2, (4, 4), dropout=dropout)
