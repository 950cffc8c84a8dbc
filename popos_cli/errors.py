"""The failures that popos reports to a user: its own kinds, and what to call any other exception."""

from __future__ import annotations

import difflib
import os
import reprlib
from collections.abc import Iterable
from typing import Any

INTERRUPTED = 130  # exit code after Ctrl-C, as a shell has it: of a command, and of its worker processes


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The start of a hint, "Did you mean 'x'? ", or "" where no known name is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"Did you mean {near[0]!r}? " if near else ""


def first_problem(error: Any) -> tuple[str, str]:
    """The key ("codec.sigma"; "" for the whole) and what is wrong with it: the first problem of a pydantic
    ValidationError, whose own text has several lines and a link."""
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "literal_error":  # it lists what is possible alone
        message += f", not {reprlib.repr(first['input'])}"
    return ".".join(map(str, first["loc"])), message


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
            self.add_note(f"hint: {hint}")  # torch's loader keeps a traceback's text, and no attributes


class UsageError(PoposError):
    """A wrong flag, value or name, found before any work. The command line exits with 2."""

    exit_code = 2


class PoposWarning(UserWarning):
    """What a caller of the Python interface should know of a result; commands print it on stderr."""


def explained(error: Exception) -> PoposError:
    """The failure to report: a PoposError as it is, a broken installation, or else a bug of ours."""
    text, hint = _original(str(error).strip())
    if isinstance(error, PoposError):
        return error if text == error.message.strip() else PoposError(text, error.hint or hint)
    return import_failure(error) or PoposError(
        f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__,
        "This looks like a bug; run again with POPOS_DEBUG=1 for the full report.",
    )


def import_failure(error: Exception) -> PoposError | None:
    """What to install where a dependency does not import; None where the cause is another."""
    if not isinstance(error, ImportError | RuntimeError | OSError):
        return None
    text, _ = _original(str(error))
    line = text.splitlines()[0] if text else ""
    if any(library in text for library in ("libGL", "libgthread", "libglib")):
        what, repair = "OpenCV does not import", "apt-get install libgl1 libglib2.0-0"
    elif "torchvision::" in text or ("torchvision" in text and "torch" in text):
        what = "torch and torchvision do not match"
        repair = "pip install --force-reinstall torch torchvision (both from one index)"
    elif isinstance(error, ImportError):
        what, repair = "a package does not import", "pip install --force-reinstall popos-cli"
    else:
        return None
    return PoposError(f"{what}: {line}", f"Repair the installation: {repair}")


def _original(text: str) -> tuple[str, str | None]:
    """An exception's own message and hint. One of a loader process arrives as the text of a traceback: the
    message, behind the exception's class, is the last line, or the last before the hint's note."""
    if text.startswith("Caught ") and "Original Traceback" in text:
        before, _, hint = text.partition("\nhint: ")
        return before.splitlines()[-1].partition(": ")[2], hint or None
    return text, None
