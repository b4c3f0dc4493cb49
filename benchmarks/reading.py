"""Peak memory of reading one file, per pixel or voxel.

python benchmarks/reading.py
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel
import numpy as np
import torch
from PIL import Image

from deformsample.data import Nifti
from deformsample.evaluation.cost import memory_in_use, peak_memory
from deformsample.files.images import read_image

SIDE = 8000
DEPTH = 300


def write_image(folder: Path) -> None:
    """A PNG of one colour."""
    Image.new("RGB", (SIDE, SIDE)).save(folder / "image.png")


def take_image(folder: Path) -> None:
    """Read it."""
    read_image(folder / "image.png")


def write_volumes(folder: Path) -> None:
    """A patient of BraTS, with numbers of 64 bits."""
    voxels = np.ones((DEPTH, DEPTH, DEPTH), np.float64)
    for name in ("flair", "seg"):
        image = nibabel.Nifti1Image(voxels, np.eye(4))
        image.to_filename(folder / f"patient_{name}.nii")


def dataset(folder: Path) -> Nifti:
    """The data set of the one patient."""
    classes = {"background": (0, 0, 0), "tumour": (255, 0, 0)}
    return Nifti(str(folder), classes, {"background": [0], "tumour": [1]})


def take_volume(folder: Path) -> None:
    """Read one slice, for which the volume is decoded."""
    data = dataset(folder)
    data.read_image(data.samples()[0])


def take_labels(folder: Path) -> None:
    """Read the labels of one slice, for which their volume is decoded."""
    data = dataset(folder)
    data.read_labels(data.samples()[0])


def megabytes(take: Callable[[Path], None], folder: Path) -> float:
    """The peak memory above that at rest."""
    cpu = torch.device("cpu")
    return peak_memory(lambda: take(folder), cpu, memory_in_use(cpu))["megabytes"]


def main() -> None:
    """Print a Markdown table."""
    print("| what | bytes for each pixel or voxel |\n|---|---|")
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_image(folder)
        write_volumes(folder)
        for what, take, count in (
            (f"PNG of {SIDE} x {SIDE}", take_image, SIDE**2),
            (f"NIfTI of {DEPTH}^3, as an image", take_volume, DEPTH**3),
            (f"NIfTI of {DEPTH}^3 float64, as labels", take_labels, DEPTH**3),
        ):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                taken = pool.submit(megabytes, take, folder).result()
            print(f"| {what} | {taken * 1e6 / count:.1f} |")


if __name__ == "__main__":
    main()
