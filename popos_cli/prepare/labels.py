"""What every reader gives: labels with the place of their picture, and what is wrong with the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.geometry import Floats
from ..data.index import outside
from ..errors import PoposError

Square = tuple[Floats, float]  # centre (2,) and side
Size = tuple[int, int]  # width and height
MOST_NAMED = 10  # bad rows that are named one by one
REACH = 3  # a point that lies more picture sizes than this outside its picture is a mistake


@dataclass(frozen=True)
class Bad:
    """A label that cannot become a face: where it stands and what is wrong with it."""

    source: str
    reason: str

    def __str__(self) -> str:
        return f"{self.source}: {self.reason}"


def listed(rows: Sequence[Bad]) -> list[str]:
    """The first of bad rows, a line each, and how many more there are."""
    more = [f"and {len(rows) - MOST_NAMED} more"] if len(rows) > MOST_NAMED else []
    return [*map(str, rows[:MOST_NAMED]), *more]


@dataclass(frozen=True)
class Label:
    """One face, before its picture is read.

    image: its picture, where it is or should be; inside a reader also its name in the label file. points
    (K, 2) float64, NaN where not labelled: 0-based pixel centres; of own data as the file has them. visible
    (K,) uint8: 0 not labelled, 1 occluded, 2 visible. source: where the label stands, "list.txt:17". size: of
    the picture as far as the label file has it.

    Of benchmarks: split "train", "test" or "private"; subsets, those of `Benchmark.subsets` that the face
    belongs to; part, the folder of the raw download that it came from, "helen/trainset", or ""; square, the
    crop before padding where the benchmark gives a box; rect, the official detection box (x, y, w, h), kept
    for the record.

    Of own data: group, the person, and inside a reader the picture's name as the file has it; box, COCO's
    bbox (x, y, w, h) in the frame of the points.
    """

    image: Path
    points: Floats
    visible: NDArray[np.uint8]
    source: str
    size: Size | None = None
    split: str = "train"
    subsets: tuple[str, ...] = ()
    part: str = ""
    square: Square | None = None
    rect: Floats | None = None
    group: str = ""
    box: Floats | None = None

    @property
    def whole(self) -> bool:
        """Whether all of its points are labelled."""
        return bool(self.visible.all())


@dataclass(frozen=True)
class Labels:
    """What one kind of source holds.

    kind: "raw", "mmpose", "hrnet" or "custom". base: coordinate of the first pixel's centre in the files.
    remarks: what a user should know of this source. whole: the splits that are known to be the official ones,
    of a benchmark whose number of faces is published nowhere. missing: those faces of a benchmark, no longer
    in `faces`, whose picture is not there.
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


@dataclass(frozen=True)
class LabelledFace:
    """A label on its picture: its points are 0-based pixels of the picture as it is read, stored or upright.

    size: of that picture. orientation: EXIF's, 1 for a picture that it does not turn. square: what is cropped
    before padding.
    """

    label: Label
    size: Size
    square: Square
    orientation: int = 1


def box_square(box: Floats) -> Square:
    """The square around the centre of a box x, y, w, h with its longer side, as mmpose crops."""
    x, y, w, h = box.tolist()
    return np.array([x + w / 2, y + h / 2]), max(w, h)


def to_visible(values: Any) -> NDArray[np.uint8]:
    """(K,) 0, 1 or 2 from COCO's v: 0 not labelled, 1 occluded, 2 visible. Other values above 0 are the
    confidence that some tools write there: labelled."""
    v = np.nan_to_num(np.asarray(values, np.float64))
    return np.where(v > 0, np.where(v == 1, 1, 2), 0).astype(np.uint8)


def checked(label: Label) -> Label | Bad:
    """The label, or what keeps it from being a face."""
    if label.square is not None:
        center, side = label.square
        sizes = [side] if label.rect is None else label.rect[2:].tolist()
        if not np.isfinite([*center, *sizes]).all():
            return Bad(label.source, "its box is NaN or infinite")
        if min(sizes) <= 0:
            return Bad(label.source, f"its box has no size: {' x '.join(f'{size:g}' for size in sizes)}")
    labelled = label.points[label.visible > 0]
    if not np.isfinite(labelled).all():
        wrong = np.flatnonzero((label.visible > 0) & ~np.isfinite(label.points).all(1))[0]
        return Bad(label.source, f"a coordinate is NaN or infinite (landmark {wrong})")
    if not len(labelled):
        return Bad(label.source, "the face has no size: no point is labelled")
    # Where a box says how large the face is, one point is enough.
    if (label.box is None or label.whole) and not np.ptp(labelled, axis=0).max() > 0:
        return Bad(label.source, "the face has no size: its points coincide")
    return label


def refuse_far(label: Label, square: Square, size: Size) -> None:
    """Raises PoposError where a point of a face, or the square that it is cropped to, lies so far from its
    picture that it cannot be meant. Points somewhat outside are real: the border cuts faces off."""
    reach = REACH * max(size)
    picture = f"more than {REACH} times its size outside its picture of {size[0]} x {size[1]} pixels"
    beyond = (label.visible > 0) & outside(label.points, size, reach)
    if beyond.any():
        landmark = int(np.flatnonzero(beyond)[0])
        x, y = label.points[landmark]
        raise PoposError(f"landmark {landmark} at {x:g}, {y:g} lies {picture}")
    center, side = square
    if outside(np.stack([center - side / 2, center + side / 2]), size, reach).any():
        raise PoposError(f"its box, {side:g} wide around {center[0]:g}, {center[1]:g}, lies {picture}")
