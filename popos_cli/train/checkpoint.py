"""The state of a run, to go on from after a power cut: two files, of which one is always whole."""

from __future__ import annotations

import os
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch

from ..errors import PoposError
from ..home import TEMPORARY, replacing

STATE = "state.ckpt"
PREVIOUS = "state.previous.ckpt"
REFUSED = "state.refused.ckpt"

FOREIGN = "of another network or optimiser"
NOT_OURS = "not written by popos"
ZIP = b"PK\x03\x04"


@dataclass(frozen=True)
class Resumed:
    """file: the checkpoint that training goes on from; remarks: a line on each newer one that was refused."""

    file: Path
    remarks: tuple[str, ...]


class _Refused(Exception):
    """Why a file is no checkpoint of this run."""


def save_state(run: Path, state: dict[str, Any]) -> None:
    """Everything that training needs to go on, as state.ckpt; the one before it becomes state.previous.ckpt.

    Whatever moment the process or the machine stops at, one of them is whole. Raises PoposError where
    the folder cannot be written.
    """
    path = run / STATE
    with replacing(path) as temporary:
        with temporary.open("wb") as file:
            _write(state, file)
            file.flush()
            os.fsync(file.fileno())  # a rename may reach the disk before what is renamed
        with suppress(FileNotFoundError):
            os.replace(path, run / PREVIOUS)
    with suppress(OSError):  # Windows opens no folders
        folder = os.open(run, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _write(state: dict[str, Any], file: IO[bytes]) -> None:
    try:
        torch.save(state, file)
    except RuntimeError as error:  # torch's way to close its archive hides why the writing failed
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def has_state(run: Path) -> bool:
    """Whether there is anything to go on from, whole or not."""
    return any((run / name).exists() for name in (STATE, PREVIOUS))


def load_state(run: Path, accept: Callable[[dict[str, Any]], None]) -> Resumed | None:
    """Hand `accept` the newest state in `run` that is whole and fits; None where there is none at all.

    `accept` takes the state (tensors on the CPU, plain values) over, or raises RuntimeError, ValueError,
    KeyError or TypeError when it is of another network or optimiser; then it is called again, with
    the state before that one. A newer file that was refused becomes state.refused.ckpt, lest the next
    `save_state` put it in the place of the good one; a remark is for the user.

    Raises PoposError, with the reason for each file, where none of those there can be used. For
    the one process that writes in `run`.
    """
    refused: dict[str, str] = {}
    for name in (STATE, PREVIOUS):
        try:
            _accept(run / name, accept)
        except FileNotFoundError:
            continue
        except _Refused as reason:
            refused[name] = str(reason)
            continue
        if refused:
            os.replace(run / STATE, run / REFUSED)
        remarks = (f"{run / other} is {why}; going on from the one before" for other, why in refused.items())
        return Resumed(run / name, tuple(remarks))
    if not refused:
        return None
    raise PoposError(
        f"{run}: no checkpoint to go on from: " + "; ".join(f"{n} is {why}" for n, why in refused.items()),
        "Resume with the settings that the run began with."
        if FOREIGN in refused.values()
        else f"Start anew, from its weights where it has some: popos train ... --weights {run}",
    )


def _accept(path: Path, accept: Callable[[dict[str, Any]], None]) -> None:
    state = _read(path)
    try:
        accept(state)
    except torch.OutOfMemoryError:  # a RuntimeError, but not the file's fault
        raise
    except (RuntimeError, ValueError, KeyError, TypeError):  # in torch's words, hundreds of tensor names
        raise _Refused(FOREIGN) from None


def _read(path: Path) -> dict[str, Any]:
    """What `save_state` wrote. Raises _Refused, or FileNotFoundError."""
    try:
        with path.open("rb") as file:
            start = file.read(len(ZIP))
            if start.strip(b"\0") and start != ZIP:
                raise _Refused(NOT_OURS)
            with zipfile.ZipFile(file) as archive:
                damaged = archive.testzip()  # torch does not look at the check sums
    except (FileNotFoundError, MemoryError, _Refused):
        raise
    except OSError as error:
        raise _Refused(f"unreadable: {error.strerror or error}") from None
    except Exception as error:  # torn bytes raise nearly every kind
        raise _Refused(f"torn: {'its end is missing' if 'not a zip' in str(error) else error}") from None
    if damaged:
        raise _Refused(f"torn: {damaged} in it is damaged")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, MemoryError):
        raise
    except Exception:  # torch.load raises many kinds, and advises to load it unsafely
        raise _Refused(NOT_OURS) from None
    if not isinstance(state, dict) or "step" not in state:  # a file of ours has one
        raise _Refused(NOT_OURS)
    return state


def clear_leftovers(run: Path) -> None:
    """Remove what a killed process was writing in `run`. Only for the one process that writes there."""
    for path in run.iterdir():
        if TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


_held: set[int] = set()  # descriptors of the folders that are held


def _let_go() -> None:
    for handle in _held:
        os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    # Loader processes outlive a killed trainer by seconds, and would hold its folder that long.
    os.register_at_fork(after_in_child=_let_go)


@contextmanager
def only_writer(run: Path, patience: float = 10.0) -> Iterator[None]:
    """Hold the folder `run`: two processes that train into it would spoil each other's files.

    The system lets go when the process ends, however it ends; no file is left over. Where there are no
    such locks (Windows, some network disks) this does nothing. Raises PoposError when another process
    holds the folder and still does after `patience` seconds.
    """
    handle = _hold(run, patience)
    try:
        yield
    finally:
        if handle is not None:
            _held.discard(handle)
            os.close(handle)


def _hold(run: Path, patience: float) -> int | None:
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    handle = os.open(run, os.O_RDONLY)
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _held.add(handle)
            return handle
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(handle)
                raise PoposError(
                    f"{run}: another process trains there", "Wait until it has ended, or end it."
                ) from None
            time.sleep(0.2)
        except OSError:  # a disk without locks
            os.close(handle)
            return None
