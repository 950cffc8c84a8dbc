"""What a person should know about labels that are accepted, though they may be meant otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..core.geometry import Floats, tight_square
from ..core.schemes import Scheme
from ..data.index import outside
from .options import Orientation

if TYPE_CHECKING:
    from .custom import OwnFace

_SIDEWAYS = 5  # EXIF orientation 5 to 8: width and height change places
_MEANING = {"stored": "the stored pixels", "upright": "upright pictures"}


def remarks_on(faces: Sequence[OwnFace], scheme: Scheme, orientation: Orientation) -> list[str]:
    """At most one line for each kind of doubt."""
    partly = [face for face in faces if not face.whole]
    unsized = sum(map(_shows_no_size, partly))
    zeros = sum(int((face.label.points == 0).all(1).sum()) for face in faces)
    turned = turned_remark(
        [(face.label.image, face.orientation, face.points, face.label.visible, face.size) for face in faces],
        orientation == "upright",
    )
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
        turned: turned,
    }
    return [str(remark) for remark, holds in doubts.items() if holds]


def _shows_no_size(face: OwnFace) -> bool:
    """Whether a partly labelled face has no box, or one that some program drew around its few points."""
    few = face.label.visible.astype(bool).mean() <= 0.5
    return face.box is None or bool(few and face.box[1] < tight_square(face.points)[1] + 2)


def _are_corners(faces: Sequence[OwnFace]) -> bool:
    """Whether boxes, read as two corners, hold all points of each face, and are mostly much smaller."""
    given = [(face.label.box, face.label.points) for face in faces if face.label.box is not None]
    hold = [
        (np.nanmin(points, axis=0) >= box[:2] - 1).all() and (np.nanmax(points, axis=0) <= box[2:] + 1).all()
        for box, points in given
    ]
    smaller = [max(box[2:]) > 1.15 * max(box[2:] - box[:2]) for box, _ in given]
    return len(given) > 2 and all(hold) and 2 * sum(smaller) > len(given)


def _are_in_a_quarter(faces: Sequence[OwnFace]) -> bool:
    """Whether no point of ten pictures or more lies right of, or below, the middle of its picture."""
    if len({face.path for face in faces}) < 10:
        return False
    return all(bool((np.nanmax(face.points, axis=0) < np.array(face.size) / 2).all()) for face in faces)


def _lie_on_their_side(faces: Sequence[OwnFace], scheme: Scheme) -> bool:
    """Whether in more than half of the pictures that EXIF does not turn one eye is above the other."""
    if scheme.eye_corners is None:
        return False
    a, b = scheme.eye_corners
    apart = np.array([np.abs(face.points[a] - face.points[b]) for face in faces if face.orientation == 1])
    return len(apart) > 2 and bool(2 * (apart[:, 1] > apart[:, 0]).sum() > len(apart))


def turned_remark(
    faces: Iterable[tuple[str, int, Floats, NDArray[np.uint8], tuple[int, int]]], upright: bool
) -> str | None:
    """What a person should know where pictures are turned by their EXIF orientation, else None.

    faces: of each its picture's name and EXIF orientation (1: not turned), points (K, 2), visible (K,), and
    the picture's (width, height) as it is read, which is upright or as stored.
    """
    turned = [face for face in faces if face[1] != 1]
    if not turned:
        return None
    names = dict.fromkeys(face[0] for face in turned)
    chosen, other = ("upright", "stored") if upright else ("stored", "upright")
    against = sum(
        orientation >= _SIDEWAYS and not _fits(points, visible, size) and _fits(points, visible, size[::-1])
        for _, orientation, points, visible, size in turned
    )
    what = f"{len(names)} pictures" if len(names) > 1 else "1 picture"
    remark = (
        f"warning: {what} (first: {next(iter(names))}) with an EXIF orientation that turns what a person "
        f"sees; the labels are taken as made on {_MEANING[chosen]} (--orientation {chosen})"
    )
    if against:
        return (
            f"{remark}, but those of {against} faces lie inside their picture only on {_MEANING[other]}: "
            f"prepare it again with --orientation {other}"
        )
    return f"{remark}; if they were made on {_MEANING[other]}, use --orientation {other}"


def _fits(points: Floats, visible: NDArray[np.uint8], size: tuple[int, int]) -> bool:
    return not outside(points[visible > 0], size).any()
