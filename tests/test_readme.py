"""The README's Python runs as it stands."""

import re
import shutil
from pathlib import Path

import pytest

from deformsample.data.images import Pixels
from tests.conftest import save

README = Path(__file__).parents[1] / "README.md"


def test_python_of_the_readme_runs(
    checkpoint: Path, image: Pixels, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(checkpoint, in_tmp / "last.ckpt")
    save(in_tmp / "street.png", image)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, str(README), "exec"), {})
    assert "['background', 'object'] (70, 110) (1, 3, 16, 24)" in capsys.readouterr().out


def test_every_config_that_the_readme_names_is_shipped() -> None:
    named = set(re.findall(r"`((?:method/)?\w+\.yaml)`", README.read_text()))
    configs = README.parent / "configs"
    shipped = {str(file.relative_to(configs)) for file in configs.rglob("*.yaml")}
    assert named == shipped - {"trainer.yaml"} | (named & {"config.yaml"})
