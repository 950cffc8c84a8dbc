"""What workers do in tests of processes.launch: spawned processes must be able to import it.

As a script: python jobs.py JOB [WORKERS [NODES ENDPOINT]] launches a job, python jobs.py join joins those
that torchrun or srun started; either prints a line of JSON.
"""

import popos_cli.__main__  # noqa: F401  # isort: skip  (first, as in the workers of a command)
import json
import os
import signal
import sys
import time
from pathlib import Path

import torch

from popos_cli.errors import PoposError
from popos_cli.processes.launch import Workers, launch
from popos_cli.processes.world import Stopped, held_interrupts, joined, restarts


def agree(world):
    """What every process found, as every process sees it."""
    found = {
        "rank": world.rank,
        "sums": world.sums(0.1 * (world.rank + 1), 1),
        "first": world.broadcast({"rank": world.rank, "tensor": torch.full((2,), world.rank)}),
        "local": (world.local_rank, world.local_size),
        "threads": torch.get_num_threads(),
    }
    found["first"]["tensor"] = found["first"]["tensor"].tolist()
    world.sums(0.0)
    return world.gather(found)


def fail(world, error):
    """Worker 1 raises; the others wait for it."""
    world.sums(0.0)
    if world.rank == 1:
        raise error
    world.sums(0.0)


def die(world, folder=None):
    """Worker 1 is killed, as by the kernel, while the others wait for it."""
    if folder:
        Path(folder, str(world.rank)).write_text(str(os.getpid()))
    world.sums(0.0)
    if world.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    world.sums(0.0)


def fail_at_first(world):
    if world.rank == 1 and not restarts():
        raise ValueError("at first")
    return world.sums(restarts())


def steps(world):
    """Steps of 0.1 s for a minute, until a signal comes that all then heed at the same step."""
    say = sys.stderr.write
    world.sums(0.0)  # connects them: from now on they need no agent
    with held_interrupts() as pressed:
        say(f"running {os.getpid()}\n")
        for step in range(600):
            if world.sums(float(pressed()))[0]:
                time.sleep(0.5)  # as a checkpoint takes to write
                say(f"saved {step}\n")
                raise Stopped
            time.sleep(0.1)


def main(job, workers="2", nodes="1", endpoint=None):
    try:
        if job == "join":
            with joined(gpu=False) as world:
                outcome = {"value": agree(world)}
        else:
            wanted = Workers(int(workers), gpus=False, nodes=int(nodes), endpoint=endpoint)
            outcome = {"value": launch(wanted, globals()[job])}
    except KeyboardInterrupt:
        outcome = {"interrupted": True}
    except PoposError as error:
        outcome = {"error": error.message}
    sys.stdout.write(json.dumps(outcome) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
