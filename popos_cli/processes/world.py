"""Several processes that work as one, started by `launch`, torchrun or srun: rank, size, sums, broadcasts.

Also Ctrl-C that takes effect between two steps, so that no optimiser step is left half done.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from ..errors import PoposError, debugging
from .place import Place, number, outer_launcher, own_cores, own_place

PEER_FAILURE_DELAY = 10  # seconds; lets the agent report the process that failed first
# What gloo's and NCCL's plain RuntimeErrors say when the other side has gone.
GONE = re.compile(r"gloo|NCCL|by peer", re.IGNORECASE)
DEBUG = "Run again with POPOS_DEBUG=1 for the full report."


class World(Place):
    """This process among `size` that do the same. With a size of 1 the methods return what they are given.

    Objects and numbers travel over gloo, from CPU memory. Every process must make the same calls.
    """

    def sums(self, *values: float) -> list[float]:
        """Each value's sum over the processes in float64, bit-identical in all of them."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total)
        found: list[float] = total.tolist()
        return found

    def broadcast(self, value: Any) -> Any:
        """The first process's value, picklable, tensors on the CPU."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, device=torch.device("cpu"))
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, by rank, on every process."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values


ALONE = World()


@contextmanager
def joined(gpu: bool) -> Iterator[World]:
    """Join the process group of `launch`, torchrun or srun; a world of one process if none started us.

    gpu: compute on the GPU of this process's local rank, or the only one that it sees; on the CPU if there
    is none. Threads share the cores, unless OMP_NUM_THREADS is set (torchrun sets it to 1). Raises
    PoposError if the processes do not meet, and in place of torch's errors when another process has ended.
    The elastic agent, if there is one, gets the cause of a failure.
    """
    world = _place_in_world()
    gpu = gpu and torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(world.local_rank % torch.cuda.device_count())
    if world.size > 1 and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(own_cores())
    try:
        if world.size > 1:
            dist.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo")
        yield world
    except Stopped:  # all of them stop together
        _leave_group()
        raise
    except Exception as error:  # the group is not destroyed: NCCL would wait for the others
        if lost := _lost_peer(world, error):
            time.sleep(PEER_FAILURE_DELAY)
            report_failure(lost)
            raise lost from error
        report_failure(error)
        raise
    _leave_group()


def _lost_peer(world: World, error: Exception) -> PoposError | None:
    """What `error` means if it is torch's when another process has ended; None if it is not."""
    if not (
        isinstance(error, RuntimeError) and (isinstance(error, dist.DistError) or GONE.search(str(error)))
    ):
        return None
    first_line = str(error).strip().splitlines()[0]
    words = re.sub(r"\[/\S+\] ", "", first_line).partition(". ")[0]  # without C++ file names
    return PoposError(
        f"worker {world.rank} of {world.size} cannot reach the others: {words}",
        "One of them has failed, and its own message says why; or MASTER_ADDR and MASTER_PORT (by default a "
        "port of srun's first node) do not reach the first one.",
    )


def _place_in_world() -> World:
    """This process's place; SLURM's variables become torchrun's, which torch reads."""
    place = own_place()
    if outer_launcher() == "slurm":
        os.environ.setdefault("MASTER_ADDR", first_host(os.environ["SLURM_STEP_NODELIST"]))
        # Above the ports that Linux gives out by itself (to 60999), of IANA's private range.
        step = 31 * number("SLURM_JOB_ID", 0) + number("SLURM_STEP_ID", 0)
        os.environ.setdefault("MASTER_PORT", str(61000 + step % 4000))
        os.environ |= {
            "RANK": str(place.rank),
            "WORLD_SIZE": str(place.size),
            "LOCAL_RANK": str(place.local_rank),
            "LOCAL_WORLD_SIZE": str(place.local_size),
        }
    return World(place.rank, place.size, place.local_rank, place.local_size)


def _leave_group() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def first_host(hosts: str) -> str:
    """The first of a SLURM list: gpu[07-09,12],cpu1 -> gpu07."""
    entry = re.match(r"([^,\[]|\[[^\]]*\])+", hosts)
    return re.sub(r"\[(\d+)[^\]]*\]", r"\1", entry.group() if entry else hosts)


def restarts() -> int:
    """How often the elastic agent has restarted this process's run."""
    return number("TORCHELASTIC_RESTART_COUNT", 0)


def report_failure(error: Exception) -> None:
    """Write `error` to the file where the elastic agent, if one started this process, looks for the cause."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if not path:
        return
    if isinstance(error, PoposError):
        message, hint = error.message, error.hint
    else:
        lines = str(error).strip().splitlines() or [""]
        from_loader = lines[0].startswith("Caught ")  # torch's text, with the cause in the last line
        cause = lines[-1] if from_loader else f"{type(error).__name__}: {lines[0]}"
        message, hint = f"worker {os.environ['RANK']} of {os.environ['WORLD_SIZE']}: {cause}", DEBUG
    report = "".join(traceback.format_exception(error)) if debugging() else f"{message}\n{hint or ''}"
    extra = {"timestamp": str(int(time.time())), "py_callstack": report}  # torchrun prints the report
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"message": {"message": message, "hint": hint, "extraInfo": extra}}, file)


class Stopped(KeyboardInterrupt):
    """Ctrl-C was pressed during a step, which is complete now."""


@contextmanager
def held_interrupts() -> Iterator[Callable[[], bool]]:
    """Within the block Ctrl-C and SIGTERM (a cluster's warning) are held back; the yielded function says
    whether one came.

    A second one raises KeyboardInterrupt at once. Under torch's elastic agent each Ctrl-C arrives twice, from
    the terminal and from the agent, so that it is the third one that does; SIGTERM then ends the process, as
    the agent wants of a worker whose peer has failed.
    """
    came = 0
    under_agent = "TORCHELASTIC_RUN_ID" in os.environ
    most = 2 if under_agent else 1

    def hold(number: int, frame: Any) -> None:
        nonlocal came
        came += 1
        if came > most:
            raise KeyboardInterrupt

    numbers = (signal.SIGINT,) if under_agent else (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, hold) for number in numbers}
    try:
        yield lambda: came > 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_interrupts() -> None:
    """For loader processes: a terminal sends Ctrl-C to them too, but the trainer ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
