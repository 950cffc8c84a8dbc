"""Processes that work as one, started and watched by torch's own elastic engine."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ..errors import INTERRUPTED, PoposError, UsageError, debugging
from ..home import scratch_folder
from .interrupt import ignore_interrupts
from .world import DEBUG, MEET, joined, report_failure

ANSWER = 10  # seconds for a rendezvous store to answer in


@dataclass(frozen=True)
class Workers:
    """Processes to start: `per_node` on each of `nodes` machines, one a GPU or all on the CPU.

    endpoint: host:port where several machines meet, on one of them. max_restarts: times that all are
    started anew after one failed.
    """

    per_node: int
    gpus: bool
    nodes: int = 1
    endpoint: str | None = None
    max_restarts: int = 0

    @property
    def size(self) -> int:
        return self.per_node * self.nodes


def launch(workers: Workers, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call `function(world, *arguments)` in every worker; returns what this machine's first one returned.

    `function`, arguments and result must be picklable. Raises PoposError with the cause of the worker
    that failed first, once all the others have been stopped; and KeyboardInterrupt after Ctrl-C or
    SIGTERM, once the workers, which get the same signal, have ended. They have 30 s for it.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous.api import RendezvousError, RendezvousTimeoutError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if workers.endpoint:
        _await_endpoint(workers.endpoint)
    others = multiprocessing.active_children()
    try:
        restarting = workers.max_restarts > 0
        with scratch_folder("popos-workers-") as folder, _signals_for_workers(), _quiet(restarting):
            config = LaunchConfig(
                min_nodes=workers.nodes,
                max_nodes=workers.nodes,
                nproc_per_node=workers.per_node,
                logs_specs=DefaultLogsSpecs(str(folder)),
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
    except RendezvousTimeoutError:
        raise PoposError(
            f"not all of {workers.nodes} machines came to {workers.endpoint} in {MEET // 60} minutes",
            "Start the same command on each of them.",
        ) from None
    except RendezvousError:
        raise PoposError(
            f"the machine of the rendezvous endpoint {workers.endpoint} has ended the run",
            "Its own message says why.",
        ) from None
    finally:
        for worker in set(multiprocessing.active_children()).difference(others):
            worker.kill()  # Ctrl-C came while the agent was starting them
    return values[min(values)]


def _work(function: Callable[..., Any], gpu: bool, arguments: tuple[Any, ...]) -> Any:
    """A worker, from its first to its last line of ours.

    Ends with exit code 1 rather than an exception, for which torch would leave a file in the temporary
    folder, and with `INTERRUPTED` rather than a KeyboardInterrupt, which it would take for success.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # while torch waits for the others, deaf to Python's
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    agent = multiprocessing.parent_process()
    if agent and not agent.is_alive():  # killed before torch could ask for a signal of that
        sys.exit(1)
    try:
        with joined(gpu) as world:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            return function(world, *arguments)
    except KeyboardInterrupt:
        ignore_interrupts()  # the agent's, which repeats the terminal's
        sys.exit(INTERRUPTED)
    except Exception as error:
        report_failure(error)
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
    if isinstance(failure.message, dict):
        return PoposError(failure.message["message"], failure.message.get("hint"))
    worker = f"worker {rank} of {size} (pid {failure.pid})"
    if failure.exitcode >= 0:
        return PoposError(f"{worker} ended with exit code {failure.exitcode}", DEBUG)
    name = failure.signal_name()
    memory = (
        "The kernel does that when memory runs out (dmesg tells): take fewer processes or workers, and train "
        "with a smaller schedule.batch_size."
    )
    return PoposError(f"{worker} was killed by {name}", memory if name == "SIGKILL" else DEBUG)


def parse_endpoint(endpoint: str) -> tuple[str, int]:
    """Host and port of "host:port". Raises UsageError."""
    from torch.distributed.elastic.rendezvous.utils import parse_rendezvous_endpoint

    try:
        host, port = parse_rendezvous_endpoint(endpoint, default_port=0)
        if port:
            return host, port
    except ValueError:
        pass
    raise UsageError(f"not a rendezvous endpoint: {endpoint!r}", "It is HOST:PORT.")


def _await_endpoint(endpoint: str) -> None:
    """Wait until a machine of the run has opened the endpoint; this one itself does where it is here.

    Raises PoposError where none does, or another program: torch's own wait is deaf to Ctrl-C then, and
    without end.
    """
    from torch.distributed.elastic.rendezvous.utils import _matches_machine_hostname

    host, port = parse_endpoint(endpoint)
    here, deadline = _matches_machine_hostname(host), time.monotonic() + MEET
    while True:
        try:
            socket.create_connection((host, port), timeout=5).close()
            break
        except OSError as error:
            if here:
                return
            if time.monotonic() > deadline:
                raise PoposError(
                    f"the rendezvous endpoint {endpoint} cannot be reached: {error.strerror or error}",
                    "Its host must be one of the run's machines, with the command started there too and "
                    "the port open to the others.",
                ) from None
            time.sleep(1)
    if not _store_answers(host, port):
        raise PoposError(
            f"another program has the port of the rendezvous endpoint {endpoint}",
            "Choose another port, the same on all machines.",
        )


def _store_answers(host: str, port: int) -> bool:
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    answered = threading.Event()

    def ask() -> None:
        with suppress(RuntimeError):
            store = TCPStore(host, port, None, False, timedelta(seconds=ANSWER), wait_for_workers=False)
            if store.add("popos", 0) == 0:
                answered.set()

    threading.Thread(target=ask, daemon=True).start()
    return answered.wait(ANSWER)


@contextmanager
def _signals_for_workers() -> Iterator[None]:
    """Undo the agent's signal handlers afterwards; and start its workers with SIGINT blocked.

    Else Ctrl-C in their first seconds would show tracebacks of their imports. A process has its mask
    from the thread that starts it: this one, for which an idle one takes the signal meanwhile (Python
    handles it here all the same, though it wakes nothing up).
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing.resource_tracker import ensure_running

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
    handlers = {number: signal.getsignal(number) for number in numbers}
    over = threading.Event()
    ensure_running()  # starting it with the first worker would unblock SIGINT
    threading.Thread(target=over.wait, daemon=True).start()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        over.set()


@contextmanager
def _quiet(restarting: bool) -> Iterator[None]:
    """Set torch's variables for the workers, and keep what its agent logs from the terminal."""
    variables = {} if debugging() else {"TORCH_CPP_LOG_LEVEL": os.environ.get("TORCH_CPP_LOG_LEVEL", "ERROR")}
    if restarting:  # in a store that outlives the workers, the new ones find addresses of the old ones
        variables["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # pytorch/pytorch#135712
    before = {name: os.environ.get(name) for name in variables}
    names = ("torch.distributed.elastic", "torch.distributed.launcher", "torch.multiprocessing")
    loggers = [] if debugging() else [logging.getLogger(name) for name in names]
    sink = logging.NullHandler()
    os.environ.update(variables)
    for logger in loggers:
        logger.addHandler(sink)
        logger.propagate = False
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(sink)
            logger.propagate = True
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
