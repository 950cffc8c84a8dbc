"""The state of a run, to resume from after a power cut: two files, of which one is always whole."""

from __future__ import annotations

import os
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from ..errors import PoposError
from ..home import replacing

STATE = "state.ckpt"
PREVIOUS = "state.previous.ckpt"
REFUSED = "state.refused.ckpt"
FORMAT = 2  # 1 had the optimiser's moments in another order, and no number

FOREIGN = "of another network or optimiser"


class _Refused(Exception):
    """Why a file is no checkpoint of this run."""


def save_state(run: Path, state: dict[str, Any]) -> None:
    """Write everything that training needs to go on as state.ckpt; the one before becomes
    state.previous.ckpt.

    Whenever the process or the machine stops, one of them is whole. Raises PoposError where the folder cannot
    be written.
    """
    path = run / STATE
    with replacing(path) as temporary:
        with temporary.open("wb") as file:
            try:
                torch.save({"format": FORMAT, **state}, file)
            except RuntimeError as error:  # torch hides why its archive could not be written
                raise error.__context__ if isinstance(error.__context__, OSError) else error from None
            file.flush()
            os.fsync(file.fileno())  # a rename may reach the disk before the content does
        with suppress(FileNotFoundError):
            os.replace(path, run / PREVIOUS)
    with suppress(OSError):  # Windows opens no folders
        folder = os.open(run, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def has_state(run: Path) -> bool:
    """Whether there is a checkpoint, whole or not."""
    return any((run / name).exists() for name in (STATE, PREVIOUS))


def load_state(run: Path, accept: Callable[[dict[str, Any]], None]) -> list[str] | None:
    """Give `accept` the newest state in `run` that is whole and fits; None where there is none at all.

    `accept` takes the state (tensors on the CPU, plain values), or raises RuntimeError, ValueError, KeyError
    or TypeError where it is of another network or optimiser; then it is called with the state before that
    one. A newer file that was refused becomes state.refused.ckpt, lest the next `save_state` overwrite the
    good one with it. Returns a line for the user about each refused file.

    Raises PoposError, with the reason for each file, where none can be used. Only for the process that
    writes in `run`.
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
        return [f"{run / other} is {why}; resuming from the one before" for other, why in refused.items()]
    if not refused:
        return None
    raise PoposError(
        f"{run}: no checkpoint to go on from: " + "; ".join(f"{n} is {why}" for n, why in refused.items()),
        "Resume with the settings that the run began with."
        if FOREIGN in refused.values()
        else f"Start anew, from its weights where it has some: popos train ... --weights {run}",
    )


def _accept(path: Path, accept: Callable[[dict[str, Any]], None]) -> None:
    """Raises _Refused, or FileNotFoundError."""
    try:
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():  # torch does not compare check sums
                raise zipfile.BadZipFile(damaged)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, MemoryError):
        raise
    except Exception:  # damaged bytes raise nearly every kind
        raise _Refused("torn, unreadable or not written by popos") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise _Refused("not written by this version of popos")
    try:
        accept(state)
    except torch.OutOfMemoryError:  # a RuntimeError, but not the file's fault
        raise
    except (RuntimeError, ValueError, KeyError, TypeError):  # torch's message names hundreds of tensors
        raise _Refused(FOREIGN) from None


@contextmanager
def only_writer(run: Path, patience: float = 10.0) -> Iterator[None]:
    """Lock the folder `run`: two processes that train into it would spoil each other's files.

    The system lets go when the process ends, however it ends, and its loader processes have (they notice
    within 5 seconds); no file is left over. Where there are no such locks (Windows, some network disks) this
    does nothing. Raises PoposError where another process still holds it after `patience` seconds.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    handle = os.open(run, os.O_RDONLY)
    deadline = time.monotonic() + patience
    try:
        with suppress(OSError):  # a disk without locks
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise PoposError(
                            f"{run}: another process trains there", "Wait until it has ended, or end it."
                        ) from None
                    time.sleep(0.2)
        yield
    finally:
        os.close(handle)
