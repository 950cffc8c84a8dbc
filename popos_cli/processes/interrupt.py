"""Ctrl-C at a moment of our choosing: an optimiser's step must not be left half done."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Stopped(KeyboardInterrupt):
    """Ctrl-C was pressed earlier, and nothing is half done now."""


@contextmanager
def held_interrupts() -> Iterator[Callable[[], bool]]:
    """Within the block Ctrl-C and SIGTERM (a cluster's warning) wait; the yielded function says
    whether one came.

    The second does not wait: it is a plain KeyboardInterrupt, wherever the program is. In a worker of
    torch's elastic agent that is the third, as the agent repeats the terminal's first; and SIGTERM ends
    it at once, which is what the agent does to a worker whose peer has failed.
    """
    came = 0
    under_agent = "TORCHELASTIC_RUN_ID" in os.environ

    def hold(number: int, frame: Any) -> None:
        nonlocal came
        came += 1
        if came > 1 + under_agent:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # only that one gets signals
        yield lambda: False
        return
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
