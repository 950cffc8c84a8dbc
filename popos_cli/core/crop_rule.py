"""Where a network's square lies about another one: a detector's box, or the square around the landmarks.

A network is trained on squares of one kind: tight around the landmarks of its scheme, or a benchmark's own
boxes. At inference such a square has to be guessed, from the box of a face detector at first and then from
the points of the pass before.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .geometry import Floats


@dataclass(frozen=True)
class CropRule:
    """`shift`: of the square's centre from the box's, right and down; `side`: of the square. Both in units of
    the box's size, sqrt(w * h). Raises ValueError for numbers that no face has."""

    shift: tuple[float, float]
    side: float

    def __post_init__(self) -> None:
        if not (0.01 <= self.side <= 100 and all(abs(value) <= 100 for value in self.shift)):
            raise ValueError(f"not a crop rule: shift {self.shift}, side {self.side}")

    def square(self, center: Floats, size: float) -> tuple[Floats, float]:
        """Centre (2,) and side of the square about a box of this centre and size."""
        return center + np.array(self.shift) * size, size * self.side

    def then(self, other: CropRule) -> CropRule:
        """The rule from this one's box to the square that `other` makes of this one's square."""
        center, side = other.square(np.array(self.shift), self.side)
        return CropRule((float(center[0]), float(center[1])), side)

    def inverse(self) -> CropRule:
        """The rule from the square back to the box."""
        return CropRule((-self.shift[0] / self.side, -self.shift[1] / self.side), 1 / self.side)


SAME = CropRule((0.0, 0.0), 1.0)

# From a detector's box to the tight square around 300W's 68 points; `predict/detect.py` says how measured.
# (The size of Haar's square boxes is their width.)
RULES = {"haar": CropRule((0.0, 0.165), 0.89), "yunet": CropRule((0.0, 0.158), 0.946)}

# What weights are taken to be trained on whose file does not say: squares about the tight square of their
# own landmarks. COFW and AFLW come with boxes, wider than the points and, in AFLW, reaching to the forehead;
# from the two faces of each that mmpose publishes as test data (side 1.11 and 1.15; 1.23 and 1.31).
FROM_LANDMARKS = {
    "300w": SAME,
    "wflw": SAME,
    "cofw": CropRule((0.0, 0.0), 1.13),
    "aflw": CropRule((0.0, -0.07), 1.27),
}
# The tight square of a scheme's landmarks about the tight square of 300W's 68, which detectors' rules were
# measured for. WFLW has the same outline. COFW and AFLW lack the jaw, so that their squares, from brows to
# chin, are smaller where a face is broader than high: 0.97 on 2012 faces of 300W, 0.95 on 3600 of YouTube
# Faces (standard deviation 0.06), the points taken for their nearest of the 68.
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
    """The rule from boxes to squares (centre and size each): medians over the faces. None where there are
    none, or where half of the sides are off by more than a third, so that no rule holds."""
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
