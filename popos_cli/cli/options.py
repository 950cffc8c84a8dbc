"""Option types that several commands share, and checks that the parser does not make."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from typing import Annotated, TypeVar

import typer

from ..errors import UsageError, did_you_mean


def _forbid_downloads(offline: bool) -> bool:
    """For this command and the processes that it starts, as the Hub's own variable says it."""
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    return offline


WORKERS = Annotated[int, typer.Option(min=0, max=128, help="Loader processes.")]
JSON = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
DEVICE = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:N or mps (Apple).", show_default="a GPU if there is one")
]
SETTINGS = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One setting, e.g. augment.flip=1; repeatable."),
]
OFFLINE = Annotated[
    bool, typer.Option("--offline", help="Ask no network: use what is here.", callback=_forbid_downloads)
]
T = TypeVar("T", str, int)
FLIP_HELP = "Average heatmaps with those of the mirrored crop: twice the time, better points."


def parse_numbers(flag: str, text: str, names: str) -> tuple[float, ...]:
    """The numbers of an option's value, one for each of the comma-separated `names`. Raises UsageError."""
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != names.count(",") + 1 or not all(map(math.isfinite, numbers)):
        raise UsageError(f"{flag} {text!r}: expected finite numbers {names}")
    return numbers


def one_of(value: T, known: Sequence[T], what: str) -> T:
    """`value`, or a UsageError that names the known ones and the nearest."""
    if value in known:
        return value
    names = [str(name) for name in known]
    hint = f"{did_you_mean(str(value), names)}Known: {', '.join(names)}."
    raise UsageError(f"unknown {what} {value!r}", hint)


def parse_time(flag: str, text: str) -> float:
    """Seconds of "90", "1:30", "1:02:03.5". Raises UsageError."""
    match = re.fullmatch(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?)", text.strip())
    if not match:
        raise UsageError(f"{flag} {text!r}: expected seconds, m:ss or h:mm:ss")
    hours, minutes, seconds = match.groups(default="0")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
