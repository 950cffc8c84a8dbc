"""The program's entry: `popos`, or python -m popos_cli."""

import os
import signal
import sys

from .errors import INTERRUPTED

if (
    "--multiprocessing-fork" in sys.orig_argv
):  # a worker imports this first: Ctrl-C in its other imports is quiet
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run() -> None:
    """Run the command line. Ctrl-C prints no traceback, not even while Python still loads or already ends."""
    listening = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not so under nohup or `&`
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
    sys.exit(code)


if __name__ == "__main__":
    run()
