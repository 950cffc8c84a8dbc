"""What a label file says of one face, before its picture is read; shared by all importers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.geometry import Floats
from ..data.index import REACH, outside

Square = tuple[Floats, float]  # centre (2,) and side


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


@dataclass(frozen=True)
class Label:
    """One face of a benchmark.

    image: its picture, where it is or where it should be; inside a reader also its name in the label file.
    points (K, 2) float64: 0-based pixel centres of the stored picture, NaN where not labelled. visible (K,)
    uint8: 0 not labelled, 1 occluded, 2 visible. split: "train", "test" or "private". source: where the
    label stands, "list.txt:17". subsets: those of `Benchmark.subsets` that it belongs to. part: the folder
    of the raw download that it came from, "helen/trainset", or "". square: the crop before padding where the
    benchmark gives a box, None for the square around the points. rect: the official detection box (x, y, w,
    h), kept for the record. size: the picture's (width, height) as far as the label file has it.
    """

    image: Path
    points: Floats
    visible: NDArray[np.uint8]
    split: str
    source: str
    subsets: tuple[str, ...] = ()
    part: str = ""
    square: Square | None = None
    rect: Floats | None = None
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Labels:
    """What one kind of source holds.

    kind: "raw", "mmpose" or "hrnet". base: coordinate of the first pixel's centre in the files (already
    subtracted from the points). remarks: what a user should know of this source. whole: the splits that are
    known to be the official ones, of a benchmark whose number of faces is published nowhere. missing: those
    faces, no longer in `faces`, whose picture is not there.
    """

    kind: str
    base: int
    faces: list[Label]
    bad: list[Bad]
    remarks: list[str] = field(default_factory=list)
    whole: frozenset[str] = frozenset()
    missing: list[Label] = field(default_factory=list)

    @classmethod
    def of(cls, kind: str, base: int, outcomes: Iterable[Label | Bad], **more: Any) -> Labels:
        """From faces and bad labels in one sequence."""
        every = list(outcomes)
        faces = [label for label in every if isinstance(label, Label)]
        return cls(kind, base, faces, [label for label in every if isinstance(label, Bad)], **more)

    @property
    def labelled(self) -> int:
        """Faces with and without their picture."""
        return len(self.faces) + len(self.missing)

    @property
    def crop(self) -> str:
        """Where the squares come from: "box" or "tight"."""
        return "box" if any(face.square for face in self.faces) else "tight"


def box_square(box: Floats) -> Square:
    """The square around the centre of a box x, y, w, h with its longer side, as mmpose crops."""
    x, y, w, h = box.tolist()
    return np.array([x + w / 2, y + h / 2]), max(w, h)


def checked(label: Label) -> Label | Bad:
    """The label, or what keeps it from being a face."""
    if label.square is not None:
        center, side = label.square
        sizes = [side] if label.rect is None else label.rect[2:].tolist()
        if not np.isfinite([*center, *sizes]).all():
            return Bad(label.source, "its box is NaN or infinite")
        if min(sizes) <= 0:
            return Bad(label.source, f"its box has no size: {' x '.join(f'{size:g}' for size in sizes)}")
    reason = flaw(label.points, label.visible)
    return Bad(label.source, reason) if reason else label


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
    points: Floats, visible: NDArray[np.uint8], square: Square, size: tuple[int, int]
) -> str | None:
    """What of a face lies so far from its picture (width, height) that it cannot be meant: a point, or the
    square that it is cropped to. None where nothing does.

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
