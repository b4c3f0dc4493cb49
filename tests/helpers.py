"""What several tests use: small images, and options of short runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import deformsample
from deformsample.conventions import Pixels

SMALL = [
    "--model.segmenter.network.name=hrnet_w18_small",
    "--model.segmenter.network.stem_stride=4",
    "--model.segmenter.network.logit_upsampling=1",
    "--model.segmenter.downsampler.sampled_size=[16,24]",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--data.num_workers=0",
    "--data.batch_size=2",
]


SHORT = ["--trainer.max_epochs=1", "--trainer.check_val_every_n_epoch=1"]
"""Options that make any config a run of seconds."""


def compute_as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tensors of the CPU take the code of other devices."""
    for name, module in list(sys.modules.items()):
        for question in ("is_readable", "is_constant"):
            if name.startswith("deformsample.") and hasattr(module, question):
                monkeypatch.setattr(module, question, lambda *_: False)


def triangle_areas(grid: Tensor) -> Tensor:
    """Twice the areas of the triangles of a grid's mesh, normalised; below 0 where it folds."""
    grid = grid.double()
    a, b, c, d = grid[:, :-1, :-1], grid[:, :-1, 1:], grid[:, 1:, :-1], grid[:, 1:, 1:]

    def area(p: Tensor, q: Tensor, r: Tensor) -> Tensor:
        u, v = q - p, r - p
        return u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]

    return torch.stack((area(a, b, c), area(d, c, b)), dim=-1)


def save(path: Path, pixels: Pixels) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def scene(number: int, height: int, width: int, classes: int) -> tuple[Pixels, Pixels]:
    """A noisy image of discs on a background, and its class ids."""
    random = np.random.default_rng(number)
    y, x = np.mgrid[:height, :width]
    ids = np.zeros((height, width), dtype=np.uint8)
    for k in range(1, classes):
        cy, cx, r = random.uniform(0, height), random.uniform(0, width), random.uniform(0.1, 0.3)
        ids[(y - cy) ** 2 + (x - cx) ** 2 < (r * height) ** 2] = k
    colours = np.array(
        [[40 + 200 * k // classes, 60 * k % 255, 250 - 90 * k % 200] for k in range(classes)]
    )
    image = colours[ids] + random.normal(0, 8, (height, width, 3))
    return image.clip(0, 255).astype(np.uint8), ids


TWO = {"background": (0, 0, 0), "object": (255, 255, 255)}


def naming(*parts: object) -> str:
    """A pattern of messages that name all of these as whole words, in any order."""
    found = (rf"(?=.*(?<!\w){re.escape(str(part))}(?!\w))" for part in parts)
    return "(?s)" + "".join(found)


def run_train(folder: Path, *arguments: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    script = Path(deformsample.__file__).parents[1] / "train.py"
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
