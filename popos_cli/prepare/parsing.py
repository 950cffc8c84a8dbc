"""Text, numbers and .pts files, whatever a stranger wrote into them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core.geometry import Floats
from ..errors import PoposError


def read_text(path: Path) -> str:
    """A label file's text, its lines ending in "\\n". Raises PoposError."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise PoposError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise PoposError(f"{path}: cannot be read as text: {error}", "Save it as UTF-8.") from None


def shown(value: Any) -> str:
    """A value from a file for a message, at most 60 characters."""
    try:
        text = repr(value) if isinstance(value, str) else str(value)
    except (ValueError, RecursionError):  # an integer of more than 4300 digits; lists in lists in lists
        return f"a {type(value).__name__} too long to show"
    return text if len(text) <= 60 else f"{text[:57]}..."


def some(names: Iterable[str]) -> str:
    """The first of many names, and how many there are, for a message."""
    every = list(names)
    more = f" ... ({len(every)} in all)" if len(every) > 6 else ""
    return ", ".join(shown(name).strip("'\"") for name in every[:6]) + more


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def to_numbers(values: Any) -> Floats | None:
    """float64 of any shape, NaN for null; None where something is not a number."""
    try:
        return np.array(values, np.float64)
    except (TypeError, ValueError, OverflowError, RecursionError):  # 10**400 overflows
        return None


def to_floats(cells: Sequence[str], first: int = 1, missing: bool = False) -> Floats:
    """(n,) float64, finite, or with `missing` also NaN. first: the column number of cells[0] in the message.
    Raises ValueError."""
    try:
        values = np.array(cells, dtype=np.float64)
        right = np.isfinite(values) | (missing & np.isnan(values))
        if right.all():
            return values
        wrong = int(np.flatnonzero(~right)[0])
    except ValueError:
        wrong = next(place for place, cell in enumerate(cells) if not is_number(cell))
        raise ValueError(f"column {wrong + first}: {shown(cells[wrong])} is not a number") from None
    raise ValueError(f"column {wrong + first}: {shown(cells[wrong])} is NaN or infinite")


def read_pts(path: Path, landmarks: int | None = None, missing: bool = False) -> Floats:
    """iBUG's .pts: `version: 1`, `n_points:  68`, then lines "x y" between braces; or these lines alone, as
    some republish them.

    Returns (landmarks, 2), or as many points as there are, x then y, as the file has them; with `missing`
    some may be NaN. The text before the braces is ignored: its spaces and version numbers vary. Where there
    are no braces, there may be nothing but points. Raises ValueError.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot be read: {error}") from None
    before, opened, rest = text.partition("{")
    body, closed, _ = rest.partition("}")
    no_block = "" if opened and closed else "no { } block of points"
    if no_block:
        if opened or "}" in text or not text.strip():
            raise ValueError(no_block)
        before, body, no_block = "", text, f"{no_block}, and "
    points = []
    for number, line in enumerate(body.split("\n"), start=before.count("\n") + 1):
        if pair := line.split():
            try:
                if len(pair) != 2:
                    raise ValueError(f"{len(pair)} values instead of x and y")
                points.append(to_floats(pair, missing=missing))
            except ValueError as error:
                raise ValueError(f"{no_block}line {number}: {error}") from None
    if landmarks is not None and len(points) != landmarks:
        raise ValueError(f"{no_block}{len(points)} points instead of {landmarks}")
    return np.array(points).reshape(-1, 2)
