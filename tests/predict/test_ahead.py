"""A thread that works ahead: order, memory, failures, and that it ends."""

import threading
import time
from contextlib import closing

import pytest

from popos_cli.predict.ahead import ahead


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "ahead"]


def waiting_for(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_everything_comes_in_order_and_the_thread_ends():
    with closing(ahead(iter_of(range(1000)), 7)) as waiting:
        lists = list(waiting)
    assert [item for items in lists for item in items] == list(range(1000))
    assert 1 <= min(map(len, lists)) <= max(map(len, lists)) <= 7
    assert not threads()


def iter_of(items):
    yield from items


def test_it_stops_while_the_room_is_full():
    made = []

    def items():
        for item in range(6):
            made.append(item)
            yield item

    with closing(ahead(items(), 2)) as waiting:
        assert next(waiting)[0] == 0
        waiting_for(lambda: len(made) >= 3)
        time.sleep(0.05)
        before = len(made)
        time.sleep(0.05)
        assert len(made) == before <= 5  # two wait and one has no room yet
        assert [item for items in waiting for item in items][-1] == 5


def test_a_late_reader_of_a_live_source_gets_the_newest():
    done = threading.Event()

    def items():
        yield from range(100)
        done.set()

    with closing(ahead(items(), 2, replaces=lambda item: True)) as waiting:
        first = next(waiting)
        done.wait(10)
        rest = [item for items in waiting for item in items]
    assert len(first) == 1
    assert rest in ([99], []) and (rest or first == [99])


def test_a_failure_comes_behind_what_came_before_it():
    def items():
        yield 1
        yield 2
        raise ZeroDivisionError("here")

    found = []
    with pytest.raises(ZeroDivisionError, match="here"), closing(ahead(items(), 5)) as waiting:
        for some in waiting:
            found += some
    assert found == [1, 2]
    assert not threads()


@pytest.mark.parametrize("taken", [0, 1])
def test_whoever_stops_early_ends_the_thread(taken):
    closed = threading.Event()

    def items():
        try:
            while True:
                yield 0
        finally:
            closed.set()

    waiting = ahead(items(), 3)
    for _ in range(taken):
        next(waiting)
    waiting.close()
    assert closed.is_set() == bool(taken)  # before the first item nothing was begun
    assert not threads()
