"""Files are written whole or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from deformsample.errors import WriteError
from deformsample.files.writing import atomic_write
from tests.helpers import naming


def write_half(target: Path, failure: Exception) -> None:
    with atomic_write(target) as partial:
        partial.write_text("half")
        raise failure


def test_the_target_appears_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.txt"
    with atomic_write(target) as partial:
        partial.write_text("half")
        assert partial.suffix == ".txt"
        assert not target.exists()
    assert target.read_text() == "half"
    assert [file.name for file in target.parent.iterdir()] == ["a.txt"]


def test_two_writers_do_not_mix(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    with atomic_write(target) as one, atomic_write(target) as other:
        one.write_text("one")
        other.write_text("other")
    assert target.read_text() == "one"  # the last one that ended


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("before")
    with pytest.raises(KeyError):
        write_half(target, KeyError())
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(WriteError, match=naming(target, "No space left on device")):
        write_half(target, full)
    assert target.read_text() == "before"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(WriteError, match=naming(tmp_path / "file" / "a.txt")),
        atomic_write(tmp_path / "file" / "a.txt") as partial,
    ):
        partial.write_text("never")
