"""What a label file says of one face, before pictures are looked at; shared by all importers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.geometry import Floats
from ..data.index import REACH, outside


@dataclass(frozen=True)
class Bad:
    """A label that cannot become a face: where it stands and what is wrong with it."""

    source: str
    reason: str

    def __str__(self) -> str:
        return f"{self.source}: {self.reason}"


@dataclass(frozen=True)
class OwnLabel:
    """A face of somebody's own data, before its picture is looked for.

    points (K, 2) as the file has them, NaN where not labelled; visible (K,) 0, 1 or 2; box: x, y, w, h
    of the whole face in the same frame, size: width and height of the picture that was labelled; each None
    where the file has none.
    """

    source: str
    image: str
    points: Floats
    visible: NDArray[np.uint8]
    box: Floats | None = None
    size: tuple[int, int] | None = None


def to_visible(values: Any) -> NDArray[np.uint8]:
    """(K,) 0, 1 or 2 from COCO's v: 0 not labelled, 1 occluded, 2 visible. Other values above 0 are the
    confidence that some tools write there: labelled."""
    v = np.nan_to_num(np.asarray(values, np.float64))
    return np.where(v > 0, np.where(v == 1, 1, 2), 0).astype(np.uint8)


def flaw(points: Floats, visible: NDArray[np.uint8], boxed: bool = False) -> str | None:
    """What keeps labelled points (K, 2) from being a face, None where nothing does. boxed: a box says how
    large the face is, so that one point is enough."""
    labelled = points[visible > 0]
    if not np.isfinite(labelled).all():
        wrong = np.flatnonzero((visible > 0) & ~np.isfinite(points).all(1))[0]
        return f"a coordinate is NaN or infinite (landmark {wrong})"
    if not len(labelled):
        return "the face has no size: no point is labelled"
    if not boxed and not np.ptp(labelled, axis=0).max() > 0:
        return "the face has no size: its points coincide"
    return None


def out_of_reach(
    points: Floats, visible: NDArray[np.uint8], square: tuple[Floats, float], size: tuple[int, int]
) -> str | None:
    """What of a face lies so far from its picture (width, height) that it cannot be meant: a point, or the
    square that it is cropped to (centre and side). None where nothing does.

    Points somewhat outside are real: a face that the picture's border cuts off.
    """
    reach = REACH * max(size)
    picture = f"more than {REACH} times its size outside its picture of {size[0]} x {size[1]} pixels"
    beyond = (visible > 0) & outside(points, size, reach)
    if beyond.any():
        landmark = int(np.flatnonzero(beyond)[0])
        x, y = points[landmark]
        return f"landmark {landmark} at {x:g}, {y:g} lies {picture}"
    center, side = square
    corners = np.stack([center - side / 2, center + side / 2])
    if outside(corners, size, reach).any():
        return f"its box, {side:g} wide around {center[0]:g}, {center[1]:g}, lies {picture}"
    return None


@dataclass(frozen=True)
class Label:
    """One face of a benchmark.

    image: its picture, where it is or where it should be. points (K, 2) float64: 0-based pixel
    centres of the stored picture, NaN where not labelled. visible (K,) uint8: 0 not labelled, 1
    occluded, 2 visible. split: "train", "test" or "private". source: where the label stands,
    "list.txt:17". subsets: those of `Benchmark.subsets` that it belongs to. part: the folder of the
    raw download that it came from, "helen/trainset", or "". square: centre (2,) and side of the crop
    before padding where the benchmark gives a box, None for the tight rule. rect: the official
    detection box (x, y, w, h), kept for the record, None where there is none. size: width and height that
    the picture is said to have, where the labels say so.
    """

    image: Path
    points: Floats
    visible: NDArray[np.uint8]
    split: str
    source: str
    subsets: tuple[str, ...] = ()
    part: str = ""
    square: tuple[Floats, float] | None = None
    rect: Floats | None = None
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Labels:
    """What one kind of source holds.

    kind: "raw", "mmpose" or "hrnet". base: coordinate of the first pixel's centre in the files
    (already subtracted from the points). crop: "tight" or "box", where the squares come from.
    remarks: what a user should know of this source. missing: those faces, no longer in `faces`, whose
    picture is not there, once that has been looked at. whole: the splits that are known to be the official
    ones, as far as label files can tell, of a benchmark of which nobody states how many faces it has.
    """

    kind: str
    faces: list[Label]
    base: int
    crop: str
    bad: list[Bad] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    missing: list[Label] = field(default_factory=list)
    whole: frozenset[str] = frozenset()
