"""Landmarks drawn on pictures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.geometry import Floats

if TYPE_CHECKING:
    from .face import Face

Edges = tuple[tuple[int, int], ...]
SUBPIXEL_BITS = 4  # OpenCV draws at 1/16 pixel
POINT = (64, 255, 64)  # RGB
EDGE = (255, 176, 32)
BOX = (80, 160, 255)


def fixed(point: Floats) -> tuple[int, int]:
    """A point (2,) as OpenCV's fixed-point coordinates."""
    x, y = np.clip(np.nan_to_num(point), -1_000_000, 1_000_000) * (1 << SUBPIXEL_BITS)
    return round(float(x)), round(float(y))


def draw_faces(image: NDArray[np.uint8], faces: Iterable[Face], edges: Edges) -> NDArray[np.uint8]:
    """A copy of RGB `image` with each face's box and landmarks."""
    canvas = image.copy()
    for face in faces:
        draw_box(canvas, face.box)
        draw_points(canvas, face.points, edges)
    return canvas


def draw_points(
    image: NDArray[np.uint8],
    points: Floats,
    edges: tuple[tuple[int, int], ...],
    color: tuple[int, int, int] = POINT,
) -> None:
    """Draw points (K, 2) and their edges on RGB `image` in place; line widths follow the face's size."""
    extent = float(np.ptp(points, axis=0).max()) if len(points) else 0.0
    line = max(round(extent / 300), 1)
    radius = max(extent / 110, 1.0)
    for a, b in edges:
        cv2.line(image, fixed(points[a]), fixed(points[b]), EDGE, line, cv2.LINE_AA, SUBPIXEL_BITS)
    for point in points:
        draw_dot(image, point, radius, color)


def draw_dot(image: NDArray[np.uint8], point: Floats, radius: float, color: tuple[int, int, int]) -> None:
    """Draw one dot at a point (2,), in place; pixels, which may be fractions."""
    size = round(radius * (1 << SUBPIXEL_BITS))
    cv2.circle(image, fixed(point), size, color, cv2.FILLED, cv2.LINE_AA, SUBPIXEL_BITS)


def draw_box(image: NDArray[np.uint8], box: Floats) -> None:
    """Draw a box (x, y, w, h), pixel edges, in place."""
    thickness = max(round(float(box[2]) / 150), 1)
    low, high = box[:2] - 0.5, box[:2] + box[2:] - 0.5
    cv2.rectangle(image, fixed(low), fixed(high), BOX, thickness, cv2.LINE_AA, SUBPIXEL_BITS)
