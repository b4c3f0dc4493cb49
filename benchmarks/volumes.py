"""Whole slices against tiles on magnetic resonance volumes (Reina and Panchumarthy 2018).

    pip install nilearn
    python benchmarks/volumes.py

The volumes of BraTS cannot be passed on. These are of the MNI152 head that nilearn comes with (T1,
the mean of 152 people; Fonov et al. 2011), cut into slabs of ten slices that stand for patients,
with grey and white matter as classes. Neighbouring slabs are much alike, so accuracies say nothing
of other heads: they compare two ways to infer by one network.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import yaml
from nilearn import datasets

_THICKNESS = 10
_DATASET = {
    "class_path": "deformsample.data.Nifti",
    "init_args": {
        "classes": {"background": [0, 0, 0], "grey": [230, 159, 0], "white": [86, 180, 233]},
        "values": {"background": [0], "grey": [1], "white": [2]},
        "image": "*_t1.nii.gz",
    },
}


def write_volumes(folder: Path) -> None:
    """Slabs of the head, in the layout of BraTS: ``PATIENT/*_t1.nii.gz`` and ``*_seg.nii.gz``."""
    head, grey, white = (
        np.asarray(load(resolution=1).dataobj, np.float32)
        for load in (
            datasets.load_mni152_template,
            datasets.load_mni152_gm_template,
            datasets.load_mni152_wm_template,
        )
    )
    tissue = np.stack([1 - grey - white, grey, white]).argmax(axis=0).astype(np.uint8)
    # One more slice of air on each side: 240 x 240, as in BraTS.
    rim = [((240 - side) // 2, (241 - side) // 2) for side in head.shape[:2]] + [(0, 0)]
    head, tissue = np.pad(head, rim), np.pad(tissue, rim)
    inside = np.flatnonzero((tissue > 0).any(axis=(0, 1)))
    for number, first in enumerate(range(inside[0], inside[-1] + 2 - _THICKNESS, _THICKNESS)):
        patient = folder / f"slab_{number:02}"
        patient.mkdir(parents=True, exist_ok=True)
        for name, values in (("t1", head), ("seg", tissue)):
            slab: Any = nibabel.Nifti1Image(values[..., first : first + _THICKNESS], np.eye(4))
            slab.to_filename(patient / f"{patient.name}_{name}.nii.gz")


def main() -> None:
    """Write the volumes, train, and compare."""
    options = _options()
    volumes, run = options.output / "volumes", options.output / "run"
    if not volumes.is_dir():
        write_volumes(volumes)
    config = options.output / "volumes.yaml"
    config.write_text(yaml.safe_dump({"data": {"dataset": _DATASET}}, sort_keys=False))
    if not (run / "checkpoints" / "last.ckpt").is_file():
        _call(
            *("fit", "--config=brats.yaml", f"--config={config}", f"--data.root={volumes}"),
            *("--config=method/tiled_paper.yaml", "--model.optimizer.lr=0.001"),
            *("--data.batch_size=8", "--data.num_workers=0", f"--output={run}"),
            f"--model.scheduler.T_max={options.epochs}",
            *(f"--trainer.max_epochs={options.epochs}", "--trainer.accelerator=cpu"),
            *(f"--trainer.check_val_every_n_epoch={options.epochs}",),
        )
    _call(
        *("tiles", str(run / "checkpoints" / "last.ckpt"), "--config", str(run / "config.yaml")),
        *("--tile", "64x64", "128x128", "--overlap", "0", "0.5", "0.75"),
        *("--output", str(options.output / "tiles")),
    )


def _call(*arguments: str) -> None:
    """Run a command in a separate process, since memory is measured."""
    subprocess.run([sys.executable, "-m", "deformsample", *arguments], check=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("runs/volumes"))
    parser.add_argument("--epochs", type=int, default=8)
    return parser.parse_args()


if __name__ == "__main__":
    main()
