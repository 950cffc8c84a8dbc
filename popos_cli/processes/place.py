"""This process's place among those that torchrun, srun or `launch` started. Needs no torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Place:
    """One process among `size`, of which `local_size` are on this machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def main(self) -> bool:
        return self.rank == 0


def outer_launcher() -> Literal["torchrun", "slurm"] | None:
    """What started this process as one of several; None if nothing did.

    The shells of sbatch and salloc have SLURM's variables too, but are no step of several tasks.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ or ("RANK" in os.environ and number("WORLD_SIZE", 1) > 1):
        return "torchrun"
    return "slurm" if "SLURM_PROCID" in os.environ and number("SLURM_STEP_NUM_TASKS", 1) > 1 else None


def own_place() -> Place:
    """From the environment; alone where no launcher started this process."""
    launcher = outer_launcher()
    if launcher == "slurm":
        tasks, nodes = number("SLURM_STEP_NUM_TASKS", 1), number("SLURM_STEP_NUM_NODES", 1)
        local_size = -(-tasks // nodes)  # rounded up: cores are shared by it, no more
        return Place(number("SLURM_PROCID", 0), tasks, number("SLURM_LOCALID", 0), local_size)
    if launcher == "torchrun":
        names = ("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0), ("LOCAL_WORLD_SIZE", 1)
        return Place(*(number(*name) for name in names))
    return Place()


def own_cores() -> int:
    """This process's share of the CPU's cores, at least 1."""
    # Which cores may be used is not known on macOS and Windows.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(cores // own_place().local_size, 1)


def number(variable: str, default: int) -> int:
    return int(os.environ.get(variable, default))
