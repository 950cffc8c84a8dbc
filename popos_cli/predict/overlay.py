"""Landmarks drawn on pictures."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.geometry import Floats

if TYPE_CHECKING:
    from .face import Face

SUBPIXEL_BITS = 4  # OpenCV draws at 1/16 pixel
POINT = (64, 255, 64)  # RGB
EDGE = (255, 176, 32)
BOX = (80, 160, 255)
UNCERTAINTY = (255, 64, 208)
SMALL = 110  # pixels: a smaller face, whose dots are finer than a pixel, is drawn at twice this size
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_LETTERS = 22  # pixels: the height of the font's capitals at scale 1

Picture = NDArray[np.uint8]
Edges = tuple[tuple[int, int], ...]
Color = tuple[int, int, int]


def draw_faces(image: Picture, faces: Iterable[Face], edges: Edges, uncertainty: bool = False) -> Picture:
    """A copy of RGB `image` with each face's box, landmarks, number and score. The number is the track's, or
    else the face's place, from 1. uncertainty: with a circle of that radius around each landmark."""
    canvas = image.copy()
    for number, face in enumerate(faces, start=1):
        label = f"{number if face.id is None else face.id}"
        draw_box(canvas, face.box)
        radii = face.uncertainty if uncertainty else None
        draw_points(canvas, face.points, edges, radii=radii, extent=float(face.box[2:].max()))
        draw_label(canvas, face.box, label if face.score is None else f"{label} {face.score:.2f}")
    return canvas


def draw_points(
    image: Picture,
    points: Floats,
    edges: Edges,
    color: Color = POINT,
    radii: Floats | None = None,
    extent: float | None = None,
) -> None:
    """Draw points (K, 2) and their edges on RGB `image` in place, with circles of `radii` (K,) pixels around
    them. Dots and lines scale with `extent`, the face's width or height, by default the points'; those of a
    small face are finer than a pixel."""
    if not len(points):
        return
    extent = float(np.ptp(points, axis=0).max()) if extent is None else extent
    times = 1 if extent >= SMALL else min(math.ceil(2 * SMALL / max(extent, 1.0)), 16)
    reach = 4 + (0.0 if radii is None else float(radii.max()))
    low, high = (
        np.clip(edge, 0, image.shape[1::-1]).astype(int)
        for edge in (points.min(0) - reach, points.max(0) + reach + 1)
    )
    part = image[low[1] : high[1], low[0] : high[0]]
    if times == 1 or not part.size:
        _draw(image, points, edges, color, radii, extent, 1)
        return
    large: Any = cv2.resize(part, None, fx=times, fy=times, interpolation=cv2.INTER_NEAREST)
    moved = (points - low + 0.5) * times - 0.5
    _draw(large, moved, edges, color, None if radii is None else radii * times, extent, times)
    # What nothing was drawn on comes back as it was: the mean of equal pixels.
    part[:] = cv2.resize(large, part.shape[1::-1], interpolation=cv2.INTER_AREA)


def _draw(
    image: Picture,
    points: Floats,
    edges: Edges,
    color: Color,
    radii: Floats | None,
    extent: float,
    times: int,
) -> None:
    """As `draw_points`, of a face of `extent` pixels that is drawn `times` as large."""
    line = max(round(times * max(extent / 300, 0.3)), 1)
    radius = times * max(extent / SMALL, 0.35)
    places = fixed(points)
    for a, b in edges:
        cv2.line(image, places[a], places[b], EDGE, line, cv2.LINE_AA, SUBPIXEL_BITS)
    for n, place in enumerate(places):
        if radii is not None:
            _circle(image, place, float(radii[n]), UNCERTAINTY, line)
        _circle(image, place, radius, color, cv2.FILLED)


def draw_dot(image: Picture, point: Floats, radius: float, color: Color) -> None:
    """Draw one dot at a point (2,), in place; radius: pixels, which may be fractions."""
    _circle(image, fixed(point), radius, color, cv2.FILLED)


def _circle(image: Picture, place: Any, radius: float, color: Color, thickness: int) -> None:
    size = round(radius * (1 << SUBPIXEL_BITS))
    cv2.circle(image, place, size, color, thickness, cv2.LINE_AA, SUBPIXEL_BITS)


def draw_box(image: Picture, box: Floats) -> None:
    """Draw a box (x, y, w, h), pixel edges, in place."""
    low, high = box[:2] - 0.5, box[:2] + box[2:] - 0.5
    cv2.rectangle(image, fixed(low), fixed(high), BOX, _box_line(box), cv2.LINE_AA, SUBPIXEL_BITS)


def _box_line(box: Floats) -> int:
    return max(round(float(box[2]) / 150), 1)


def draw_label(image: Picture, box: Floats, text: str) -> None:
    """Write ASCII `text` above a box's left corner, in place, or below it where there is no room above."""
    scale = max(float(box[3]) / 18, 9) / _LETTERS
    thickness = max(round(scale * 2), 1)
    (width, height), _ = cv2.getTextSize(text, _FONT, scale, thickness)
    margin = max(height // 3, 2)
    tag = np.full((height + 2 * margin, width + 2 * margin, 3), BOX, np.uint8)
    cv2.putText(tag, text, (margin, margin + height), _FONT, scale, (255, 255, 255), thickness, cv2.LINE_AA)
    line = _box_line(box)
    left, top = math.floor(box[0]), math.floor(box[1]) - line - len(tag)
    if top < 0:
        top = math.ceil(box[1] + box[3]) + line
    left, top = (
        int(np.clip(start, 0, max(room - side, 0)))
        for start, room, side in zip((left, top), image.shape[1::-1], tag.shape[1::-1], strict=True)
    )
    part = image[top : top + len(tag), left : left + tag.shape[1]]
    part[:] = tag[: part.shape[0], : part.shape[1]]


def fixed(points: Floats) -> Any:
    """A point (2,) or points (K, 2) as OpenCV's fixed-point coordinates, in lists."""
    inside = np.clip(np.nan_to_num(points), -1_000_000, 1_000_000)
    return np.round(inside * (1 << SUBPIXEL_BITS)).astype(int).tolist()
