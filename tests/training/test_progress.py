"""Progress in log files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pytorch_lightning import Trainer
from pytorch_lightning.demos.boring_classes import BoringModel

from deformsample.cli.train import main
from deformsample.training.progress import LineProgress
from tests.helpers import SMALL


def test_a_log_file_has_a_line_per_epoch(
    folder_tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [f"--data.root={folder_tree}", f"--output={tmp_path / 'run'}"]
    epochs = ["--trainer.max_epochs=3", "--trainer.check_val_every_n_epoch=2"]
    shown = ["--trainer.enable_progress_bar=true"]
    assert main(["--config", "folder.yaml", *folders, *SMALL, *epochs, *shown]) == 0
    out = capsys.readouterr().out
    lines = re.findall(r"^epoch \d of 3: train/loss \d.*$", out, re.MULTILINE)
    assert ["val/miou" in line for line in lines] == [False, True, False]
    assert "\r" not in out
    assert "LineProgress" not in (tmp_path / "run" / "config.yaml").read_text()


def test_long_epochs_have_lines(capsys: pytest.CaptureFixture[str]) -> None:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    options = {**quiet, "limit_train_batches": 2, "limit_val_batches": 3, "max_epochs": 1}
    trainer = Trainer(accelerator="cpu", callbacks=[LineProgress(0)], **options)  # type: ignore[arg-type]
    trainer.fit(BoringModel())
    printed = capsys.readouterr().out.splitlines()
    expected = [f"epoch 1 of 1: batch {n} of 2" for n in (1, 2)]
    expected += [f"validation: batch {n} of 3" for n in (1, 2, 3)]
    assert [line for line in printed if "batch" in line][-5:] == expected
