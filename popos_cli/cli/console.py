"""The one sink: results to stdout (a table, or one JSON document), all else to stderr."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from ..errors import PoposError

# Paths hold brackets and colons: they are never markup or emoji codes.
stdout = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
stderr = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)
_NUMBER = re.compile(r"-$|[-+±]?[\d.]+(?!\w)")  # "300w" is a name


def note(message: str) -> None:
    """A remark for the person at the terminal."""
    stderr.print(message)


class _Notes(logging.Handler):
    """What the rooms below log is for the person at the terminal, too."""

    def emit(self, record: logging.LogRecord) -> None:
        note(f"note: {record.getMessage()}")


logging.getLogger("popos_cli").handlers = [_Notes()]


def print_json(document: Any) -> None:
    """One JSON document; a NaN in it is a bug and raises ValueError."""
    sys.stdout.write(json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n")


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Text columns to the left, numbers (every cell but the first looks like one) to the right."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for n, column in enumerate(columns):
        cells = [row[n] for row in rows]
        numeric = bool(cells) and all(_NUMBER.match(cell) for cell in cells if cell)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    # Piped output is for programs and files: no wrapping to a terminal's width.
    width = None if sys.stdout.isatty() else 200
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    console.print(title, style="italic", soft_wrap=True)
    console.print(table)


def fail(error: PoposError, as_json: bool) -> int:
    """Report a failure and give the exit code."""
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
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(), TextColumn("ETA"), TimeRemainingColumn(), TextColumn("{task.fields[extra]}"),
    )  # fmt: skip
    with shown(Progress(*columns, console=stderr, transient=True)) as progress:
        yield progress, progress.add_task(description, total=None, extra="")


def shown(progress: Progress) -> AbstractContextManager[Progress]:
    """Drawn where stderr is a terminal. (A disabled one of rich before 14.3 would end a line elsewhere.)"""
    return progress if stderr.is_terminal else nullcontext(progress)
