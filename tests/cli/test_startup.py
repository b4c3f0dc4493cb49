"""What commands import, by the modules of a process that ran them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from deformsample.cli.main import COMMANDS, main
from deformsample.cli.restore import as_pixels
from deformsample.conventions import Pixels
from deformsample.files.images import read_image
from deformsample.files.sampled_png import read_sampled
from deformsample.geometry import unwarp
from deformsample.inference.inputs import as_batch
from deformsample.samplers import image_source
from tests.helpers import save

_RUN = """
import sys
from deformsample.cli.main import main
try:
    code = main(sys.argv[1:])
finally:
    print(*sys.modules, file=sys.stderr)
sys.exit(code)
"""


def modules_of(*arguments: str) -> set[str]:
    """Names of all that a command imports."""
    command = [sys.executable, "-c", _RUN, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("arguments", ["--version", "--help", *(f"{c} --help" for c in COMMANDS)])
def test_help_imports_no_library_that_starts_slowly(arguments: str) -> None:
    loaded = modules_of(*arguments.split())
    slow = {"torch", "numba", "matplotlib", "jsonargparse", "pytorch_lightning", "cv2"}
    assert sorted(loaded & slow) == []


def test_only_the_named_command_is_imported() -> None:
    others = {f"deformsample.cli.{name}" for name in (*COMMANDS, "train")}
    assert modules_of("info", "--help") & others == {"deformsample.cli.info"}


def test_the_package_imports_nothing_by_itself() -> None:
    command = [sys.executable, "-c", "import deformsample, sys; print(*sys.modules)"]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "deformsample.inference"} & set(loaded)


@pytest.fixture
def downsampled(image: Pixels, tmp_path: Path) -> Path:
    source = str(save(tmp_path / "photo.png", image))
    arguments = ["downsample", "detail", source, "--pixels", "600"]
    assert main([*arguments, "--output", str(tmp_path / "small")]) == 0
    return tmp_path / "small" / "photo.png"


def test_restore_imports_no_torch(downsampled: Path, tmp_path: Path) -> None:
    target = tmp_path / "restored"
    loaded = modules_of("restore", str(downsampled), "--output", str(target))
    assert "deformsample.kernels" in loaded
    assert "torch" not in loaded
    assert (target / "photo.png").is_file()


def test_restore_writes_the_pixels_of_unwarp(downsampled: Path, tmp_path: Path) -> None:
    assert main(["restore", str(downsampled), "--output", str(tmp_path / "restored")]) == 0
    sampled = read_sampled(downsampled)
    small = as_batch(sampled.pixels).float() / 255
    restored = unwarp(small, torch.from_numpy(sampled.grid)[None], sampled.size)[0]
    expected = image_source.as_pixels(restored)
    assert np.array_equal(read_image(tmp_path / "restored" / "photo.png"), expected)


def test_pixels_are_rounded_as_tensors_are() -> None:
    halves = (torch.arange(-2, 514, dtype=torch.float32) / 510).expand(3, 2, -1)
    values = torch.cat((halves, torch.rand(3, 2, 4096)), dim=2)
    assert np.array_equal(as_pixels(values.numpy()), image_source.as_pixels(values))


def test_segment_imports_neither_training_nor_plotting(
    small_checkpoint: Path, image: Pixels, tmp_path: Path
) -> None:
    photo, target = save(tmp_path / "photo.png", image), tmp_path / "labels"
    loaded = modules_of("segment", str(small_checkpoint), str(photo), "--output", str(target))
    assert (target / "photo.png").is_file()
    unneeded = {"pytorch_lightning", "lightning_fabric", "matplotlib", "deformsample.data"}
    unneeded |= {"timm", "torchvision", "segmentation_models_pytorch", "torch._dynamo"}
    assert sorted(loaded & unneeded) == []
