"""The code blocks and commands of a page."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

_FENCED = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
_COMMAND = re.compile(r"^    (\S.*)$", re.MULTILINE)


class Step(NamedTuple):
    """One thing that a page asks its reader to do."""

    kind: str
    """``command``, or the language of a block."""

    text: str


def steps(file: Path) -> Iterator[Step]:
    """The blocks of a page and the commands of its indented blocks, in order."""
    text = file.read_text()
    last = 0
    for block in _FENCED.finditer(text):
        yield from _commands(text[last : block.start()])
        yield Step(block[1], block[2])
        last = block.end()
    yield from _commands(text[last:])


def blocks(file: Path, language: str) -> list[str]:
    """The blocks of one language."""
    return [step.text for step in steps(file) if step.kind == language]


def commands(file: Path) -> list[list[str]]:
    """The words of every command."""
    return [words(step) for step in steps(file) if step.kind == "command"]


def words(command: Step) -> list[str]:
    """The words of a command, without its comment."""
    return shlex.split(command.text, comments=True)


def run_python(code: str, file: Path) -> None:
    """Run a block in a module of its own."""
    exec(compile(code, str(file), "exec"), {"__name__": "__page__"})


def _commands(text: str) -> Iterator[Step]:
    for line in _COMMAND.findall(text.replace("\\\n", " ")):
        yield Step("command", line)
