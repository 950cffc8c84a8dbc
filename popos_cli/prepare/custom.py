"""Somebody's own faces -> index: from a CSV, a folder of .pts files, or a COCO-keypoints JSON."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from ..core.crop_rule import median_rule
from ..core.geometry import Floats, tight_square
from ..core.schemes import Scheme
from ..data.index import Index
from ..data.pictures import read_with_orientation
from ..data.threads import Advance, in_threads
from ..errors import PoposError
from .label_files import OwnLabels, read_labels
from .labels import Bad, OwnLabel, Square, flaw, out_of_reach
from .options import PrepareOptions
from .parsing import shown
from .remarks import remarks_on
from .splits import join_groups, person_of, person_pattern, split_groups

VALIDATION = 0.1  # share of the people
SMALLEST = 2  # pixels: a smaller face is a mistake, and all labels in 0..1 span less


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


def prepare_custom(
    root: Path, scheme: Scheme, name: str, options: PrepareOptions, advance: Advance | None = None
) -> tuple[Index | None, list[Bad], list[str]]:
    """Read labels and pictures below `root`; the index of the good faces, the bad labels, and remarks.

    `advance` counts labels. The index is None where too few faces are good. Raises PoposError; UsageError for
    a --split-by without group 1.
    """
    pattern = person_pattern(options.split_by)
    labels = read_labels(root, scheme)
    base = labels.base if options.base is None else options.base
    if options.normalised:
        base = options.base or 0
    else:
        _refuse_normalised(root, labels)

    def check(row: OwnLabel | Bad) -> OwnFace | Bad:
        if isinstance(row, Bad):
            return row
        try:
            return _face(row, person_of(row.image, pattern), labels.folders, base, options)
        except PoposError as error:
            return Bad(row.source, error.message)

    checked = in_threads(check, labels.rows, advance)
    bad = [row for row in checked if isinstance(row, Bad)]
    faces = _cropped_alike([row for row in checked if isinstance(row, OwnFace)])
    remarks = [*labels.remarks, *remarks_on(faces, labels.scheme, options.orientation)]
    groups = join_groups([face.person for face in faces], [face.path for face in faces])
    if not faces or (bad and len(set(groups)) < 2):  # the bad labels are what is wrong, not the split
        return None, bad, remarks
    validation = split_groups(groups, options.val_fraction or VALIDATION, options.seed)
    notes = {
        "importer": "custom",
        "labels": str(root.resolve()),
        "coordinate_base": base,
        "split_by": options.split_by,
        "skipped": len(bad),
        "orientation": options.orientation,
    }
    splits = ["val" if group in validation else "train" for group in groups]
    return _to_index(name, labels, faces, groups, splits, notes), bad, remarks


def _to_index(
    name: str,
    labels: OwnLabels,
    faces: list[OwnFace],
    groups: list[str],
    splits: list[str],
    notes: dict[str, Any],
) -> Index:
    root = labels.folders[0]
    return Index(
        name=name,
        scheme=labels.scheme,
        root=root,
        image=np.array([_below(face.path, root) for face in faces]),
        size=np.array([face.size for face in faces], np.int32),
        points=np.stack([face.points for face in faces]),
        visible=np.stack([face.label.visible for face in faces]),
        center=np.stack([face.square[0] for face in faces]),
        side=np.array([face.square[1] for face in faces]),
        split=np.array(splits),
        group=np.array(groups),
        source=np.array([face.label.source for face in faces]),
        notes=notes,
    )


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


def _face(
    label: OwnLabel, person: str, folders: Sequence[Path], base: int, options: PrepareOptions
) -> OwnFace:
    """The label with its picture; base: coordinate of the first pixel's centre. Raises PoposError with what
    is wrong with it."""
    path = _find_picture(label.image, folders)
    picture, orientation = read_with_orientation(path, options.orientation == "upright")
    height, width = picture.shape[:2]
    size = (width, height)
    # Width and height the other way round is a turned picture, or a slip of the program that wrote them.
    if not options.normalised and label.size and label.size not in (size, size[::-1]):
        raise PoposError(
            f"made on a picture of {label.size[0]} x {label.size[1]} pixels (width, height in images), but "
            f"{path} has {width} x {height}"
        )
    missing = np.flatnonzero((label.points == -1).all(1))
    if len(missing) and not options.normalised:
        why = "a missing point is left empty (CSV), nan (.pts), or has v = 0 (COCO)"
        raise PoposError(f"landmark {missing[0]} at -1, -1: {why}")
    unit = np.array(size if options.normalised else (1, 1))
    points = label.points * unit - base
    box = None if label.box is None else _box_square(label.box * [*unit, *unit], base)
    boxed = bool(box) and not label.visible.all()
    if wrong := flaw(points, label.visible, boxed):
        raise PoposError(wrong)
    if label.box is not None and box and boxed and _lies_beside(box, points):
        wrong = f"its bbox {', '.join(f'{v:g}' for v in label.box)} (x, y, w, h) holds none of its points"
        raise PoposError(f"{wrong}: it seems to be in 0..1" if label.box.max() < SMALLEST else wrong)
    square = box if box and boxed else _tight_square(points)
    if wrong := out_of_reach(points, label.visible, square, size):
        raise PoposError(wrong)
    return OwnFace(label, person, path, size, points, square, box, orientation)


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


def _box_square(box: Floats, base: int) -> Square:
    """Around a box x, y, w, h in pixels, the first of which has its centre at `base`."""
    return box[:2] + box[2:] / 2 - base, float(box[2:].max())


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
