"""Ctrl-C at a moment of our choosing: an optimiser's step must not be left half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Stopped(KeyboardInterrupt):
    """Ctrl-C was pressed earlier, and nothing is half done now."""


@contextmanager
def held_interrupts() -> Iterator[Callable[[], None]]:
    """Within the block Ctrl-C waits; the yielded function raises `Stopped` if it was pressed.

    A second Ctrl-C does not wait: it is a plain KeyboardInterrupt, wherever the program is.
    """
    pressed = False

    def hold(number: int, frame: Any) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    def check() -> None:
        if pressed:
            raise Stopped

    if threading.current_thread() is not threading.main_thread():  # only that one gets signals
        yield check
        return
    before = signal.signal(signal.SIGINT, hold)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)


def ignore_interrupts() -> None:
    """For loader processes: a terminal sends Ctrl-C to them too, but the trainer ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
