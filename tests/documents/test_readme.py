"""What the README and the pages of the documentation tell people to do works as it stands."""

import re
import shutil
from pathlib import Path

import pytest

from deformsample.cli.main import main
from deformsample.conventions import Pixels
from tests.documents.pages import DOCS, ROOT, blocks, commands, run_python
from tests.helpers import save

README = ROOT / "README.md"
PAGES = [
    README,
    *(
        DOCS / f"{name}.md"
        for name in ("alternatives", "index", "methods", "results", "training", "using")
    ),
]
"""Whose commands are tried, and which name the configs."""
QUICK = [
    "--model.segmenter.network=deformsample.networks.UNet",
    "--model.segmenter.network.widths=[4,4]",
    "--model.segmenter.downsampler.sampled_size=[16,24]",
    "--trainer.accelerator=cpu",
    "--trainer.devices=1",
    "--trainer.strategy=auto",
    "--trainer.precision=32-true",
    "--trainer.enable_progress_bar=false",
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=1",
    "--trainer.check_val_every_n_epoch=1",
    "--data.num_workers=0",
]
CLASSIFY = [
    "--model.classifier.downsampler.sampled_size=[16,24]",
    *(option for option in QUICK if not option.startswith("--model.")),
]
"""Makes any training of the documentation one of seconds."""


def test_python_of_the_readme_runs(
    image: Pixels, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(in_tmp / "photo.png", image)
    assert blocks(README, "python")
    for block in blocks(README, "python"):
        run_python(block, README)
    assert "['water', 'land'] (70, 110) (1, 3, 41, 24)" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["index", "using"])
def test_python_of_the_pages_runs(
    name: str, small_checkpoint: Path, image: Pixels, in_tmp: Path
) -> None:
    shutil.copy(small_checkpoint, in_tmp / "last.ckpt")
    save(in_tmp / "street.png", image)
    file = DOCS / f"{name}.md"
    assert blocks(file, "python")
    for block in blocks(file, "python"):
        run_python(block, file)


def test_yaml_is_a_config(
    folder_tree: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = DOCS / "training.md"
    assert blocks(file, "yaml")
    for block in blocks(file, "yaml"):
        (in_tmp / "own.yaml").write_text(block)
        configs = ["--config=folder.yaml", "--config=own.yaml", f"--data.root={folder_tree}"]
        with pytest.raises(SystemExit) as stop:
            main(["fit", *configs, "--print_config"])
        assert stop.value.code == 0
        assert "encoder_name: resnet18" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    "file", [page for page in PAGES if commands(page)], ids=lambda file: file.stem
)
def test_commands_run(
    file: Path,
    checkpoint: Path,
    small_checkpoint: Path,
    image: Pixels,
    cityscapes_tree: Path,
    hrf_tree: Path,
    folder_tree: Path,
    in_tmp: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copy(checkpoint, in_tmp / "last.ckpt")
    shutil.copytree(ROOT / "benchmarks", in_tmp / "benchmarks")
    shutil.copy(ROOT / "configs" / "folder.yaml", in_tmp / "mine.yaml")
    run = in_tmp / "RUN"
    shutil.copytree(checkpoint.parents[1], run)
    photos = [str(save(in_tmp / "photos" / f"{n}.jpg", image)) for n in range(2)]
    save(in_tmp / "street.png", image)
    paths = {
        "/data/cityscapes": str(cityscapes_tree),
        "/data/hrf": str(hrf_tree),
        "PATH": str(hrf_tree),
        "FOLDER": str(folder_tree),
    }
    made = 0
    for words in commands(file):
        words = [w for word in words for w in (photos if word == "photos/*.jpg" else [word])]
        words = [paths.get(word, word) for word in words]
        match words:
            case ["make", *targets]:
                made_by = (ROOT / "Makefile").read_text()
                assert all(f"\n{target}:" in made_by for target in targets)
                continue
            case ["python3", "-m", "venv", *_] | [".", *_] | ["pip", *_] | ["python", "-m", *_]:
                continue  # what runs this test has done these
            case ["python", "train.py", *rest] | ["deformsample", "fit", *rest]:
                if "--data.root" not in rest and "cityscapes.yaml" in rest:
                    rest = [*rest, "--data.root", str(cityscapes_tree)]
                if "--ckpt_path" in rest:  # its network is given by its own config
                    rest = [*rest, "--trainer.max_epochs=2"]
                elif any("classification/" in word for word in rest):
                    rest = [*rest, *CLASSIFY]
                elif "method/tiled.yaml" in rest:  # has no downsampler
                    rest = [*rest, *(option for option in QUICK if "downsampler" not in option)]
                else:
                    rest = [*rest, *QUICK]
                assert main(["fit", *rest]) == 0, words
            case ["deformsample", "benchmark", *rest]:
                assert main(["benchmark", *rest, "--report"]) == 1, words
                assert "`--report`" in capsys.readouterr().err
            case ["deformsample", "export", _, *rest]:  # small networks are written sooner
                assert main(["export", str(small_checkpoint), *rest]) == 0, words
            case ["deformsample", *rest]:
                assert main(rest) == 0, words
            case _:
                pytest.fail(f"nobody knows how to try {words}")
        made += 1
    assert made >= (4 if file == README else 1)


@pytest.mark.parametrize(
    "file",
    [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").glob("*.md")],
    ids=lambda file: file.name,
)
def test_links_to_files_lead_somewhere(file: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", file.read_text()):
        if "://" not in target and not target.startswith(("#", "mailto:")):
            assert (file.parent / target.split("#")[0]).exists(), target


def test_every_shipped_config_is_named() -> None:
    named = {
        name for page in PAGES for name in re.findall(r"`((?:\w+/)?\w+\.yaml)`", page.read_text())
    }
    named |= set(re.findall(r"`((?:\w+/)?\w+\.yaml)`", (DOCS / "classification.md").read_text()))
    configs = README.parent / "configs"
    shipped = {str(file.relative_to(configs)) for file in configs.rglob("*.yaml")}
    bases = {"trainer.yaml", "classification/trainer.yaml"}
    own = {name for name in named if name.startswith("benchmarks/")}
    assert all((ROOT / name).is_file() for name in own)
    assert named - own == shipped - bases | (named & {"config.yaml"})
