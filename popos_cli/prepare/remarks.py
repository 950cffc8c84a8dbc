"""What a person should know of own labels that are taken, though they may be meant otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..core.geometry import tight_square
from .turned import turned_remark

if TYPE_CHECKING:
    from ..core.schemes import Scheme
    from .custom import Face


def remarks_on(faces: Sequence[Face], scheme: Scheme, upright: bool) -> list[str]:
    """Of each at most one line."""
    partly = [face for face in faces if not face.whole]
    lacking = sum(map(_shows_no_size, partly))
    turned = turned_remark(
        ((face.row.image, face.turned, face.points, face.row.visible, face.size) for face in faces), upright
    )
    zeros = sum(int((face.row.points == 0).all(1).sum()) for face in faces)
    remarks = {
        f"faces that lack some points and have no box that shows their size, so cropped around the others: "
        f"{lacking}": lacking,
        "warning: each bbox seems to be two corners, x0, y0, x1, y1; COCO's are x, y, width, height": partly
        and _are_corners(faces),
        f"warning: {zeros} points lie at exactly 0, 0; if that means missing, leave them empty (CSV), nan "
        "(.pts), or v = 0 (COCO)": zeros,
        "warning: all faces lie in the upper left quarter of their pictures: were they labelled on smaller "
        "pictures, or in percent?": _in_a_corner(faces),
        "warning: most faces lie on their side: are x and y swapped?": _lie_on_their_side(faces, scheme),
    }
    return [*(remark for remark, holds in remarks.items() if holds), *([turned] if turned else [])]


def _shows_no_size(face: Face) -> bool:
    """Whether a partly labelled face has no box, or one that some program drew around its few points."""
    few = face.row.visible.astype(bool).mean() <= 0.5
    return face.box is None or bool(few and face.box[1] < tight_square(face.points)[1] + 2)


def _are_corners(faces: Sequence[Face]) -> bool:
    """Whether boxes, read as two corners, hold all points of each face, and mostly are much smaller."""
    given = [(face.row.box, face.row.points) for face in faces if face.row.box is not None]
    hold = [
        (np.nanmin(points, axis=0) >= box[:2] - 1).all() and (np.nanmax(points, axis=0) <= box[2:] + 1).all()
        for box, points in given
    ]
    smaller = [max(box[2:]) > 1.15 * max(box[2:] - box[:2]) for box, _ in given]
    return len(given) > 2 and all(hold) and 2 * sum(smaller) > len(given)


def _in_a_corner(faces: Sequence[Face]) -> bool:
    """Whether no point of ten pictures or more lies beyond the middle of its picture, right or down."""
    if len({face.path for face in faces}) < 10:
        return False
    return all(bool((np.nanmax(face.points, axis=0) < np.array(face.size) / 2).all()) for face in faces)


def _lie_on_their_side(faces: Sequence[Face], scheme: Scheme) -> bool:
    """Whether of more than half, in pictures that EXIF does not turn, the eyes are one above the other."""
    if scheme.eye_corners is None:
        return False
    a, b = scheme.eye_corners
    apart = np.array([np.abs(face.points[a] - face.points[b]) for face in faces if face.turned == 1])
    return len(apart) > 2 and bool(2 * (apart[:, 1] > apart[:, 0]).sum() > len(apart))
