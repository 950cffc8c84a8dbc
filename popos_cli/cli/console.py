"""All output: results to stdout (a table, or one JSON document), everything else to stderr.

Names of files, datasets and weights may contain anything. Here, and only here, they are made safe to print:
control characters, which a terminal would obey, are escaped.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NoReturn

from rich.console import Console

from ..errors import PoposError
from ..text import printable

if TYPE_CHECKING:
    from rich.progress import Progress

_GAP, _DOTS = 2, "..."  # between a table's columns, and for what a cell has no room for
_NUMBER = re.compile(r"-$|[-+±]?[\d.]+(?!\w)")  # "300w" is a name


class _Lines(Console):
    """A console of plain text: a path's brackets and colons are neither markup nor emoji codes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def print(self, *objects: Any, **style: Any) -> None:
        try:
            super().print(*(printable(o) if isinstance(o, str) else o for o in objects), **style)
        except OSError as error:
            if not self.stderr:
                _end(error)
            self.quiet = True  # nobody reads the notes; the work continues

    def on_broken_pipe(self) -> None:
        raise  # rich would end the program here


stdout = _Lines(soft_wrap=True)
stderr = _Lines(stderr=True, soft_wrap=True)


def prepare_streams() -> None:
    """Make the streams escape letters that the terminal's encoding lacks, instead of raising."""
    stderr.quiet = False
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the caller, `>&-`
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def write(text: str) -> None:
    """Print `text` on stdout as it is, and flush. Raises SystemExit if stdout cannot be written."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        _end(error)


def _end(error: OSError) -> NoReturn:
    """End the command because stdout cannot be written; without a message if the reader has gone, as after
    `popos | head`. The rest of stdout's buffer goes to /dev/null: Python would complain when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not isinstance(error, BrokenPipeError):
        stderr.print(f"error: cannot write to standard output: {error.strerror or error}", style="red")
    raise SystemExit(PoposError.exit_code)


def line(message: str) -> None:
    """Print one line of results while a progress bar may be drawn: on a terminal above the bar."""
    (stderr if stderr.is_terminal and sys.stdout.isatty() else stdout).print(message)


def note(message: str) -> None:
    """Print one line for the person at the terminal, on stderr."""
    stderr.print(message)


class _Notes(logging.Handler):
    """Shows what the rooms below log."""

    def emit(self, record: logging.LogRecord) -> None:
        note(f"note: {record.getMessage()}")


logging.getLogger("popos_cli").handlers = [_Notes()]


def print_json(document: Any) -> None:
    """Print one JSON document on a line of its own."""
    write(_json_text(document) + "\n")


def _json_text(document: Any) -> str:
    """In ASCII where stdout cannot take all of its letters, or some are control characters. A NaN is a bug
    and raises ValueError."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False)
    readable = printable(text) == text and (sys.stdout.encoding or "").lower() in ("utf-8", "utf8")
    return text if readable else json.dumps(document)


class JsonList:
    """One JSON document, {key: [item, ...], **rest}, that is printed item by item, so that none of them has
    to be kept."""

    def __init__(self, key: str) -> None:
        self.opening = f'{{"{key}": ['
        self.separator = self.opening

    @property
    def begun(self) -> bool:
        return self.separator != self.opening

    def add(self, item: Any) -> None:
        write(self.separator + _json_text(item))
        self.separator = ", "

    def end(self, rest: dict[str, Any]) -> None:
        """rest: at least one key."""
        write(("" if self.begun else self.opening) + "], " + _json_text(rest)[1:] + "\n")


def print_table(title: str, columns: Sequence[str], rows: Sequence[list[str]]) -> None:
    """Print a table as wide as the terminal, 80 columns where there is none (or $COLUMNS): columns of numbers
    to the right, others to the left. Cells break between words; a longer word, such as a path, loses its
    start. Numbers are never cut."""
    from rich.table import Table

    rows = [[printable(cell) for cell in row] for row in rows]
    numeric = [_is_numeric([row[n] for row in rows]) for n in range(len(columns))]
    room = shutil.get_terminal_size().columns
    widths = _widths(columns, rows, numeric, room)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column, number, width in zip(columns, numeric, widths, strict=True):
        table.add_column(column, justify="right" if number else "left", width=width)
    for row in rows:
        table.add_row(*(_without_long_words(*cell) for cell in zip(row, widths, strict=True)))
    for part in textwrap.wrap(printable(title), room, break_long_words=False, break_on_hyphens=False) or [""]:
        stdout.print(part, style="italic")
    _Lines(width=sum(widths) + _GAP * len(widths)).print(table)


def _is_numeric(cells: list[str]) -> bool:
    return bool(cells) and all(_NUMBER.match(cell) for cell in cells if cell)


def _widths(
    columns: Sequence[str], rows: Sequence[list[str]], numeric: Sequence[bool], room: int
) -> list[int]:
    """Widths that fill `room`: all columns get what they need up to a common limit, the first, which names
    the row, up to twice that. None gets less than the longest word of its heading, its numbers, or
    12 letters."""
    from rich.cells import cell_len

    needs, least = [], []
    for n, column in enumerate(columns):
        heading = max(map(cell_len, column.split()), default=0)
        cells = max((cell_len(row[n]) for row in rows), default=0)
        needs.append(max(cell_len(column), cells))
        floor = cells if numeric[n] else min(cells, 12)
        least.append(max(heading, floor))
    for limit in range(room, 0, -1):
        most = [2 * limit, *[limit] * (len(columns) - 1)]
        widths = [max(low, min(bounds)) for low, *bounds in zip(least, needs, most, strict=True)]
        if sum(widths) + _GAP * (len(widths) - 1) <= room:
            break
    return widths


def _without_long_words(cell: str, width: int) -> str:
    """The cell, of words that are too long only the end, from a folder's start where there is one."""
    from rich.cells import cell_len

    def end(found: re.Match[str]) -> str:
        word = found[0]
        if cell_len(word) <= width:
            return word
        while cell_len(word) > width - len(_DOTS):
            word = word[1:]
        folder = word.find("/")
        return _DOTS + (word[folder:] if 0 <= folder < len(word) - 1 else word)

    return re.sub(r"\S+", end, cell)


def fail(error: PoposError, as_json: bool) -> int:
    """Print a failure; returns the exit code."""
    message = " ".join(error.message.split())
    if as_json:
        print_json({"error": {"message": message, "hint": error.hint}})
    else:
        stderr.print(f"error: {message}", style="red")
        if error.hint:
            stderr.print(f"hint: {error.hint}")
    return error.exit_code


@contextmanager
def progress_bar(description: str) -> Iterator[tuple[Progress, Any]]:
    """A bar with count, elapsed and remaining time on stderr; yields (progress, task).

    Where stderr is a file or a pipe nothing is drawn.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(), TextColumn("ETA"), TimeRemainingColumn(), TextColumn("{task.fields[extra]}"),
    )  # fmt: skip
    # Steps may take seconds, and training pauses to validate: an ETA from the last half minute would jump.
    # stdout is not redirected: rich would print on stderr what belongs into a file.
    bar = Progress(*columns, console=stderr, transient=True, speed_estimate_period=600, redirect_stdout=False)
    # rich before 14.3 ends a line even for a disabled bar.
    with bar if stderr.is_terminal else nullcontext(bar):
        yield bar, bar.add_task(printable(description), total=None, extra="")


@contextmanager
def bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar; yields a function to call with the number just done."""
    with progress_bar(title) as (progress, task):
        progress.update(task, total=total)
        yield lambda count: progress.update(task, advance=count)


@contextmanager
def counter(title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar whose total may change; yields a function to call with the number done, and of all."""
    with progress_bar(title) as (progress, task):
        yield lambda done, total: progress.update(task, completed=done, total=total)
