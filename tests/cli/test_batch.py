"""Progress and results of commands that process many images."""

from __future__ import annotations

import sys

import pytest

from deformsample.cli.batch import with_progress


@pytest.mark.parametrize(
    ("total", "shown"),
    [(9, []), (10, list(range(1, 11))), (25, [3, 5, 8, 10, 13, 15, 18, 20, 23, 25])],
)
def test_a_log_file_has_a_line_per_tenth(
    total: int, shown: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(with_progress(range(total), total, "images")) == list(range(total))
    expected = [f"images: {done} of {total}" for done in shown]
    assert capsys.readouterr().err.splitlines() == expected


def test_a_terminal_has_a_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert list(with_progress(range(20), 20, "images")) == list(range(20))
    err = capsys.readouterr().err
    assert "\r" in err
    assert "20/20" in err
