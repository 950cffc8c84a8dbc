"""A DataLoader whose processes fit the machine: its cores, its shared memory, its open files."""

from __future__ import annotations

import errno
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import cv2
from torch.utils.data import DataLoader, Dataset

from ..core.codec import Codec
from ..core.geometry import Floats
from ..core.model import IMAGE_SIZE
from ..errors import PoposError
from ..processes.interrupt import ignore_interrupts
from ..processes.world import ALONE, World
from .batches import EvaluationBatches
from .dataset import FaceDataset
from .index import Index

EVALUATION_BATCH = 64
SHARED_MEMORY = Path("/dev/shm")  # where Linux keeps the batches that processes hand over
AHEAD = 2  # batches that each loader process prepares in advance, torch's default
PIPES = 4  # open files of a loader process in its parent
TENSORS = 7  # of a batch; each is an open file while it is in shared memory
SPARE = 32  # open files for everything else

_log = logging.getLogger(__name__)


class Loader(DataLoader[Any]):
    """Gives the batches that `batch_sampler` names, of at most `batch_bytes` in this process.

    There are fewer loader processes than `num_workers` where shared memory or open files do not last for
    them, and a note says so. They run OpenCV on one core each: threads of OpenCV's own would fight over the
    others'. The number is set before they begin and taken over by a forked process; changing it there, where
    OpenCV's threads ran before the fork, hangs every other time. They are forked also where this process was
    spawned, as elastic's workers are, and would spawn: seconds of imports, for validation at each epoch.

    Iterating raises PoposError where a loader process dies, or cannot hand over its batches.
    """

    def __init__(
        self, faces: Dataset[dict[str, Any]], num_workers: int, batch_bytes: int, world: World = ALONE,
        **given: Any,
    ) -> None:  # fmt: skip
        workers, reason = fitting_workers(num_workers, batch_bytes, world.local_size)
        if reason and world.main:
            _say_once(f"loader processes: {workers} instead of {num_workers}, as {reason}")
        context = "fork" if workers and sys.platform == "linux" else None
        given["persistent_workers"] = workers > 0 and given.get("persistent_workers", False)
        super().__init__(
            faces, num_workers=workers, multiprocessing_context=context, worker_init_fn=start_worker, **given
        )

    def __iter__(self) -> Any:
        threads = cv2.getNumThreads()
        if self.num_workers:
            cv2.setNumThreads(1)
        try:
            with loader_failures(OSError, EOFError):
                return self._batches(super().__iter__())
        finally:
            cv2.setNumThreads(threads)

    def _batches(self, batches: Iterator[Any]) -> Iterator[Any]:
        with loader_failures(OSError, EOFError):
            yield from batches


@cache
def _say_once(text: str) -> None:  # a training makes several loaders
    _log.warning(text)


def start_worker(worker: int) -> None:
    """What a loader process does first."""
    ignore_interrupts()
    cv2.setNumThreads(1)  # where processes are not forked; else they have it from `Loader`


def fitting_workers(wanted: int, batch_bytes: int, processes: int) -> tuple[int, str | None]:
    """How many of the `wanted` loader processes this machine can feed batches through, and why not all.

    processes: how many on this machine do the same and share its memory.
    """
    if not wanted:
        return 0, None
    fits, reason = wanted, None
    if (free := _free_shared_memory()) is not None:
        # One batch more is with the network.
        room = int((free / processes - batch_bytes) // (AHEAD * batch_bytes))
        if room < fits:
            fits, reason = max(room, 0), (
                f"{SHARED_MEMORY} has {free >> 20} MiB free (docker run --shm-size=1g gives more)"
            )  # fmt: skip
    # Twice the pipes: training's loaders stay while those of the validation work.
    each = AHEAD * TENSORS + 2 * PIPES
    if (files := _free_files(wanted * each + SPARE)) is not None and (files - SPARE) // each < fits:
        fits = max((files - SPARE) // each, 0)
        reason = f"only {files} more files may be opened (ulimit -n 4096 allows more)"
    return fits, reason


def _free_shared_memory() -> int | None:
    """Bytes; None where the system has no such folder."""
    if sys.platform != "linux":
        return None
    try:
        found = os.statvfs(SHARED_MEMORY)
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize if os.access(SHARED_MEMORY, os.W_OK) else 0


def _free_files(wanted: int) -> int | None:
    """How many more files this process may open; its limit is raised for `wanted` where that is allowed.
    None where the system does not say (Windows)."""
    try:
        import resource

        used = len(os.listdir("/dev/fd"))
    except (ImportError, OSError):
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return None
    most = used + wanted if hard == resource.RLIM_INFINITY else min(used + wanted, hard)
    if soft < most:
        with suppress(OSError, ValueError):  # macOS has a lower limit besides
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    return soft - used


@contextmanager
def loader_failures(*also: type[Exception]) -> Iterator[None]:
    """Turn what torch raises where loader processes die or cannot hand over batches into PoposError.

    It is a RuntimeError, wherever the program happens to be when a process dies; while a loader is at work
    other errors too, which are named in `also`.
    """
    kinds: tuple[type[Exception], ...] = (RuntimeError, *also)
    try:
        yield
    except kinds as error:
        if explained := _explained(_cause(error)):
            raise explained from error
        raise


def _cause(error: Exception) -> Exception:
    """The end of a loader process, where `error` is that it could not be reached: torch says so a moment
    later."""
    if isinstance(error, ConnectionError | EOFError):
        try:
            time.sleep(1)
        except RuntimeError as end:
            return end
    return error


def _explained(error: Exception) -> PoposError | None:
    text, number = str(error), getattr(error, "errno", None)
    fewer = "or take fewer loader processes (workers)."
    if "Bus error" in text or "file </torch_" in text or number == errno.ENOSPC:
        return PoposError(
            f"shared memory ({SHARED_MEMORY}) is too small for the loader processes",
            f"Allow more (docker run --shm-size=1g), {fewer}",
        )
    if number == errno.EMFILE or "Too many open files" in text or "ancdata" in text:
        return PoposError(
            "too many open files for the loader processes", f"Allow more (ulimit -n 4096), {fewer}"
        )
    if text.startswith("DataLoader worker (pid"):
        return PoposError(
            f"a loader process has died: {text.splitlines()[0]}",
            f"The kernel does that when memory runs out (dmesg tells) or {SHARED_MEMORY} is full: free some, "
            f"{fewer}",
        )
    return None


def evaluation_loader(
    index: Index, codec: Codec, padding: float, workers: int,
    squares: tuple[Floats, Floats] | None = None, world: World = ALONE,
) -> DataLoader[Any]:  # fmt: skip
    """Unaugmented crops of the photos around the index's squares, or around `squares` (centres, sides)."""
    faces = FaceDataset(index, codec.image_width, padding, codec.alignment, squares=squares)
    return ordered_loader(faces, workers, world)


def ordered_loader(faces: Dataset[dict[str, Any]], workers: int, world: World = ALONE) -> DataLoader[Any]:
    """Every face once, in order; of several processes each has its share of the batches."""
    batches = EvaluationBatches(len(faces), EVALUATION_BATCH, world.rank, world.size)  # type: ignore[arg-type]
    size = getattr(faces, "image_size", IMAGE_SIZE)
    most = min(batches.batch_size, batches.faces)
    return Loader(faces, workers, batch_bytes(most, size), world, batch_sampler=batches)


def batch_bytes(faces: int, image_size: int) -> int:
    """What a batch takes of memory on its way from a loader process: its pictures, and some for the rest."""
    return faces * (3 * image_size**2 + 4096)
