"""Messages of invalid options."""

import pytest

from deformsample.cli.main import main


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            "--model.segmenter.network.name=hrnet_w1",
            "Invalid `model.segmenter.network.name`: Expected one of ['hrnet_w18_small', ",
        ),
        ("--model.loss.densty=1", "Invalid `model.loss`: Option 'densty' is not accepted"),
        ("--trainer.max_epochs=many", "Invalid `trainer.max_epochs`: "),
    ],
)
def test_invalid_options_are_named_with_their_whole_key(
    option: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "--config", "cityscapes.yaml", option]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert message in error
    assert "class_path" not in error
