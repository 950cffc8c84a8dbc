import signal
import threading

import pytest

from popos_cli.engine.interrupt import Stopped, held_interrupts


def press():
    signal.raise_signal(signal.SIGINT)


def test_ctrl_c_waits_until_asked():
    before = signal.getsignal(signal.SIGINT)
    done = []
    with pytest.raises(Stopped), held_interrupts() as check:
        check()
        press()
        done.append("the rest of the step")
        check()
        done.append("never")
    assert done == ["the rest of the step"]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_does_not_wait():
    with pytest.raises(KeyboardInterrupt) as caught, held_interrupts():
        press()
        press()
    assert not isinstance(caught.value, Stopped)


def test_outside_the_main_thread_nothing_is_held():
    """Python delivers signals to the main thread alone, and lets no other ask for them."""
    checked = []

    def work():
        with held_interrupts() as check:
            check()
            checked.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert checked == [True]
