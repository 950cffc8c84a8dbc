"""Faces as rows of a table, in OpenFace's columns with ours about them: `source` before, `u_` behind."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..core.schemes import Scheme

if TYPE_CHECKING:
    from .face import Face

Cell = str | int | float


def csv_header(scheme: Scheme) -> list[str]:
    """The columns of `csv_rows`."""
    points = [f"{axis}_{n}" for axis in "xyu" for n in range(scheme.landmarks)]
    return ["source", "frame", "face_id", "timestamp", "confidence", "success", *points]


def csv_rows(faces: Iterable[Face], source: str = "", frame: int = 0, time: float = 0.0) -> list[list[Cell]]:
    """A row for each face of one picture or frame, rounded as `Face.to_dict` is. time: seconds.

    face_id: the track, or else the place among the picture's faces, from 0. confidence: the face's score,
    empty where it is not known. success: 1.
    """
    rows: list[list[Cell]] = []
    for number, face in enumerate(faces):
        plain = face.to_dict()
        confidence = "" if plain["score"] is None else plain["score"]
        x, y = zip(*plain["landmarks"], strict=True)
        row = [source, frame, plain.get("id", number), round(time, 6), confidence, 1]
        rows.append([*row, *x, *y, *plain["uncertainty"]])
    return rows
