"""Loader processes: OpenCV on one thread, and a clear line where they fail."""

import gc
import os
import resource
import signal
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from popos_cli.data.loader import Loader, loader_failures, ordered_loader
from popos_cli.errors import PoposError


class Faces(Dataset):
    """Sixteen samples of 1 MB; whoever asks for the tenth is killed by `deadly`, if that is a signal."""

    def __init__(self, deadly=None):
        self.deadly = deadly

    def __len__(self):
        return 16

    def __getitem__(self, item):
        if item == 10 and self.deadly:
            os.kill(os.getpid(), self.deadly)
        return {"number": item, "image": torch.full((1_000_000,), item, dtype=torch.uint8)}


def failure(loader):
    """What is said where a loader fails, in the loop over it or in whatever runs then."""
    with pytest.raises(PoposError) as caught, loader_failures():
        for batch in loader:
            torch.ones(int(batch["number"][0])).sum()
    gc.collect()  # torch would go on naming the dead process, whenever any child ends
    return f"{caught.value.message}; {caught.value.hint}"


@pytest.mark.parametrize(
    ("deadly", "said"),
    [(signal.SIGBUS, "shared memory (/dev/shm)"), (signal.SIGKILL, "a loader process has died")],
)
def test_a_loader_process_that_dies_is_explained(deadly, said):
    """By SIGBUS where shared memory is full, by SIGKILL where memory is. torch names the signal or only says
    that the process has gone, whichever it notices first."""
    found = failure(Loader(Faces(deadly), 1, batch_size=1))
    assert (said in found or "a loader process has died" in found) and "workers" in found


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/shm")
def test_shared_memory_that_is_full_is_explained():
    """The system refuses files of that size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, before[1]))
    try:
        assert "shared memory" in failure(Loader(Faces(), 1, batch_size=1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_too_many_open_files_are_explained():
    """Each tensor in shared memory is an open file."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) + 30, before[1]))
    try:
        kept = []

        def batches():
            for batch in Loader(Faces(), 1, batch_size=1):
                kept.append(batch)
                yield batch

        assert "ulimit -n" in failure(batches())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_other_failures_stay_what_they_are():
    with pytest.raises(RuntimeError, match="shape"), loader_failures(OSError):
        raise RuntimeError("shape mismatch")
    with pytest.raises(FileNotFoundError), loader_failures(OSError):
        Path("/gone").read_text()
    with pytest.raises(OSError, match="No space"), loader_failures():  # of a file, outside the loader
        raise OSError(28, "No space left on device")


class Threads(Dataset):
    """How many threads OpenCV has where a sample is made."""

    def __len__(self):
        return 4

    def __getitem__(self, item):
        return {"threads": cv2.getNumThreads()}


def test_loader_processes_use_opencv_on_one_core():
    """Also where OpenCV's threads have run before the processes begin; six times, for it hung in half."""
    before = cv2.getNumThreads()
    for _ in range(6):
        cv2.resize(np.zeros((2000, 2000, 3), np.uint8), (900, 900), interpolation=cv2.INTER_AREA)
        for batch in ordered_loader(Threads(), 2):
            assert batch["threads"].tolist() == [1] * len(batch["threads"])
        assert cv2.getNumThreads() == before
    (batch,) = ordered_loader(Threads(), 0)
    assert set(batch["threads"].tolist()) == {before}
