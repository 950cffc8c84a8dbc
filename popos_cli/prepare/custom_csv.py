"""Faces in a CSV: what a column holds is known from its name, never from its place."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.schemes import Scheme
from ..errors import PoposError
from .labels import Bad, Label, to_visible
from .landmark_names import in_scheme_order, plain, wrong_count
from .parsing import is_number, read_text, shown, some

# Names of the column with the picture's path, the likeliest first.
_IMAGE = (
    "image", "image path", "image name", "image file", "file name", "filename", "file path", "filepath",
    "file", "img", "path", "picture", "photo", "source", "image id",
)  # fmt: skip
# x, y or v (visibility) that is not part of a word: x0, x_0, 0_x, left_eye_x, x_left_eye.
_AXIS = re.compile(r"(?<![A-Za-z])[xyvXYV](?![A-Za-z])")
_MISSING = ("", "nan", "na", "n/a", "#n/a", "null", "none")  # R, Excel, pandas, databases
_BOX = {"bbox", "box", "rect"}  # bbox_x, face_rect_x: a box's corner, not a landmark
_HINT = (
    "The first line names the columns: image, then x0,y0,x1,y1,... or x_0,...,y_0,... or "
    "left_eye_x,left_eye_y,..."
)

# Columns that may be the landmarks: axis (x, y, v) -> number or name of a landmark -> column.
_Axes = dict[str, dict[int | str, int]]


@dataclass(frozen=True)
class Columns:
    """Where a row has its picture and, in the scheme's order, each landmark's x, y and v (or no v)."""

    header: list[str]
    image: int
    x: list[int]
    y: list[int]
    v: list[int]


def read_csv(path: Path, scheme: Scheme) -> tuple[list[Label | Bad], Scheme, list[str]]:
    """Rows, scheme and remarks; the last two as `find_columns` gives them. Raises PoposError."""
    text = read_text(path)
    first = text.partition("\n")[0]
    csv.field_size_limit(2**31 - 1)  # a quote that is never closed makes one huge cell, which is a bad row
    rows = _rows(csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count)))
    _, header = next(rows, (0, None))
    if header is None:
        raise PoposError(f"{path}: the file is empty", _HINT)
    columns, scheme, remarks = find_columns([name.strip() for name in header], scheme, f"{path}:1")
    return [_face(f"{path.name}:{line}", cells, columns) for line, cells in rows], scheme, remarks


def _rows(lines: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """The line where each row begins, and its cells; blank lines are left out."""
    start = 1
    for cells in lines:
        if cells:
            yield start, cells
        start = lines.line_num + 1  # type: ignore[attr-defined]


def _face(source: str, cells: list[str], columns: Columns) -> Label | Bad:
    """A point whose x and y are both empty or NaN is not labelled."""
    if len(cells) != len(columns.header):
        return Bad(source, f"{len(cells)} columns instead of {len(columns.header)}")
    cells = [cell.strip() for cell in cells]
    missing = [cell.lower() in _MISSING for cell in cells]
    points = np.full((len(columns.x), 2), np.nan)
    visible = np.zeros(len(columns.x))
    for landmark, (x, y) in enumerate(zip(columns.x, columns.y, strict=True)):
        if missing[x] and missing[y]:
            continue
        wanted = [x, y, columns.v[landmark]] if columns.v else [x, y]
        for column in wanted:
            if not is_number(cells[column]):
                return Bad(source, f"column {columns.header[column]}: {shown(cells[column])} is not a number")
        points[landmark] = float(cells[x]), float(cells[y])
        visible[landmark] = float(cells[wanted[2]]) if columns.v else 2
    seen = to_visible(visible)
    points[seen == 0] = np.nan
    name = cells[columns.image]
    return Label(Path(name), points, seen, source, group=name)


def find_columns(header: list[str], scheme: Scheme, where: str) -> tuple[Columns, Scheme, list[str]]:
    """The columns; the scheme, which takes its landmarks' names from them where it has none; and remarks.

    Landmarks are numbered, from 0 or 1 on, or have names. Raises PoposError for a header that leaves
    open which column is which.
    """
    places = {plain(name): column for column, name in reversed(list(enumerate(header)))}
    image = next((places[name] for name in _IMAGE if name in places), None)
    if image is None:
        raise PoposError(f"{where}: no column is called image: {some(header)}", _HINT)
    chosen = _choose(header, scheme, where)
    keys, remarks = list(chosen["x"]), []
    if isinstance(keys[0], int):
        keys.sort()
    else:
        order, scheme = in_scheme_order([str(name) for name in keys], scheme, where)
        keys = [keys[place] for place in order]
        remarks.append(f"{where}: the landmarks in their order: {some(map(str, keys))}")
    x, y, v = ([chosen[axis][key] for key in keys] if axis in chosen else [] for axis in "xyv")
    if rest := [name for column, name in enumerate(header) if name and column not in {image, *x, *y, *v}]:
        remarks.append(f"{where}: columns that are not used: {some(rest)}")
    return Columns(header, image, x, y, v), scheme, remarks


def _choose(header: list[str], scheme: Scheme, where: str) -> _Axes:
    """The one set of columns that holds the scheme's landmarks."""
    own = {plain(name) for name in scheme.names}
    sets = {pattern: axes for pattern, axes in _sets(header, where).items() if _is_whole(pattern, axes, own)}
    fitting = {pattern: axes for pattern, axes in sets.items() if len(axes["x"]) == scheme.landmarks}
    numbered, named = (_likeliest([p for p in fitting if ("#" in p) == number]) for number in (True, False))
    by_own = [pattern for pattern in named if fitting[pattern]["x"].keys() == own]
    # Beside a scheme's own names, x1, y1, x2, y2 are a box. One landmark's columns fit by number and by name.
    columns = {
        tuple(sorted(fitting[pattern]["x"].values())): pattern for pattern in by_own or named + numbered
    }
    if len(columns) == 1:
        return fitting[columns.popitem()[1]]
    if columns:
        found = some(header[first] for first, *_ in columns)
        raise PoposError(f"{where}: several sets of columns could be the landmarks: {found}", "Leave one in.")
    if sets:
        most = max(len(axes["x"]) for axes in sets.values())
        raise wrong_count(f"{where}: {len(header)} columns with", most, scheme)
    what = f"no x and y for each of {scheme.landmarks} landmarks"
    raise PoposError(f"{where}: {len(header)} columns, but {what}: {some(header)}", _HINT)


def _sets(header: list[str], where: str) -> dict[str, _Axes]:
    """Columns that may belong together, by a pattern: names that differ in the axis and the last number alone
    have "x_#" (x_0 and y_0) or "X_#" (X_0); all names with words have "x" or, with a capital axis, "X".
    Raises PoposError where a name occurs twice."""
    sets: dict[str, _Axes] = {}
    for column, name in enumerate(header):
        name = re.sub(r"(?<=[a-z])(?=[XYV]$)", "_", name)  # leftEyeX
        if not (found := _AXIS.search(name)):
            continue
        axis, before, after = found[0].lower(), name[: found.start()], name[found.end() :]
        keys: dict[str, int | str] = {}
        x = "X" if found[0].isupper() else "x"
        pattern = before + x + after
        if number := re.search(r"\d{1,6}(?=\D*$)", pattern):
            keys[f"{pattern[: number.start()]}#{pattern[number.end() :]}"] = int(number[0])
        word = plain(f"{before} {after}")
        if re.search("[a-z]", word) and not _BOX & set(word.split()):
            keys[x] = word
        for pattern, key in keys.items():
            if sets.setdefault(pattern, {}).setdefault(axis, {}).setdefault(key, column) != column:
                raise PoposError(f"{where}: two columns for the {axis} of one landmark: {shown(name)}", _HINT)
    return sets


def _is_whole(pattern: str, axes: _Axes, own: set[str]) -> bool:
    """Whether each landmark has an x and a y (and, if any has one, a v), and the landmarks are the numbers
    from 0 or 1 on; or the scheme's own names, or words rather than numbers with a gap."""
    keys = axes.get("x", {}).keys()
    if not keys or not keys == axes.get("y", {}).keys() == axes.get("v", dict.fromkeys(keys)).keys():
        return False
    if "#" in pattern:
        return keys in (set(range(len(keys))), set(range(1, len(keys) + 1)))
    return keys == own or len({re.sub(r"\d+", "", str(name)) for name in keys}) == len(keys)


def _likeliest(patterns: list[str]) -> list[str]:
    """Of several the likelier: OpenFace has x_0, eye_lmk_x_0 and, in millimetres, X_0."""
    for likelier in (r"[xX][\W_]?#|#[\W_]?[xX]", r"[^A-Z]*"):
        if len(patterns) > 1:
            patterns = [pattern for pattern in patterns if re.fullmatch(likelier, pattern)] or patterns
    return patterns
