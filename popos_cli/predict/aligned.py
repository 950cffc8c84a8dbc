"""Aligned crops: each face upright, of one size, with its eyes and mouth in the same places.

Three places stand for the mean face, so that any scheme may be aligned that says where its eyes are. In units
of the distance between the eyes' centres, the mouth's centre lies 1.116 below them, and the eyes' outer
corners are 1.383 apart (means of 2012 faces of 300W; of 3600 of YouTube Faces 1.132 and 1.380).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.geometry import Floats, crop_matrix, tight_square, warp
from ..core.schemes import Scheme

# Shares of the crop's side. From the brows at .30 to the chin at .92 there is room for a face, and some hair.
_APART, _LEVEL = 0.28, 0.40
_PLACES = {
    "left eye": (0.5 - _APART / 2, _LEVEL),
    "right eye": (0.5 + _APART / 2, _LEVEL),
    "mouth": (0.5, _LEVEL + 1.116 * _APART),
}
_CORNERS = tuple((0.5 + side * 1.383 * _APART / 2, _LEVEL) for side in (-1, 1))
_PADDING = 1.25  # of the upright square, where a scheme has no eyes


def align(
    image: NDArray[np.uint8], points: Floats, scheme: Scheme, size: int = 256
) -> tuple[NDArray[np.uint8], Floats]:
    """The aligned crop (size, size, 3) of RGB `image`, black outside of it, and its `alignment`."""
    matrix = alignment(points, scheme, size)
    return warp(image, matrix, size), matrix


def alignment(points: Floats, scheme: Scheme, size: int) -> Floats:
    """The matrix (2, 3) image -> crop of `size` pixels. points (K, 2): a face's landmarks, image pixels.

    The similarity that brings, with least squares, the centres of the groups "left eye", "right eye" and
    "outer lip" or "mouth" to their places. Without such eyes the scheme's `eye_corners` serve; without those
    too, the crop is the upright square around the points.
    """
    points = np.asarray(points, dtype=np.float64)
    found, places = _anchors(points, scheme)
    if len(found) and np.ptp(found, axis=0).max() > 0:
        return similarity(found, places * size - 0.5)
    center, side = tight_square(points)
    return crop_matrix(center, max(side, 1.0) * _PADDING, size)


def tilt(points: Floats, scheme: Scheme) -> float | None:
    """Degrees by which the picture is to be turned, counter-clockwise as seen on the screen, for this face to
    stand upright; None where the scheme does not tell where the eyes are."""
    found, places = _anchors(points, scheme)
    if not len(found) or not np.ptp(found, axis=0).max() > 0:
        return None
    return _turn(found, places)


def tilt_of_five(points: Floats) -> float:
    """The same of a detector's five points (5, 2): the eyes, the nose and the corners of the mouth, each from
    left to right."""
    found = np.array([points[0], points[1], (points[3] + points[4]) / 2])
    return _turn(found, np.array(list(_PLACES.values())))


def _turn(found: Floats, places: Floats) -> float:
    z, w = ((p - p.mean(0)) @ np.array([1, 1j]) for p in (found, places))
    return float(-np.degrees(np.angle(np.vdot(z, w))))


def _anchors(points: Floats, scheme: Scheme) -> tuple[Floats, Floats]:
    """What is aligned of a face: (A, 2) in the image, and their places (A, 2) in shares of the crop; A is 0
    where the scheme does not tell where the eyes are."""
    groups = scheme.groups
    if {"left eye", "right eye"} <= groups.keys():
        pairs = [(points[list(groups[name])].mean(0), _PLACES[name]) for name in ("left eye", "right eye")]
    elif scheme.eye_corners:
        pairs = list(zip(points[list(scheme.eye_corners)], _CORNERS, strict=True))
    else:
        return np.zeros((0, 2)), np.zeros((0, 2))
    if mouth := groups.get("outer lip") or groups.get("mouth"):
        pairs.append((points[list(mouth)].mean(0), _PLACES["mouth"]))
    found, places = zip(*pairs, strict=True)
    return np.array(found), np.array(places)


def similarity(points: Floats, places: Floats) -> Floats:
    """The (2, 3) matrix of rotation, scale and shift that moves points (A, 2), not all the same, nearest to
    places (A, 2) by least squares (Umeyama 1991). In the plane it is one complex factor, which never mirrors.
    """
    z, w = ((p - p.mean(0)) @ np.array([1, 1j]) for p in (points, places))
    factor: Any = np.vdot(z, w) / np.vdot(z, z)
    linear = np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
    return np.column_stack([linear, places.mean(0) - linear @ points.mean(0)])
