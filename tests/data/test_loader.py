"""Loader processes where shared memory or open files are scarce, and where they die."""

import gc
import os
import resource
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset

from popos_cli.data.loader import SHARED_MEMORY, Loader, fitting_workers, loader_failures, ordered_loader
from popos_cli.errors import PoposError

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /dev/shm")


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


@linux
@pytest.mark.parametrize(
    ("share", "processes", "expected"),
    [(1000, 1, 8), (10, 1, 4), (10, 2, 2), (3, 1, 1), (2.9, 1, 0), (0.5, 1, 0)],
)
def test_there_are_as_many_as_shared_memory_holds_batches_for(share, processes, expected):
    """A batch with the network, two of each loader process, of a `share`-th of what is free; it may change
    a little meanwhile."""
    free = shutil.disk_usage(SHARED_MEMORY).free
    workers, reason = fitting_workers(8, int(free * 0.999 / share), processes)
    assert workers == expected
    assert (reason is None) == (expected == 8)
    assert not reason or f"{SHARED_MEMORY} has" in reason
    assert fitting_workers(0, free, 1) == (0, None)


@pytest.fixture
def few_open_files():
    """60 more than are open now; but more may be asked for."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/dev/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 60, before[1]))
    yield used + 60
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_limit_of_open_files_is_raised_where_that_is_allowed(few_open_files):
    loader = Loader(Faces(), 8, 4096, batch_size=1)
    assert loader.num_workers == 8
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > few_open_files
    assert [int(batch["number"]) for batch in loader] == list(range(16))


def test_fewer_work_where_more_files_may_not_be_opened(few_open_files, monkeypatch, caplog):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    monkeypatch.setattr(resource, "getrlimit", lambda which: (hard, hard))  # root alone can raise it again
    loader = Loader(Faces(), 8, 4096, batch_size=1)
    assert loader.num_workers == 1
    (record,) = caplog.records
    assert "loader processes: 1 instead of 8" in record.message and "ulimit -n" in record.message
    assert [int(batch["number"]) for batch in loader] == list(range(16))


def failure(loader):
    """What is said where a loader of one process fails, in the loop over it or in whatever runs then."""
    assert loader.num_workers == 1  # else it would be this process that dies
    try:
        with loader_failures():
            for batch in loader:
                torch.ones(int(batch["number"])).sum()
    except PoposError as error:
        return f"{error.message}; {error.hint}"


@pytest.mark.parametrize("deadly", [signal.SIGBUS, signal.SIGKILL])
def test_a_loader_process_that_dies_is_explained(deadly):
    """torch names the signal or only says that the process has gone, whichever it notices first."""
    said = failure(Loader(Faces(deadly), 1, 4096, batch_size=1))
    gc.collect()  # torch would go on naming the dead process, whenever any child ends
    assert "loader process" in said and str(SHARED_MEMORY) in said and "workers" in said


@linux
def test_shared_memory_that_is_full_is_explained():
    """As where another program has taken it since; the system refuses files of that size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, before[1]))
    try:
        assert "shared memory" in failure(Loader(Faces(), 1, 4096, batch_size=1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_other_failures_stay_what_they_are():
    with pytest.raises(RuntimeError, match="shape"), loader_failures(OSError):
        raise RuntimeError("shape mismatch")
    with pytest.raises(FileNotFoundError), loader_failures(OSError):
        Path("/gone").read_text()
    with pytest.raises(OSError, match="No space"), loader_failures():  # of a file, outside the loader
        raise OSError(28, "No space left on device")


def test_a_batch_that_is_smaller_than_its_loader_allows_needs_no_more():
    """Twelve faces are no batch of 64."""
    free = shutil.disk_usage(SHARED_MEMORY).free
    assert ordered_loader(torch.utils.data.Subset(Faces(), range(12)), 1).num_workers == (free > 10_000_000)
