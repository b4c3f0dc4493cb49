"""The folder of a new or resumed run."""

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
    """The folder of a run, locked during this context.

    Args:
        output: folder from the user; ``None`` for the next ``version_K``.
        runs: parent folder of ``version_K``.
        resume: whether to resume the run in the folder.

    Raises:
        ArgumentError: another run uses the folder, or it contains other files.
        WriteError: the folder cannot be created or written to.
    """
    if resume and output is None:
        raise ArgumentError(
            "Expected `--output FOLDER` with `--ckpt_path last`: the folder of the run to resume."
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
    """The newest ``last.ckpt`` of a run, or ``None`` if there is none.

    Args:
        folder: folder of the run.
        callbacks: callbacks of its trainer.

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
    for version in count(max(taken, default=-1) + 1):
        folder = runs / f"version_{version}"
        try:
            if make:
                folder.mkdir(parents=True)
        except FileExistsError:  # another run created it first
            continue
        except OSError as error:
            raise WriteError(f"Cannot create {folder}: {error.strerror}.") from error
        return folder
    raise AssertionError


def _check_content(folder: Path, *, resume: bool) -> None:
    names = {file.name for file in folder.iterdir()} - {LOCK}
    if names and not resume:
        raise ArgumentError(
            f"Expected `--output` to be a new or empty folder, but {folder} has files that a new "
            "run would overwrite: choose another folder, remove it, or resume its run with "
            "`--ckpt_path last`."
        )
    of_a_run = {"config.yaml", "checkpoints"} & names or any("tfevents" in name for name in names)
    if names and resume and not of_a_run:
        raise ArgumentError(
            "Expected `--output` to be the folder of a run to resume, or a new one, but "
            f"{folder} has other files: choose another folder."
        )


def _remove_cut_off(folder: Path) -> None:
    """Remove partial files of killed processes."""
    for parent in (folder, folder / "checkpoints"):
        for file in parent.glob(".*.partial*"):
            file.unlink(missing_ok=True)


LOCK = ".lock"
"""Lock file in the folder of a run; its existence alone does not lock."""


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Lock a folder against other processes, also on other machines for shared folders.

    The lock is a POSIX lock on a file in the folder, which ends with the process, even if it is
    killed. Without support by the system or the file system, there is no lock.

    Args:
        folder: the folder; created if it is missing.

    Raises:
        ArgumentError: another process has the lock.
        WriteError: the folder cannot be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("a")
    except OSError as error:
        raise WriteError(
            f"Cannot write to {folder}: {error.strerror}. Choose another `--output`."
        ) from error
    with file:
        try:
            import fcntl

            # Not `flock`: data loader workers would keep it for some seconds longer.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise ArgumentError(
                f"Expected a folder of no other run, but another run is at work in {folder}: wait "
                "until it ends, or choose another `--output`."
            ) from None
        except (ImportError, OSError):
            pass
        yield
