"""Processes that work as one, started and watched by torch's elastic agent."""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..errors import INTERRUPTED, PoposError, UsageError, debugging
from .world import DEBUG, ignore_interrupts, joined

MEET = 300  # seconds in which all machines of a run must come together


@dataclass(frozen=True)
class Workers:
    """Processes to start: `per_node` on each of `nodes` machines, one a GPU or all on the CPU.

    endpoint: "host:port" where several machines meet, on one of them. max_restarts: how often all are
    restarted after one failed.
    """

    per_node: int
    gpus: bool
    nodes: int = 1
    endpoint: str | None = None
    max_restarts: int = 0

    @property
    def size(self) -> int:
        return self.per_node * self.nodes


def check_endpoint(endpoint: str) -> None:
    """Raises UsageError unless it is "host:port"."""
    if not re.fullmatch(r"(\[[^\[\]]+\]|[^:\s]+):[1-9]\d{0,4}", endpoint):  # IPv6 in brackets
        raise UsageError(f"not a rendezvous endpoint: {endpoint!r}", "It is HOST:PORT.")


def launch(workers: Workers, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call `function(world, *arguments)` in every worker; returns what this machine's first one returned.

    `function`, arguments and result must be picklable. Raises PoposError with the cause of the worker
    that failed first, once all the others have been stopped; and KeyboardInterrupt after Ctrl-C or
    SIGTERM, once the workers, which get the same signal, have ended. They have 30 s for it.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous.api import RendezvousError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    _silence_agent()
    if workers.max_restarts:
        # In a store that outlives the workers, the new ones would find the old ones' addresses.
        os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # pytorch/pytorch#135712
    others = multiprocessing.active_children()
    try:
        with tempfile.TemporaryDirectory(prefix="popos-workers-") as folder, _handlers_restored():
            config = LaunchConfig(
                min_nodes=workers.nodes,
                max_nodes=workers.nodes,
                nproc_per_node=workers.per_node,
                logs_specs=DefaultLogsSpecs(folder),
                run_id="popos",
                rdzv_backend="c10d",
                rdzv_endpoint=workers.endpoint or "localhost:0",
                rdzv_configs={"join_timeout": MEET},
                max_restarts=workers.max_restarts,
                local_addr=None if workers.endpoint else "localhost",  # host names do not always resolve
            )
            values = elastic_launch(config, _work)(function, workers.gpus, arguments)
    except ChildFailedError as error:
        raise _cause(error, workers.size) from None
    except SignalException:
        raise KeyboardInterrupt from None
    except RendezvousError:
        raise PoposError(
            f"the run's {workers.nodes} machines did not meet at {workers.endpoint}, or one has left",
            "Start the same command on each of them, at the endpoint's own host too; its port must be open "
            "to the others.",
        ) from None
    finally:
        for worker in set(multiprocessing.active_children()).difference(others):
            worker.kill()  # Ctrl-C came while the agent was starting them
    return values[min(values)]


def _work(function: Callable[..., Any], gpu: bool, arguments: tuple[Any, ...]) -> Any:
    """What a worker does.

    Ends with exit code 1 rather than an exception, for which torch would leave a file in the temporary
    folder, and with `INTERRUPTED` rather than a KeyboardInterrupt, which it would take for success.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python's handler waits while torch waits for the others
    try:
        with joined(gpu) as world:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            return function(world, *arguments)
    except KeyboardInterrupt:
        ignore_interrupts()  # the agent's, which repeats the terminal's
        sys.exit(INTERRUPTED)
    except Exception:
        if debugging():
            traceback.print_exc()
            sys.stderr.flush()
        for loader in multiprocessing.active_children():
            loader.kill()
        os._exit(1)  # a usual end would abort at times: the others' connections still have their threads


def _cause(error: Any, size: int) -> BaseException:
    """What to raise for a ChildFailedError of `size` workers."""
    rank, failure = error.get_first_failure()
    if failure.exitcode in (INTERRUPTED, -signal.SIGINT):
        return KeyboardInterrupt()
    if isinstance(failure.message, dict):  # `report_failure` wrote it
        return PoposError(failure.message["message"], failure.message.get("hint"))
    worker = f"worker {rank} of {size} (pid {failure.pid})"
    if failure.exitcode >= 0:
        return PoposError(f"{worker} ended with exit code {failure.exitcode}", DEBUG)
    name = failure.signal_name()
    memory = (
        "The kernel does that when memory runs out (dmesg tells): take fewer processes or workers, or a "
        "smaller schedule.batch_size."
    )
    return PoposError(f"{worker} was killed by {name}", memory if name == "SIGKILL" else DEBUG)


def _silence_agent() -> None:
    """Keep what torch's agent logs from the terminal: the failure that it logs is raised, too."""
    if not debugging():
        for name in ("torch.distributed.elastic", "torch.distributed.launcher", "torch.multiprocessing"):
            logging.getLogger(name).handlers = [logging.NullHandler()]
            logging.getLogger(name).propagate = False


@contextmanager
def _handlers_restored() -> Iterator[None]:
    """Restore the signal handlers that the agent replaces."""
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    handlers = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)
