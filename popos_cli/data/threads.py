"""One function for many files, in several threads: OpenCV and disks let other threads run meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ..progress import Advance

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


def in_threads(
    function: Callable[[Item], Outcome], items: Sequence[Item], advance: Advance | None = None
) -> list[Outcome]:
    """The outcome for each item, in order. After a failure, or Ctrl-C, items not yet begun are left."""
    outcomes = []
    with ThreadPoolExecutor() as pool:
        for outcome in pool.map(function, items):  # which cancels what has not begun when it is left
            outcomes.append(outcome)
            if advance:
                advance(len(outcomes), len(items))
    return outcomes
