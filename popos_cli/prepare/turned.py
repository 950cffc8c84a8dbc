"""Pictures that their EXIF orientation turns: which pixels do the labels refer to?"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from ..core.geometry import Floats

# Orientation 5 to 8: width and height change places.
_SIDEWAYS = 5


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
    sideways = [face[2:] for face in turned if face[1] >= _SIDEWAYS]
    against = sum(not _inside(p, v, size) and _inside(p, v, size[::-1]) for p, v, size in sideways)
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


_MEANING = {"stored": "the stored pixels", "upright": "upright pictures"}


def _inside(points: Floats, visible: NDArray[np.uint8], size: tuple[int, int]) -> bool:
    labelled = points[visible > 0]
    return bool(((labelled >= -0.5) & (labelled <= np.array(size) - 0.5)).all())
