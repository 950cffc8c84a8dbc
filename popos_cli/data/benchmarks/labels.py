"""What a label file says of one face, before pictures are looked at; shared by all importers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...core.geometry import Floats


@dataclass(frozen=True)
class Bad:
    """A label that cannot become a face: where it stands and what is wrong with it."""

    source: str
    reason: str

    def __str__(self) -> str:
        return f"{self.source}: {self.reason}"


def flaw(points: Floats, visible: NDArray[np.uint8]) -> str | None:
    """What keeps labelled points (K, 2) from being a face, None where nothing does."""
    labelled = points[visible > 0]
    if not np.isfinite(labelled).all():
        return "a coordinate is NaN or infinite"
    if len(labelled) < 2 or not np.ptp(labelled, axis=0).max() > 0:
        return "the face has no size: its points coincide"
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
