"""Option types that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from ..errors import UsageError, did_you_mean

WORKERS = Annotated[int, typer.Option(min=0, max=128, help="Loader processes.")]
JSON = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
DEVICE = Annotated[
    str | None, typer.Option(help="cpu, cuda or cuda:N.", show_default="a GPU if there is one")
]
FLIP_HELP = "Average heatmaps with those of the mirrored crop: twice the time, better points."


def parse_box(text: str) -> tuple[float, float, float, float]:
    """ "x,y,w,h" -> numbers, w and h above 0. Raises UsageError."""
    try:
        x, y, w, h = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--box {text!r}: expected four numbers x,y,w,h") from None
    if not (w > 0 and h > 0 and all(abs(v) < 1e9 for v in (x, y, w, h))):
        raise UsageError(f"--box {text!r}: must be finite, width and height above 0")
    if max(w, h) <= 2:  # one in 0..1 may reach a little over the border
        raise UsageError(
            f"--box {text!r}: must be in pixels", "Multiply a box in 0..1 by the picture's width and height."
        )
    return x, y, w, h


def one_of(value: str, known: tuple[str, ...], what: str) -> str:
    """`value`, or a UsageError that names the known ones and the nearest."""
    if value in known:
        return value
    hint = f"{did_you_mean(value, known)}Known: {', '.join(known)}."
    raise UsageError(f"unknown {what} {value!r}", hint)
