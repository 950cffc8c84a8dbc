"""Faces in a CSV: what a column holds is read from its name, never from its place."""

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
from .files import is_number, read_text, shown, some
from .labels import Bad, Row, to_visible
from .names import in_scheme_order, plain, wrong_count

# What the column of the pictures is called, the likeliest first.
_IMAGE = (
    "image", "image path", "image name", "image file", "file name", "filename", "file path", "filepath",
    "file", "img", "path", "picture", "photo", "source", "image id",
)  # fmt: skip
# x, y or v (visibility) that is no part of a word: x0, x_0, 0_x, left_eye_x, x_left_eye.
_AXIS = re.compile(r"(?<![A-Za-z])[xyvXYV](?![A-Za-z])")
_MISSING = ("", "nan", "na", "n/a", "#n/a", "null", "none")  # R, Excel, pandas, databases
# In the name of a box's corner, which is no landmark: bbox_x, face_rect_x.
_BOX = {"bbox", "box", "rect"}
_HINT = (
    "The first line names the columns: image, then x0,y0,x1,y1,... or x_0,...,y_0,... or "
    "left_eye_x,left_eye_y,..."
)

_Set = dict[str, dict[int | str, int]]  # axis -> number or name of a landmark -> column


@dataclass(frozen=True)
class Columns:
    """Where a row has its picture and, in the scheme's order, each landmark's x, y and v (or no v)."""

    header: list[str]
    image: int
    x: list[int]
    y: list[int]
    v: list[int]


def read_csv(path: Path, scheme: Scheme) -> tuple[list[Row | Bad], Scheme, list[str]]:
    """Rows, scheme and remarks; the last two as `find_columns` gives them. Raises PoposError."""
    text = read_text(path)
    first = text.partition("\n")[0]
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count))
    rows = _rows(lines, path.name)
    header = next(rows, None)
    if header is None:
        raise PoposError(f"{path}: the file is empty", _HINT)
    if isinstance(header, Bad):
        raise PoposError(f"{path}:1: {header.reason}", _HINT)
    columns, scheme, remarks = find_columns([name.strip() for name in header[1]], scheme, f"{path}:1")
    return [row if isinstance(row, Bad) else _face(*row, columns) for row in rows], scheme, remarks


def _rows(lines: Iterator[list[str]], name: str) -> Iterator[tuple[str, list[str]] | Bad]:
    """Where each row stands, and its cells; blank lines are passed by."""
    while True:
        source = f"{name}:{lines.line_num + 1}"  # type: ignore[attr-defined]
        try:
            cells = next(lines)
        except StopIteration:
            return
        except csv.Error as error:  # a cell above 131,072 characters: mostly a quote that is never closed
            yield Bad(source, f"not CSV: {error}")
            continue
        if cells:
            yield source, cells


def _face(source: str, cells: list[str], columns: Columns) -> Row | Bad:
    """A point whose x and y are both empty or NaN is not labelled."""
    if len(cells) != len(columns.header):
        return Bad(source, f"{len(cells)} columns instead of {len(columns.header)}")
    cells = [cell.strip() for cell in cells]
    missing = [cell.lower() in _MISSING for cell in cells]
    labelled = np.array([not (missing[x] and missing[y]) for x, y in zip(columns.x, columns.y, strict=True)])
    points = np.full((len(labelled), 2), np.nan)
    visible = np.where(labelled, 2.0, 0.0)
    for place in np.flatnonzero(labelled).tolist():
        wanted = [axis[place] for axis in (columns.x, columns.y, columns.v) if axis]
        for column in wanted:
            if not is_number(cells[column]):
                return Bad(source, f"column {columns.header[column]}: {shown(cells[column])} is not a number")
        x, y, *v = (float(cells[column]) for column in wanted)
        points[place] = x, y
        visible[place] = v[0] if v else 2
    return Row(source, cells[columns.image], points, to_visible(visible))


def find_columns(header: list[str], scheme: Scheme, where: str) -> tuple[Columns, Scheme, list[str]]:
    """The columns; the scheme, named by them where it had no names; and what is worth a remark.

    Landmarks are numbered, from 0 or 1 on, or have names. Raises PoposError for a header that leaves
    open which column is which.
    """
    places = {plain(name): column for column, name in reversed(list(enumerate(header)))}
    image = next((places[name] for name in _IMAGE if name in places), None)
    if image is None:
        raise PoposError(f"{where}: no column is called image: {some(header)}", _HINT)
    chosen = _choose(header, scheme, where)
    keys, remarks = sorted(chosen["x"], key=str), []
    if isinstance(keys[0], int):
        keys.sort()
    else:
        names = list(chosen["x"])
        order, scheme = in_scheme_order([str(name) for name in names], scheme, where)
        keys = [names[place] for place in order]
        remarks.append(f"{where}: the landmarks in their order: {some(map(str, keys))}")
    x, y, v = ([chosen[axis][key] for key in keys] if axis in chosen else [] for axis in "xyv")
    if rest := [name for column, name in enumerate(header) if name and column not in {image, *x, *y, *v}]:
        remarks.append(f"{where}: columns that are not used: {some(rest)}")
    return Columns(header, image, x, y, v), scheme, remarks


def _choose(header: list[str], scheme: Scheme, where: str) -> _Set:
    """The one set of columns that holds the scheme's landmarks."""
    numbered, named = _sets(header, where)
    whole = [one for one in numbered.items() if _is_whole(one[1])]
    words = [one for one in named.items() if _are_names(one[1], scheme)]
    fitting, by_word = _likeliest(whole, scheme), _likeliest(words, scheme)
    known = [one for one in by_word if one["x"].keys() == _own_names(scheme)]
    # x1, y1, x2, y2 beside the names of two landmarks may be a box.
    fitting = known or fitting + [one for one in by_word if _columns(one) not in map(_columns, fitting)]
    if len(fitting) > 1:
        sets = some(header[_columns(one)[0]] for one in fitting)
        raise PoposError(f"{where}: several sets of columns could be the landmarks: {sets}", "Leave one in.")
    if fitting:
        return fitting[0]
    whole += words
    if whole:
        most = max((one["x"] for _, one in whole), key=len)
        names = [name for name in most if isinstance(name, str)]
        raise wrong_count(f"{where}: {len(header)} columns with", len(most), scheme, names)
    what = f"no x and y for each of {scheme.landmarks} landmarks"
    odd = some(header)
    if most_numbers := max(numbered.values(), key=lambda one: len(one.get("x", ())), default=None):
        odd = _gaps(most_numbers) or odd
    raise PoposError(f"{where}: {len(header)} columns, but {what}: {odd}", _HINT)


def _likeliest(sets: list[tuple[str, _Set]], scheme: Scheme) -> list[_Set]:
    """Of the sets, by their patterns, those with as many landmarks as the scheme; of several the likelier."""
    fitting = [pair for pair in sets if len(pair[1]["x"]) == scheme.landmarks]
    for is_likelier in (_is_bare, str.islower):  # OpenFace has x_0 and, in millimetres, X_0
        if len(fitting) > 1:
            fitting = [pair for pair in fitting if is_likelier(pair[0])] or fitting
    return [one for _, one in fitting]


def _columns(one: _Set) -> list[int]:
    return sorted(one["x"].values())


def _sets(header: list[str], where: str) -> tuple[dict[str, _Set], dict[str, _Set]]:
    """Sets of columns that differ in their last number alone, by what they have in common (x_0 and y_0:
    "x_#"; X_0: "X_#"); and those of all whose names have words, by "x" or "X". Raises PoposError for a name
    twice."""
    numbered: dict[str, _Set] = {}
    named: dict[str, _Set] = {}  # OpenFace has eye_lmk_x_0 and eye_lmk_X_0
    for column, name in enumerate(header):
        name = re.sub(r"(?<=[a-z])(?=[XYV]$)", "_", name)  # leftEyeX
        if not (found := _AXIS.search(name)):
            continue
        axis, before, after = found[0].lower(), name[: found.start()], name[found.end() :]
        places: list[tuple[_Set, int | str]] = []
        x = "X" if found[0].isupper() else "x"
        pattern = before + x + after
        if number := re.search(r"\d{1,6}(?=\D*$)", pattern):
            common = f"{pattern[: number.start()]}#{pattern[number.end() :]}"
            places.append((numbered.setdefault(common, {}), int(number[0])))
        word = plain(f"{before} {after}")
        if re.search("[a-z]", word) and not _BOX & set(word.split()):
            places.append((named.setdefault(x, {}), word))
        for one, key in places:
            if one.setdefault(axis, {}).setdefault(key, column) != column:
                raise PoposError(f"{where}: two columns for the {axis} of one landmark: {shown(name)}", _HINT)
    return numbered, named


def _is_even(one: _Set) -> bool:
    """Whether each landmark has an x and a y and, if any has one, a v."""
    x, y = one.get("x", {}), one.get("y", {})
    return x.keys() == y.keys() == one.get("v", x).keys() and bool(x)


def _is_whole(one: _Set) -> bool:
    """Whether its numbers are all from 0 or 1 on."""
    numbers = sorted(one.get("x", ()), key=int)
    return _is_even(one) and numbers in [list(range(start, start + len(numbers))) for start in (0, 1)]


def _gaps(one: _Set) -> str:
    """Which numbers, from 0 or 1 on, lack an x or a y."""
    x, y = one.get("x", {}), one.get("y", {})
    numbers = sorted(map(int, {*x, *y}))
    expected = range(min(numbers[0], 1), numbers[-1] + 1)
    missing = [str(number) for number in expected if number not in x or number not in y]
    return f"x or y is missing for number {some(missing)}" if missing else ""


def _is_bare(pattern: str) -> bool:
    return re.fullmatch(r"[xX][\W_]?#|#[\W_]?[xX]", pattern) is not None


def _are_names(named: _Set, scheme: Scheme) -> bool:
    """Whether they are words, or the scheme's own names, rather than numbers with a gap."""
    if not _is_even(named):
        return False
    names = [str(name) for name in named["x"]]
    return _own_names(scheme) == set(names) or len({re.sub(r"\d+", "", name) for name in names}) == len(names)


def _own_names(scheme: Scheme) -> set[str]:
    return {plain(name) for name in scheme.names}
