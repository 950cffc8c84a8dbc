"""Somebody's own faces -> index: from a CSV, a folder of .pts files, or a COCO-keypoints JSON."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath

import numpy as np

from ..core.crop_rule import median_rule
from ..core.geometry import Floats, tight_square
from ..core.schemes import Scheme
from ..data.index import Index
from ..data.pictures import exif_orientation, read_bgr
from ..data.threads import Advance, in_threads
from ..errors import PoposError
from .files import shown
from .label_files import OwnLabels, read_labels
from .labels import Bad, OwnLabel, flaw, out_of_reach
from .remarks import remarks_on
from .splits import join_groups, person_of, person_pattern, split_groups

SMALLEST = 2  # pixels: a smaller face is a mistake, and all labels in 0..1 span less
Square = tuple[Floats, float]  # centre (2,) and side


@dataclass(frozen=True)
class OwnFace:
    """A label whose picture was found: points (K, 2), 0-based pixels of the picture as it is read; size: its
    width and height; square: what is cropped; box: the label's bbox as a square, None where it is of no use;
    orientation: of EXIF, 1 for a picture that it does not turn."""

    label: OwnLabel
    person: str
    path: Path
    size: tuple[int, int]
    points: Floats
    square: Square
    box: Square | None
    orientation: int

    @property
    def whole(self) -> bool:
        """Whether all of its points are labelled."""
        return bool(self.label.visible.all())


@dataclass(frozen=True)
class LabelFrame:
    """What label coordinates mean. base: the first pixel's centre; normalised: shares of the picture's width
    and height; upright: made on the picture as its EXIF orientation turns it."""

    base: int
    normalised: bool = False
    upright: bool = False

    def pixels(self, values: Floats, size: tuple[int, int]) -> Floats:
        """(..., 2) x, y in 0-based pixels."""
        return (values * size if self.normalised else values) - self.base


def prepare_custom(
    root: Path,
    scheme: Scheme,
    name: str,
    *,
    split_by: str | None = None,
    val_fraction: float = 0.1,
    seed: int | None = None,
    base: int | None = None,
    normalised: bool = False,
    upright: bool = False,
    advance: Advance | None = None,
) -> tuple[Index | None, list[Bad], list[str]]:
    """Read labels and pictures below `root`; the index of the good faces, the bad labels, and remarks.

    split_by: a regular expression searched in each image path, group 1 is the person; without it
    each picture is its own group. base: 0 or 1, the coordinate of the first pixel's centre in the
    label files (None: 1 for .pts, else 0). normalised, upright: as in `LabelFrame`. `advance` counts labels.
    The index is None where too few faces are good. Raises PoposError; UsageError for a pattern without
    group 1.
    """
    pattern = person_pattern(split_by)
    labels = read_labels(root, scheme)
    if not normalised:
        _refuse_normalised(root, labels)
    frame = LabelFrame(base if base is not None else 0 if normalised else labels.base, normalised, upright)

    def check(row: OwnLabel | Bad) -> OwnFace | Bad:
        if isinstance(row, Bad):
            return row
        try:
            return _face(row, person_of(row.image, pattern), labels.folders, frame)
        except PoposError as error:
            return Bad(row.source, error.message)

    checked = in_threads(check, labels.rows, advance)
    bad = [row for row in checked if isinstance(row, Bad)]
    faces = _cropped_alike([row for row in checked if isinstance(row, OwnFace)])
    remarks = [*labels.remarks, *remarks_on(faces, labels.scheme, upright)]
    groups = join_groups([face.person for face in faces], [face.path for face in faces])
    if not faces or (bad and len(set(groups)) < 2):  # the bad labels are what is wrong, not the split
        return None, bad, remarks
    validation = split_groups(groups, val_fraction, seed)
    common = labels.folders[0]
    index = Index(
        name=name,
        scheme=labels.scheme,
        root=common,
        image=np.array([_below(face.path, common) for face in faces]),
        size=np.array([face.size for face in faces], np.int32),
        points=np.stack([face.points for face in faces]),
        visible=np.stack([face.label.visible for face in faces]),
        center=np.stack([face.square[0] for face in faces]),
        side=np.array([face.square[1] for face in faces]),
        split=np.array(["val" if group in validation else "train" for group in groups]),
        group=np.array(groups),
        source=np.array([face.label.source for face in faces]),
        notes={
            "importer": "custom",
            "labels": str(root.resolve()),
            "coordinate_base": frame.base,
            "split_by": split_by,
            "skipped": len(bad),
            "orientation": "upright" if upright else "stored",
        },
    )
    return index, bad, remarks


def _refuse_normalised(root: Path, labels: OwnLabels) -> None:
    """Raises PoposError where all labels lie in 0..1 or close by."""
    rows = [row.points for row in labels.rows if isinstance(row, OwnLabel) and row.visible.any()]
    values = np.concatenate(rows) if rows else np.array([SMALLEST])
    low, high = np.nanmin(values), np.nanmax(values)
    if -1 < low < high < SMALLEST:
        raise PoposError(
            f"{root}: all coordinates lie between {low:.3g} and {high:.3g}, but popos expects pixels",
            "Where they are shares of the picture's width and height, add --normalised.",
        )


def _face(label: OwnLabel, person: str, folders: Sequence[Path], frame: LabelFrame) -> OwnFace:
    """The label with its picture. Raises PoposError with what is wrong with it."""
    path = _find_picture(label.image, folders)
    height, width = read_bgr(path, frame.upright).shape[:2]
    size = (width, height)
    # Width and height the other way round is a turned picture, or a slip of the program that wrote them.
    if not frame.normalised and label.size and label.size not in (size, size[::-1]):
        raise PoposError(
            f"made on a picture of {label.size[0]} x {label.size[1]} pixels (width, height in images), but "
            f"{path} has {width} x {height}"
        )
    missing = np.flatnonzero((label.points == -1).all(1))
    if len(missing) and not frame.normalised:
        why = "a missing point is left empty (CSV), nan (.pts), or has v = 0 (COCO)"
        raise PoposError(f"landmark {missing[0]} at -1, -1: {why}")
    points = frame.pixels(label.points, size)
    box = None if label.box is None else _box_square(label.box, frame, size)
    boxed = bool(box) and not label.visible.all()
    if wrong := flaw(points, label.visible, boxed):
        raise PoposError(wrong)
    if label.box is not None and box and boxed and _lies_beside(box, points):
        wrong = f"its bbox {', '.join(f'{v:g}' for v in label.box)} (x, y, w, h) holds none of its points"
        raise PoposError(f"{wrong}: it seems to be in 0..1" if label.box.max() < SMALLEST else wrong)
    square = box if box and boxed else _tight_square(points)
    if wrong := out_of_reach(points, label.visible, square, size):
        raise PoposError(wrong)
    return OwnFace(label, person, path, size, points, square, box, exif_orientation(path))


def _find_picture(image: str, folders: Sequence[Path]) -> Path:
    """Windows' separators are understood. Raises PoposError."""
    for name in (image, PureWindowsPath(image).as_posix()):
        for folder in folders:
            if os.path.isfile(folder / name):
                return folder / name
    raise PoposError(f"image {shown(image)} not found below {folders[0]}")


def _tight_square(points: Floats) -> Square:
    """Around the points. Raises PoposError where they span nothing."""
    span = float(np.ptp(points[~np.isnan(points).any(1)], axis=0).max())
    if span < SMALLEST:
        raise PoposError(f"the face is {span:.2g} pixels wide: its labels seem to be in 0..1")
    return tight_square(points)


def _box_square(box: Floats, frame: LabelFrame, size: tuple[int, int]) -> Square:
    low, high = frame.pixels(box[:2], size), frame.pixels(box[:2] + box[2:], size)
    return (low + high) / 2, float((high - low).max())


def _lies_beside(box: Square, points: Floats) -> bool:
    """Whether a box holds none of the labelled points."""
    return not (np.abs(points - box[0]) <= box[1] / 2 + 1).all(1).any()


def _cropped_alike(faces: list[OwnFace]) -> list[OwnFace]:
    """The faces, those labelled in part cropped as the others.

    What a file calls a bbox may be a detector's box or a person's. Fully labelled faces show where the square
    of the landmarks lies in it; where they show no rule, boxes are not used.
    """
    known = [face for face in faces if face.whole and face.box and not _lies_beside(face.box, face.points)]
    if not known:
        return faces
    try:
        rule = median_rule([face.square for face in known], [face.box for face in known if face.box])
    except ValueError:
        rule = None

    def crop(face: OwnFace) -> OwnFace:
        if face.whole or not face.box:
            return face
        if rule:
            return replace(face, square=rule.square(*face.box))
        try:
            return replace(face, square=_tight_square(face.points), box=None)
        except PoposError:  # a single point: its box is better than nothing
            return face

    return [crop(face) for face in faces]


def _below(path: Path, root: Path) -> str:
    """`path` from `root` on; a label file may also name pictures elsewhere, by their full path."""
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
