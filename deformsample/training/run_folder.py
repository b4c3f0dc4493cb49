"""The folder of a run: a new one, or that of a run to resume."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from pytorch_lightning import Callback
from pytorch_lightning.callbacks import ModelCheckpoint

from deformsample.errors import ArgumentError, WriteError

LAST = "last"
"""Value of ``--ckpt_path`` that resumes the run in the folder of ``--output``."""


@contextmanager
def run_folder(output: str | None, runs: Path, *, resume: bool) -> Iterator[Path]:
    """A folder that no other run writes to as long as this context lasts.

    Args:
        output: as the user says; ``None`` for the next ``version_K``.
        runs: where that is made.
        resume: the folder may hold a run, which continues.

    Raises:
        ArgumentError: another run is at work there, or it holds files that must not be there.
        WriteError: it cannot be made or written to.
    """
    if resume and output is None:
        raise ArgumentError(
            "Expected `--output FOLDER` beside `--ckpt_path last`, to know which run to resume."
        )
    first = is_first_process()
    folder = Path(output).expanduser() if output is not None else _numbered(runs, make=first)
    if not first:
        yield folder
        return
    with folder_lock(folder):
        _check_content(folder, resume=resume)
        _remove_cut_off(folder)
        yield folder


def is_first_process() -> bool:
    """Whether this is the only process of the run, or the first of several."""
    ranks = ("RANK", "SLURM_PROCID", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK")
    return all(os.environ.get(name, "0") == "0" for name in ranks)


def last_checkpoint(folder: Path, callbacks: Iterable[Callback]) -> Path | None:
    """The newest ``last.ckpt`` of a run, or ``None`` before its first.

    Args:
        folder: of the run.
        callbacks: of its trainer.

    Raises:
        ArgumentError: none of the callbacks writes such checkpoints.
    """
    writers = [
        callback
        for callback in callbacks
        if isinstance(callback, ModelCheckpoint)
        and (callback.save_last or str(callback.filename).startswith(LAST))
    ]
    if not writers:
        raise ArgumentError(
            "Expected a ModelCheckpoint with `filename: last` in `trainer.callbacks`, for "
            "`--ckpt_path last` to resume from, but found none."
        )
    folders = {Path(writer.dirpath or folder / "checkpoints") for writer in writers}
    files = [file for folder in folders for file in folder.glob(f"{LAST}*.ckpt")]
    return max(files, key=lambda file: file.stat().st_mtime, default=None)


def _numbered(runs: Path, *, make: bool) -> Path:
    taken = [
        int(folder.name.removeprefix("version_"))
        for folder in runs.glob("version_*")
        if folder.name.removeprefix("version_").isdigit()
    ]
    for number in count(max(taken, default=-1) + 1):
        folder = runs / f"version_{number}"
        try:
            if make:
                folder.mkdir(parents=True)
        except FileExistsError:  # another run was quicker
            continue
        except OSError as error:
            raise WriteError(f"Expected to make {folder}, but: {error.strerror}.") from error
        return folder
    raise AssertionError


def _check_content(folder: Path, *, resume: bool) -> None:
    names = {file.name for file in folder.iterdir()} - {LOCK}
    if names and not resume:
        raise ArgumentError(
            f"Expected `--output` to be a new or empty folder, but {folder} holds files, which a "
            "new run would overwrite: choose another, remove it, or resume its run by "
            "`--ckpt_path last`."
        )
    of_a_run = {"config.yaml", "checkpoints"} & names or any("tfevents" in name for name in names)
    if names and resume and not of_a_run:
        raise ArgumentError(
            "Expected `--output` to be the folder of a run to resume, or a new one, but "
            f"{folder} holds other files: choose another."
        )


def _remove_cut_off(folder: Path) -> None:
    """Remove what killed processes had begun to write."""
    for place in (folder, folder / "checkpoints"):
        for file in place.glob(".*.partial*"):
            file.unlink(missing_ok=True)


LOCK = ".lock"
"""File in a folder that a run writes to; it says nothing by being there."""


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder, on this machine or, where it is shared, on others.

    The lock is the system's own (POSIX), on a file in the folder: it ends with the process, however
    that ends, so that what is left of a killed one does not stand in the way. Where the system or
    the file system knows no such locks, none is taken.

    Args:
        folder: made where there is none.

    Raises:
        ArgumentError: another process has it.
        WriteError: it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("a")
    except OSError as error:
        raise WriteError(
            f"Expected to write to {folder}, but: {error.strerror}. Choose another `--output`."
        ) from error
    with file:
        try:
            import fcntl

            # Not `flock`: processes that read images would hold it for some seconds longer.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise ArgumentError(
                f"Expected a folder that no other run writes to, but one is at work in {folder}: "
                "wait until it ends, or choose another `--output`."
            ) from None
        except (ImportError, OSError):
            pass
        yield
