"""Where a network's square lies relative to another one: a detector's box, or the tight square of the
landmarks.

A network is trained on squares of one kind: tight around the landmarks of its scheme, or a benchmark's own
boxes. At inference such a square is guessed, at first from the box of a face detector and then from the
points of the previous pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .geometry import Floats, rotation, tight_square

# At most so many passes of the network at a face, by its detector, each with a new crop. NME on 201 faces of
# 300W after one, two and three: 3.81, 3.51 and 3.49 % from Haar's boxes, 3.59, 3.55 and 3.55 % from YuNet's.
PASSES = {"haar": 3, "yunet": 2}
# A crop is good enough, and its pass the last, where the next one would lie so near: by its centre over its
# side and by the logarithm of its size. It saves a third of Haar's passes and a fifth of YuNet's, and no NME.
CLOSE = 0.04
# Degrees by which a face may be tilted in its crop. (Networks are trained with tilts of 30 degrees and more.)
MOST_TILT = 20.0


@dataclass(frozen=True)
class CropRule:
    """shift: from the box's centre to the square's, right and down. side: of the square. Both in units of the
    box's size, sqrt(w * h). Raises ValueError for numbers that no face has."""

    shift: tuple[float, float]
    side: float

    def __post_init__(self) -> None:
        if not (0.01 <= self.side <= 100 and all(abs(value) <= 100 for value in self.shift)):
            raise ValueError(f"not a crop rule: shift {self.shift}, side {self.side}")

    def square(self, center: Floats, size: float, tilt: float = 0.0) -> tuple[Floats, float]:
        """Centre (2,) and side of the square for a box of this centre and size, around a face that stands
        upright once the picture is turned by `tilt` degrees, counter-clockwise as seen on the screen."""
        shift = np.array(self.shift) * size
        return center + (shift @ rotation(tilt) if tilt else shift), size * self.side

    def then(self, other: CropRule) -> CropRule:
        """The rule from this rule's box to the square that `other` makes of this rule's square."""
        center, side = other.square(np.array(self.shift), self.side)
        return CropRule((float(center[0]), float(center[1])), side)

    def inverse(self) -> CropRule:
        """The rule from the square back to the box."""
        return CropRule((-self.shift[0] / self.side, -self.shift[1] / self.side), 1 / self.side)


SAME = CropRule((0.0, 0.0), 1.0)

# From a detector's box to the tight square of 300W's 68 points; `predict/detect.py` says how it was measured.
# (The size of Haar's square boxes is their width.)
RULES = {"haar": CropRule((0.0, 0.165), 0.89), "yunet": CropRule((0.0, 0.158), 0.946)}

# From the tight square of a scheme's landmarks to the square that networks of that scheme are trained on, for
# weights whose file does not say. COFW and AFLW come with boxes, wider than the points and, in AFLW, reaching
# to the forehead; measured on the two faces of each that mmpose publishes as test data (side 1.11 and 1.15;
# 1.23 and 1.31).
FROM_LANDMARKS = {
    "300w": SAME,
    "wflw": SAME,
    "cofw": CropRule((0.0, 0.0), 1.13),
    "aflw": CropRule((0.0, -0.07), 1.27),
}
# From the tight square of 300W's 68 points, for which detectors' rules were measured, to that of a scheme's
# landmarks. WFLW has the same outline. COFW and AFLW lack the jaw, so their squares, from brows to chin, are
# smaller where a face is broader than high: 0.97 on 2012 faces of 300W, 0.95 on 3600 of YouTube Faces
# (standard deviation 0.06), each point replaced by its nearest of the 68.
_TIGHT_FROM_300W = {
    "300w": SAME,
    "wflw": SAME,
    "cofw": CropRule((0.0, 0.0), 0.96),
    "aflw": CropRule((0.0, 0.0), 0.96),
}
FROM_300W = {name: tight.then(FROM_LANDMARKS[name]) for name, tight in _TIGHT_FROM_300W.items()}


def median_rule(
    squares: Iterable[tuple[Floats, float]], boxes: Iterable[tuple[Floats, float]]
) -> CropRule | None:
    """The rule from boxes to squares (centre and size each): medians over the faces. None without faces, or
    where the median error of the side is more than a third of it, so that no rule holds."""
    rows = np.array([
        (*((center - middle) / size), side / size)
        for (center, side), (middle, size) in zip(squares, boxes, strict=True)
    ])  # fmt: skip
    if not len(rows):
        return None
    right, down, side = (round(float(value), 4) for value in np.median(rows, axis=0))
    if np.median(np.abs(rows[:, 2] - side)) > side / 3:
        return None
    return CropRule((right, down), side)


def turned_upright(tilt: float, seen: float | None) -> float:
    """The tilt of the next crop, degrees: `seen`, the face's own, where the last one is farther off than a
    network likes to look at; None: not known."""
    if seen is None or abs((seen - tilt + 180) % 360 - 180) <= MOST_TILT:
        return tilt
    return seen


def squares_around(
    points: Floats, centers: Floats, sides: Floats, rule: CropRule = SAME, tilts: Floats | None = None
) -> tuple[Floats, Floats]:
    """Squares for the next pass, around the points (N, K, 2) of the last one: centres (N, 2), sides (N,).

    tilts (N,): of the crops, degrees, as `CropRule.square` has them; None: they are all upright.
    rule: from the tight square of the landmarks to the kind of square that the network was trained on (a
    detector's box misses that by a tenth of its width). A square whose side is less than half or more than
    twice the last one's is taken for an error, and the last one stays.
    """
    next_centers = np.array(centers, dtype=np.float64).reshape(-1, 2)
    next_sides = np.array(sides, dtype=np.float64)
    for n, face in enumerate(points):
        tilt = 0.0 if tilts is None else float(tilts[n])
        if tilt:
            turn = rotation(tilt)
            center, side = rule.square(*tight_square(face @ turn.T))
            center = center @ turn
        else:
            center, side = rule.square(*tight_square(face))
        if 0.5 < side / sides[n] < 2:
            next_centers[n], next_sides[n] = center, side
    return next_centers, next_sides


def is_off(centers: Floats, sides: Floats, next_centers: Floats, next_sides: Floats) -> NDArray[np.bool_]:
    """Of N crops, those that lie so far from the next pass's that the next pass is worth its time (N,)."""
    moved: Floats = np.hypot(*(next_centers - centers).T) / sides
    grown = np.abs(np.log(next_sides / sides))
    return (moved > CLOSE) | (grown > CLOSE)
