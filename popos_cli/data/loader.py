"""DataLoaders whose processes are forked, use OpenCV on one thread, and explain themselves when they fail."""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import cv2
from torch.utils.data import DataLoader, Dataset

from ..core.codec import Codec
from ..core.geometry import Floats
from ..errors import PoposError
from ..processes.world import ALONE, World, ignore_interrupts
from .batches import EvaluationBatches
from .dataset import FaceDataset
from .index import Index

EVALUATION_BATCH = 64


class Loader(DataLoader[Any]):
    """A DataLoader with `num_workers` loader processes.

    They run OpenCV on one thread each, since threads of OpenCV's own would fight over the other processes'
    cores. The number is set before the fork: setting it in the forked process hangs every other time, where
    OpenCV's threads have run before. On Linux they are forked even where this process was spawned (torch
    elastic's workers are), because spawning takes seconds of imports. Iterating raises PoposError where a
    process dies or cannot hand over its batches.
    """

    def __init__(self, faces: Dataset[dict[str, Any]], num_workers: int, **given: Any) -> None:
        super().__init__(
            faces, num_workers=num_workers, worker_init_fn=start_worker,
            multiprocessing_context="fork" if num_workers and sys.platform == "linux" else None, **given,
        )  # fmt: skip

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


def start_worker(worker: int) -> None:
    """What a loader process does first."""
    ignore_interrupts()
    cv2.setNumThreads(1)  # where processes are not forked


@contextmanager
def loader_failures(*also: type[Exception]) -> Iterator[None]:
    """Turn what torch raises where loader processes fail into PoposError.

    A death is a RuntimeError, wherever the program is at that moment. While a loader is being read other
    exceptions come too: `also`.
    """
    kinds: tuple[type[Exception], ...] = (RuntimeError, *also)
    try:
        yield
    except kinds as error:
        if isinstance(error, ConnectionError | EOFError):
            with suppress(RuntimeError):
                time.sleep(1)  # torch notices the death now, and raises here rather than somewhere later
        if explained := _explained(error):
            raise explained from error
        raise


def _explained(error: Exception) -> PoposError | None:
    text, number = str(error), getattr(error, "errno", None)
    if "Bus error" in text or "file </torch_" in text or number == errno.ENOSPC:
        return PoposError(
            "shared memory (/dev/shm) is too small for the loader processes",
            "Allow more (docker run --shm-size=1g), or take fewer loader processes (workers).",
        )
    if number == errno.EMFILE or "Too many open files" in text or "ancdata" in text:
        return PoposError(
            "too many open files for the loader processes",
            "Allow more (ulimit -n 4096), or take fewer loader processes (workers).",
        )
    if text.startswith("DataLoader worker (pid") or isinstance(error, ConnectionError | EOFError):
        return PoposError(
            f"a loader process has died: {(text or type(error).__name__).splitlines()[0]}",
            "Memory may have run out (dmesg says so), or /dev/shm be full: free some, or take fewer loader "
            "processes (workers).",
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
    """Every face once, in order; each of several processes has its share of the batches."""
    batches = EvaluationBatches(len(faces), EVALUATION_BATCH, world.rank, world.size)  # type: ignore[arg-type]
    return Loader(faces, workers, batch_sampler=batches)
