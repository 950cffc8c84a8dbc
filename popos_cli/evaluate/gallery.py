"""The worst faces of an evaluation, with truth and prediction drawn."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ..core.geometry import Floats, crop_matrix, transform, warp
from ..data.pictures import Picture
from ..predict.overlay import draw_points
from .contact_sheet import ascii_only, contact_sheet
from .results import Evaluated

WORST = 12
_COLUMNS = 4
_TILE = 320  # pixels
_MARGIN = 1.6  # sides of the face's square that a tile shows
_LEGEND = 24  # pixels of height
TRUTH, PREDICTION, LINK = (64, 255, 64), (255, 64, 208), (255, 255, 255)


def worst_faces(one: Evaluated) -> Picture:
    """A page of the worst faces, the worst first, RGB; each is captioned with its place and NME."""
    rows = one.worst(WORST)
    tiles = []
    for place, row in enumerate(rows, start=1):
        name = Path(str(one.index.image[one.measured.face[row]])).name
        tiles.append((_tile(one, row), f"{place}: {one.measured.error[row] * 100:.2f} %  {name}"))
    page = contact_sheet([tiles[n : n + _COLUMNS] for n in range(0, len(tiles), _COLUMNS)])
    legend = _legend(f"{one.title}: the worst {len(rows)} of {one.result['faces']} faces")
    width = max(page.shape[1], legend.shape[1])
    return np.vstack([_widened(legend, width), _widened(page, width)])


def _tile(one: Evaluated, row: int) -> Picture:
    """Truth and prediction of one face, each pair of points joined; outside the picture is black."""
    index, face = one.index, int(one.measured.face[row])
    matrix = crop_matrix(index.center[face], float(index.side[face]) * _MARGIN, _TILE)
    tile = warp(index.read_rgb(face), matrix, _TILE)
    labelled = np.isfinite(index.points[face]).all(-1)
    truth = transform(index.points[face][labelled], matrix)
    found = transform(one.measured.points[row][labelled], matrix)
    for pair in zip(truth, found, strict=True):
        _link(tile, *pair)
    draw_points(tile, truth, (), TRUTH)
    draw_points(tile, found, (), PREDICTION)
    return tile


def _link(tile: Picture, a: Floats, b: Floats) -> None:
    ends = np.clip(np.stack([a, b]), -10_000, 10_000).round().astype(int).tolist()
    cv2.line(tile, ends[0], ends[1], LINK, 1, cv2.LINE_AA)


def _legend(title: str) -> Picture:
    """A strip that says which colour is which, and what the page shows."""
    strip = np.full((_LEGEND, _TILE * _COLUMNS, 3), 64, np.uint8)
    x = 8
    for name, color in (("truth", TRUTH), ("prediction", PREDICTION)):
        cv2.circle(strip, (x, _LEGEND // 2), 4, color, cv2.FILLED, cv2.LINE_AA)
        _write(strip, name, x + 10)
        x += 24 + 8 * len(name)
    _write(strip, title, x + 16)
    return strip


def _write(strip: Picture, text: str, x: int) -> None:
    place, white = (x, _LEGEND - 8), (255, 255, 255)
    cv2.putText(strip, ascii_only(text), place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, white, 1, cv2.LINE_AA)


def _widened(picture: Picture, width: int) -> Picture:
    """White to the right, up to `width`."""
    return np.pad(picture, ((0, 0), (0, width - picture.shape[1]), (0, 0)), constant_values=255)
