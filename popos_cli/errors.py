"""The two kinds of failure that popos reports to a user; any other exception is a bug of ours."""

import difflib
import os
from collections.abc import Iterable

INTERRUPTED = 130  # exit code after Ctrl-C, as a shell has it: of a command, and of its worker processes


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The start of a hint, "Did you mean 'x'? ", or "" where no known name is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"Did you mean {near[0]!r}? " if near else ""


def debugging() -> bool:
    """Whether the user wants tracebacks and the messages of other libraries: POPOS_DEBUG=1."""
    return os.environ.get("POPOS_DEBUG") == "1"


class PoposError(Exception):
    """What went wrong and where; `hint` says what to do next. The command line exits with 1."""

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if hint:
            self.add_note(f"hint: {hint}")  # part of a traceback's text, all that torch's loader keeps of it


class UsageError(PoposError):
    """A wrong flag, value or name, found before any work. The command line exits with 2."""

    exit_code = 2


class PoposWarning(UserWarning):
    """What a caller of the Python interface should know of a result; commands print it on stderr."""
