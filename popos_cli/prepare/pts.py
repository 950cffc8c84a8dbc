"""iBUG's .pts files: `version: 1`, `n_points:  68`, then 68 lines "x y" between braces; 1-based."""

from __future__ import annotations

from pathlib import Path

from ..core.geometry import Floats
from .files import to_floats


class MalformedPts(ValueError):
    """What is wrong with a .pts file and, where one is to blame, in which line."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(f"line {line}: {reason}" if line else reason)
        self.reason = reason
        self.line = line


def read_pts(path: Path, landmarks: int | None = None, missing: bool = False) -> Floats:
    """Points (landmarks, 2), or as many as there are, x then y, as the file has them; with `missing` some
    may be NaN. Raises MalformedPts.

    What stands before the braces is not looked at: its spaces and version numbers vary.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise MalformedPts(f"cannot be read: {error}") from None
    before, opened, rest = text.partition("{")
    body, closed, _ = rest.partition("}")
    if not (opened and closed):
        raise MalformedPts("no { } block of points")
    cells: list[str] = []
    lines: list[int] = []
    for number, line in enumerate(body.split("\n"), start=before.count("\n") + 1):
        pair = line.split()
        if not pair:
            continue
        if len(pair) != 2:
            raise MalformedPts(f"{len(pair)} values instead of x and y", number)
        cells += pair
        lines.append(number)
    try:
        points = to_floats(cells, missing=missing).reshape(-1, 2)
    except ValueError:
        raise _first_flaw(cells, lines, missing) from None
    if landmarks is not None and len(points) != landmarks:
        raise MalformedPts(f"{len(points)} points instead of {landmarks}")
    return points


def _first_flaw(cells: list[str], lines: list[int], missing: bool) -> MalformedPts:
    for place, line in enumerate(lines):
        try:
            to_floats(cells[2 * place : 2 * place + 2], missing=missing)
        except ValueError as error:
            return MalformedPts(str(error), line)
    raise AssertionError("each line is all right by itself")
