"""The worst faces of an evaluation, with truth and prediction drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from ..core.geometry import Floats, crop_matrix, transform, warp
from ..data.pictures import Picture
from ..predict.overlay import draw_points
from .contact_sheet import color_legend, contact_sheet
from .results import Evaluated

WORST = 12
_COLUMNS = 4
_TILE = 320  # pixels
_MARGIN = 1.6  # sides of the face's square that a tile shows
TRUTH, PREDICTION, LINK = (64, 255, 64), (255, 64, 208), (255, 255, 255)


def worst_tiles(one: Evaluated) -> list[Picture]:
    """RGB (320, 320, 3) of the `WORST` faces, the worst first, with their truth and prediction."""
    return [_tile(one, row) for row in one.worst(WORST)]


def worst_page(one: Evaluated, tiles: Sequence[Picture]) -> Picture:
    """These tiles on one RGB page with a legend; each is captioned with its place and NME."""
    rows = one.worst(WORST)
    captioned = []
    for place, (row, tile) in enumerate(zip(rows, tiles, strict=True), start=1):
        name = Path(str(one.index.image[one.measured.face[row]])).name
        captioned.append((tile, f"{place}: {one.measured.error[row] * 100:.2f} %  {name}"))
    page = contact_sheet([captioned[n : n + _COLUMNS] for n in range(0, len(tiles), _COLUMNS)])
    missing = _COLUMNS * _TILE - page.shape[1]  # the legend is wider than a few tiles
    page = np.pad(page, ((0, 0), (0, missing), (0, 0)), constant_values=255)
    title = f"{one.title}: the worst {len(rows)} of {one.result['faces']} faces"
    legend = color_legend({"truth": TRUTH, "prediction": PREDICTION}, title, page.shape[1])
    return np.vstack([legend, page])


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
    draw_points(tile, truth, (), TRUTH, extent=_TILE / _MARGIN)
    draw_points(tile, found, (), PREDICTION, extent=_TILE / _MARGIN)
    return tile


def _link(tile: Picture, a: Floats, b: Floats) -> None:
    ends = np.clip(np.stack([a, b]), -10_000, 10_000).round().astype(int).tolist()
    cv2.line(tile, ends[0], ends[1], LINK, 1, cv2.LINE_AA)
