from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from deformsample.errors import ArgumentError
from deformsample.networks import DeformationNet, HRNet


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


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"no file .*missing\.pth"):
        HRNet(3, weights=str(tmp_path / "missing.pth"))


def test_an_unreachable_hub_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no route to the hub")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ArgumentError, match=r"'hub'.*no route to the hub.*`weights: PATH`"):
        HRNet(3, weights="hub")
