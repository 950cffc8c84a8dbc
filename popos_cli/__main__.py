"""The program's entry: `popos`, or python -m popos_cli."""

import os
import signal
import sys

from .errors import INTERRUPTED


def run() -> None:
    """Run the command line. Ctrl-C is quiet also before and after a command, while Python loads and ends."""
    listening = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # nohup and `&` ignore it
    if listening:
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    from .cli.app import main

    if listening:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code = main()
    except KeyboardInterrupt:  # a second one, while the first was reported
        code = INTERRUPTED
    if listening:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    # CPython notes a KeyboardInterrupt that came through C, as from an import of torch, and would die of the
    # signal instead of ending with `code`; running a string clears the note.
    exec("")
    sys.exit(code)


if __name__ == "__main__":
    run()
