"""Work that a thread does before its results are asked for, up to a number of them."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from threading import Condition, Thread
from typing import TypeVar

Item = TypeVar("Item")


def ahead(
    items: Generator[Item, None, None],
    room: int,
    replaces: Callable[[Item], bool] = lambda item: False,
) -> Generator[list[Item], None, None]:
    """The items, in order, which a thread makes; each time all that are waiting by now, one at least.

    The thread stops while `room` of them wait. replaces: whether an item makes those that wait before it
    useless. What `items` raises is raised here behind what came before it. Close this generator to end the
    thread; it ends once the item in work is done.
    """
    waiting: list[Item] = []
    failure: list[BaseException] = []
    changed = Condition()
    working = True

    def offer(item: Item) -> bool:
        """Whether it is still wanted."""
        with changed:
            if replaces(item):
                waiting.clear()
            changed.wait_for(lambda: not working or len(waiting) < room)
            waiting.append(item)
            changed.notify_all()
            return working

    def work() -> None:
        nonlocal working
        try:
            with closing(items):
                for item in items:
                    if not offer(item):
                        break
        except BaseException as error:
            failure.append(error)
        finally:
            with changed:
                working = False
                changed.notify_all()

    thread = Thread(target=work, name="ahead")
    thread.start()
    try:
        while True:
            with changed:
                changed.wait_for(lambda: waiting or not working)
                taken, waiting[:] = waiting[:], []
                changed.notify_all()
            if not taken:
                break
            yield taken
            del taken  # it is not in memory while the next is waited for
    finally:
        with changed:
            working = False
            changed.notify_all()
        thread.join()
    if failure:
        raise failure[0]
