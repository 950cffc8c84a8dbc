"""What a person should know about labels that are accepted, though they may be meant otherwise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..core.geometry import tight_square
from ..core.schemes import Scheme
from ..data.index import outside
from .labels import LabelledFace, Size, box_square
from .options import Orientation

_SIDEWAYS = 5  # EXIF orientation 5 to 8: width and height change places
_MEANING = {"stored": "the stored pixels", "upright": "upright pictures"}


def remarks_on_own(faces: Sequence[LabelledFace], scheme: Scheme) -> list[str]:
    """At most one line for each kind of doubt about somebody's own labels."""
    partly = [face for face in faces if not face.label.whole]
    unsized = sum(map(_shows_no_size, partly))
    zeros = sum(int((face.label.points == 0).all(1).sum()) for face in faces)
    doubts = {
        f"faces that lack some points and have no box that shows their size, so cropped around the others: "
        f"{unsized}": unsized,
        "warning: each bbox seems to be two corners, x0, y0, x1, y1; COCO's are x, y, width, height": partly
        and _are_corners(faces),
        f"warning: {zeros} points lie at exactly 0, 0; if that means missing, leave them empty (CSV), nan "
        "(.pts), or v = 0 (COCO)": zeros,
        "warning: all faces lie in the upper left quarter of their pictures: were they labelled on smaller "
        "pictures, or in percent?": _are_in_a_quarter(faces),
        "warning: most faces lie on their side: are x and y swapped?": _lie_on_their_side(faces, scheme),
    }
    return [remark for remark, holds in doubts.items() if holds]


def remarks_on_sizes(faces: Sequence[LabelledFace]) -> list[str]:
    """On a benchmark's pictures that have another size than their labels say."""
    odd = {face.label.image: face for face in faces if face.label.size not in (None, face.size)}
    if not odd:
        return []
    image, face = next(iter(odd.items()))
    return [
        f"warning: {len(odd)} pictures have another size than their labels say (first: {image}: "
        f"{face.size} pixels, but {face.label.size} in {face.label.source})"
    ]


def _shows_no_size(face: LabelledFace) -> bool:
    """Whether a partly labelled face has no box, or one that some program drew around its few points."""
    label = face.label
    if label.box is None:
        return True
    few = label.visible.astype(bool).mean() <= 0.5
    return bool(few and box_square(label.box)[1] < tight_square(label.points)[1] + 2)


def _are_corners(faces: Sequence[LabelledFace]) -> bool:
    """Whether boxes, read as two corners, hold all points of each face, and are mostly much smaller."""
    given = [(face.label.box, face.label.points) for face in faces if face.label.box is not None]
    hold = [
        (np.nanmin(points, axis=0) >= box[:2] - 1).all() and (np.nanmax(points, axis=0) <= box[2:] + 1).all()
        for box, points in given
    ]
    smaller = [max(box[2:]) > 1.15 * max(box[2:] - box[:2]) for box, _ in given]
    return len(given) > 2 and all(hold) and 2 * sum(smaller) > len(given)


def _are_in_a_quarter(faces: Sequence[LabelledFace]) -> bool:
    """Whether no point of ten pictures or more lies right of, or below, the middle of its picture."""
    if len({face.label.image for face in faces}) < 10:
        return False
    return all(bool((np.nanmax(face.label.points, axis=0) < np.array(face.size) / 2).all()) for face in faces)


def _lie_on_their_side(faces: Sequence[LabelledFace], scheme: Scheme) -> bool:
    """Whether in more than half of the pictures that EXIF does not turn one eye is above the other."""
    if scheme.eye_corners is None:
        return False
    a, b = scheme.eye_corners
    upright = [face.label.points for face in faces if face.orientation == 1]
    apart = np.array([np.abs(points[a] - points[b]) for points in upright])
    return len(apart) > 2 and bool(2 * (apart[:, 1] > apart[:, 0]).sum() > len(apart))


def remarks_on_orientation(faces: Sequence[LabelledFace], orientation: Orientation) -> list[str]:
    """On pictures that their EXIF orientation turns."""
    turned = [face for face in faces if face.orientation != 1]
    if not turned:
        return []
    other: Orientation = "stored" if orientation == "upright" else "upright"
    against = [
        face
        for face in turned
        if face.orientation >= _SIDEWAYS and not _fits(face, face.size) and _fits(face, face.size[::-1])
    ]
    remark = (
        f"warning: {len({face.label.image for face in turned})} of the pictures have an EXIF orientation "
        f"that turns what a person sees (first: {turned[0].label.image}); the labels are taken as made on "
        f"{_MEANING[orientation]} (--orientation {orientation})"
    )
    if against:
        return [
            f"{remark}, but those of {len(against)} faces lie inside their picture only on "
            f"{_MEANING[other]}: prepare it again with --orientation {other}"
        ]
    return [f"{remark}; if they were made on {_MEANING[other]}, use --orientation {other}"]


def _fits(face: LabelledFace, size: Size) -> bool:
    return not outside(face.label.points[face.label.visible > 0], size).any()
