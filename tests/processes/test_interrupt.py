import signal
import threading

import pytest

from popos_cli.processes.interrupt import Stopped, held_interrupts


def press(number=signal.SIGINT):
    signal.raise_signal(number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_until_asked(number):
    before = signal.getsignal(number)
    done = []
    with held_interrupts() as pressed:
        done.append(pressed())
        press(number)
        done.append("the rest of the step")
        done.append(pressed())
    assert done == [False, "the rest of the step", True]
    assert signal.getsignal(number) is before


def test_a_second_one_does_not_wait():
    with pytest.raises(KeyboardInterrupt) as caught, held_interrupts():
        press(signal.SIGTERM)
        press()
    assert not isinstance(caught.value, Stopped)


def test_under_an_elastic_agent_repeats_wait_and_sigterm_ends(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "popos")
    before = signal.getsignal(signal.SIGTERM)
    with held_interrupts() as pressed:
        press()
        press()
        assert pressed()
        assert signal.getsignal(signal.SIGTERM) is before


def test_outside_the_main_thread_nothing_is_held():
    """Python delivers signals to the main thread alone, and lets no other ask for them."""
    checked = []

    def work():
        with held_interrupts() as pressed:
            checked.append(pressed())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert checked == [False]
