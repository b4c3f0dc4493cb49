"""Healthy, diabetic retinopathy or glaucoma: cross-validation of whole-image classifiers on HRF.

    python benchmarks/hrf_disease.py --root data/hrf --output runs/hrf_disease

Every image is scored once, by the model that has not seen its number; accuracy and area under the
ROC curve are of these scores of all folds together. One small network for all ways to look at an
image, from random weights. Models are those of the last epoch: nothing is chosen by any split.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import math
import sys
from pathlib import Path

import torch

from deformsample.cli.main import main as deformsample
from deformsample.metrics.scores import ClassificationMetrics

METHODS = {
    "uniform": ["uniform"],
    "learned": ["learned"],
    "tiles": ["mean", "majority", "maximum"],
    "streamed": ["streamed"],
}
"""The aggregations to measure, by trained method."""

CLASSES = ["healthy", "diabetic retinopathy", "glaucoma"]


def main() -> None:
    """Train missing runs, and print the table."""
    options = _options()
    torch.set_num_threads(options.threads)
    print("| method | accuracy | 95 % interval | AUROC | " + " | ".join(CLASSES) + " |")
    print("|---|---|---|---|" + "---|" * len(CLASSES))
    for method in options.method:
        files = [score(method, fold, options) for fold in range(options.folds)]
        for rule in METHODS[method]:
            rows = [row for scored in files for row in read(scored[rule])]
            print(table_row(method if rule == method else f"{method}, {rule}", rows), flush=True)


def score(method: str, fold: int, options: argparse.Namespace) -> dict[str, Path]:
    """Train on all but two folds, and score one of them; the CSV of each rule."""
    run = options.output / method / f"fold_{fold}"
    last = run / "train" / "checkpoints" / "last.ckpt"
    common = [
        *("--config=hrf_disease.yaml", f"--config=classification/{method}.yaml"),
        *(f"--data.root={options.root}", f"--data.level={options.level}"),
        f"--data.splitter.count={options.folds}",
        f"--data.splitter.fold={fold}",
        f"--data.cache={options.cache}",
        *("--data.num_workers=0", "--data.batch_size=3"),
        "--model.classifier.network=deformsample.networks.ConvClassifier",
        "--model.classifier.network.widths=[16,32,64,128,128]",
        f"--model.scheduler.T_max={options.epochs}",
        f"--trainer.max_epochs={options.epochs}",
        f"--trainer.check_val_every_n_epoch={options.epochs}",
        *("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"),
    ]
    if not last.is_file():
        call("fit", *common, f"--output={run / 'train'}")
    files = {}
    for rule in METHODS[method]:
        files[rule] = run / rule / "scores.csv"
        aggregation = [f"--model.classifier.aggregation={rule}"] if method == "tiles" else []
        if not files[rule].is_file():
            options_of_run = [f"--ckpt_path={last}", f"--output={files[rule].parent}"]
            call("predict", *common, *aggregation, *options_of_run)
    return files


def call(*arguments: str) -> None:
    """Run the command line; standard output is for the table."""
    with contextlib.redirect_stdout(sys.stderr):
        code = deformsample(list(arguments))
    if code:
        raise SystemExit(code)


def read(file: Path) -> list[tuple[int, list[float]]]:
    """The true class, by the letters in the name, and the probabilities of each image."""
    letters = {"h": 0, "dr": 1, "g": 2}
    with file.open() as lines:
        return [
            (letters[Path(row["path"]).stem.split("_")[1]], [float(row[x]) for x in CLASSES])
            for row in csv.DictReader(lines)
        ]


def table_row(name: str, rows: list[tuple[int, list[float]]]) -> str:
    """Metrics of all images."""
    of = measured(rows)
    low, high = interval(of["accuracy"], len(rows))
    areas = " | ".join(f"{of[f'auroc/{name}']:.2f}" for name in CLASSES)
    return (
        f"| {name} | {of['accuracy']:.2f} | {low:.2f} to {high:.2f} | {of['auroc']:.2f} | {areas} |"
    )


def measured(rows: list[tuple[int, list[float]]]) -> dict[str, float]:
    """Accuracy and areas under the ROC curve, of all folds together."""
    metrics = ClassificationMetrics(CLASSES)
    metrics.update(torch.tensor([x for _, x in rows]).log(), torch.tensor([k for k, _ in rows]))
    return {name: float(value) for name, value in metrics.compute().items()}


def interval(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of images."""
    z = 1.96
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    spread = math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    half = z * spread / (1 + z * z / count)
    return middle - half, middle + half


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--root", type=Path, default=Path("data/hrf"))
    parser.add_argument("--output", type=Path, default=Path("runs/hrf_disease"))
    parser.add_argument("--cache", type=Path, default=Path("runs/hrf_disease/cache"))
    parser.add_argument("--method", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--level", type=int, default=2, help="number of halvings of images")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
