"""Anybody's own faces -> index: from a CSV, a folder of .pts files, or COCO-keypoints JSON."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath

import numpy as np

from ..core.crop_rule import median_rule
from ..core.geometry import Floats, tight_square
from ..core.schemes import Scheme
from ..data.index import Index
from ..data.pictures import read_with_orientation
from ..data.stamps import stamp_of
from ..errors import PoposError, UsageError
from .files import shown
from .label_files import Found, read_labels
from .labels import Bad, Row, flaw, out_of_reach
from .remarks import remarks_on

# Pixels; a smaller face is none, and all labels in 0..1 span less.
SMALLEST = 2
Square = tuple[Floats, float]


@dataclass(frozen=True)
class Face:
    """A row whose picture is there: points (K, 2), 0-based pixels of the picture as it is read; size: width
    and height; square: centre and side; box: the same of the file's bbox, None where it has none that helps;
    turned: the picture's EXIF orientation."""

    row: Row
    path: Path
    size: tuple[int, int]
    points: Floats
    square: Square
    box: Square | None
    turned: int

    @property
    def whole(self) -> bool:
        """Whether all of its points are labelled."""
        return bool(self.row.visible.all())


@dataclass(frozen=True)
class Frame:
    """What label coordinates mean. base: the first pixel's centre; normalised: shares of the picture's width
    and height; upright: of the picture as its EXIF orientation has it."""

    base: int
    normalised: bool = False
    upright: bool = False

    def pixels(self, values: Floats, size: tuple[int, int]) -> Floats:
        """(..., 2) x, y in 0-based pixels."""
        return (values * size if self.normalised else values) - self.base


def _check(row: Row, folders: Sequence[Path], frame: Frame) -> Face | Bad:
    """The face with its picture, or what is wrong with it."""
    spellings = dict.fromkeys((row.image, PureWindowsPath(row.image).as_posix()))
    places = (folder / name for name in spellings for folder in folders)
    found = next(filter(os.path.isfile, places), None)
    if not row.image or found is None:
        return Bad(row.source, f"image {shown(row.image)} not found below {folders[0]}")
    try:
        picture, orientation = read_with_orientation(found, frame.upright)
    except PoposError as error:
        return Bad(row.source, error.message)
    height, width = picture.shape[:2]
    size = (width, height)
    # Width and height the other way round is a turned picture, or a slip of the program that wrote them.
    if not frame.normalised and row.size not in (None, size, size[::-1]):
        return Bad(
            row.source,
            f"made on a picture of {row.size[0]} x {row.size[1]} pixels (width, height in images), but "  # type: ignore[index]
            f"{found} has {width} x {height}",
        )
    missing = (row.points == -1).all(1)
    if missing.any() and not frame.normalised:
        why = "a missing point is left empty (CSV), nan (.pts), or has v = 0 (COCO)"
        return Bad(row.source, f"landmark {int(np.flatnonzero(missing)[0])} at -1, -1: {why}")
    points = frame.pixels(row.points, size)
    boxed = row.box is not None and not row.visible.all()
    if wrong := flaw(points, row.visible, boxed):
        return Bad(row.source, wrong)
    box = None if row.box is None else _box_square(row.box, frame, size)
    if box and boxed and (wrong := _beside(row, points, box)):
        return Bad(row.source, wrong)
    square = box if box and boxed else _tight_square(points)
    if isinstance(square, str):
        return Bad(row.source, square)
    if wrong := out_of_reach(points, row.visible, square, size):
        return Bad(row.source, wrong)
    return Face(row, found, size, points, square, box, orientation)


def _tight_square(points: Floats) -> Square | str:
    """Around the points, or what is wrong with them."""
    span = float(np.nanmax(np.nanmax(points, axis=0) - np.nanmin(points, axis=0)))
    if span < SMALLEST:
        return f"the face is {span:.2g} pixels wide: its labels seem to be in 0..1"
    return tight_square(points)


def _box_square(box: Floats, frame: Frame, size: tuple[int, int]) -> Square:
    low, high = frame.pixels(box[:2], size), frame.pixels(box[:2] + box[2:], size)
    return (low + high) / 2, float((high - low).max())


def _beside(row: Row, points: Floats, box: Square) -> str | None:
    """What is wrong with a box that holds no labelled point."""
    reach = box[1] / 2 + 1
    if row.box is None or (np.abs(points[row.visible > 0] - box[0]) <= reach).all(1).any():
        return None
    wrong = f"its bbox {', '.join(f'{v:g}' for v in row.box)} (x, y, w, h) holds none of its points"
    return f"{wrong}: it seems to be in 0..1" if row.box.max() < SMALLEST else wrong


def _squares_of_boxes(faces: list[Face]) -> list[Face]:
    """The faces, those labelled in part cropped as the others: what a file calls a bbox may be a detector's
    box or a person's, and the fully labelled faces show where their landmarks' square lies in it. Where they
    show no rule, the boxes do not help."""
    known = [
        face for face in faces if face.whole and face.box and not _beside(face.row, face.points, face.box)
    ]
    if not known:
        return faces
    try:
        rule = median_rule([face.square for face in known], [face.box for face in known if face.box])
    except ValueError:
        rule = None
    told = []
    for face in faces:
        if face.box and not face.whole:
            if rule:
                face = replace(face, square=rule.square(*face.box))
            elif not isinstance(tight := _tight_square(face.points), str):
                face = replace(face, square=tight, box=None)
        told.append(face)
    return told


def together(groups: Sequence[str], pictures: Sequence[Path]) -> list[str]:
    """The groups (F,), where those that have a picture in common become one, named as the first.

    A picture is the same under two spellings, through links, and as a copy; copies count as others where all
    are copies of one.
    """
    with ThreadPoolExecutor() as pool:
        stamps = list(pool.map(stamp_of, pictures))
    by_content = _merged(groups, [(size, content) for size, _, content in stamps])
    if len(set(by_content)) > 1:
        return by_content
    stats = [picture.stat() for picture in pictures]
    files = [
        (s.st_dev, s.st_ino) if s.st_ino else str(p.resolve()) for s, p in zip(stats, pictures, strict=True)
    ]
    return _merged(groups, files)


def _merged(groups: Sequence[str], pictures: Sequence[Hashable]) -> list[str]:
    parent = {group: group for group in groups}

    def first(group: str) -> str:
        while parent[group] != group:
            group = parent[group]
        return group

    owner: dict[Hashable, str] = {}
    for group, picture in zip(groups, pictures, strict=True):
        mine, theirs = first(group), first(owner.setdefault(picture, group))
        parent[mine] = theirs
    return [first(group) for group in groups]


def split_groups(groups: Sequence[str], fraction: float, seed: int | None) -> set[str]:
    """The groups kept for validation: round(fraction * count), at least one, never all.

    Without a seed they are the last by name, which keeps neighbouring frames of unlabelled
    sequences on one side; with one they are drawn at random.
    """
    names = sorted(set(groups))
    if len(names) < 2:
        raise PoposError(
            f"all faces belong to one group ({names[0]!r}), so none is left for validation",
            "Check --split-by: group 1 of the pattern must tell people apart.",
        )
    if seed is not None:
        names = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    count = min(max(round(fraction * len(names)), 1), len(names) - 1)
    return set(names[-count:])


def _person_pattern(split_by: str | None) -> re.Pattern[str] | None:
    """Raises UsageError for a pattern without group 1."""
    try:
        pattern = re.compile(split_by) if split_by else None
    except re.error as error:
        raise UsageError(f"--split-by {split_by!r}: not a regular expression: {error}") from None
    if pattern and pattern.groups < 1:
        raise UsageError(f"--split-by {split_by!r} has no group", r"Put the person in brackets: '^(.*)_\d+'.")
    return pattern


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
    advance: Callable[[int, int], None] | None = None,
) -> tuple[Index | None, list[Bad], list[str]]:
    """Read labels and pictures below `root`; the index of the good faces, the bad labels, and remarks.

    split_by: a regular expression searched in each image path, group 1 is the person; without it
    each picture is its own group. base: 0 or 1, the coordinate of the first pixel's centre in the
    label files (None: 1 for .pts, else 0). normalised: labels are shares of the picture's width and height.
    upright: labels were made on the pictures as their EXIF orientation turns them. `advance` is told (faces
    checked, faces in all). The index is None where too few faces are good. Raises PoposError; UsageError
    for a pattern without group 1.
    """
    pattern = _person_pattern(split_by)
    labels = read_labels(root, scheme)
    if not normalised:
        _refuse_normalised(root, labels)
    frame = Frame(base if base is not None else 0 if normalised else labels.base, normalised, upright)
    kept: list[Face] = []
    people: list[str] = []
    bad: list[Bad] = []
    with ThreadPoolExecutor() as pool:  # OpenCV decodes outside the interpreter lock
        checked = pool.map(
            lambda row: row if isinstance(row, Bad) else _check(row, labels.folders, frame), labels.rows
        )
        for number, outcome in enumerate(checked, start=1):
            if advance:
                advance(number, len(labels.rows))
            if isinstance(outcome, Bad):
                bad.append(outcome)
                continue
            row = outcome.row
            match = pattern.search(row.image) if pattern else None
            if pattern and not (match and match[1]):
                bad.append(Bad(row.source, f"--split-by finds no person in {row.image!r}"))
                continue
            kept.append(outcome)
            people.append(match[1] if match else row.image)
    kept = _squares_of_boxes(kept)
    remarks = [*labels.remarks, *remarks_on(kept, labels.scheme, upright)]
    groups = together(people, [face.path for face in kept])
    if not kept or (bad and len(set(groups)) < 2):  # the bad labels are what is wrong, not the split
        return None, bad, remarks
    validation = split_groups(groups, val_fraction, seed)
    common = labels.folders[0]
    index = Index(
        name=name,
        scheme=labels.scheme,
        root=common,
        image=np.array([_below(face.path, common) for face in kept]),
        size=np.array([face.size for face in kept], np.int32),
        points=np.stack([face.points for face in kept]),
        visible=np.stack([face.row.visible for face in kept]),
        center=np.stack([face.square[0] for face in kept]),
        side=np.array([face.square[1] for face in kept]),
        split=np.array(["val" if group in validation else "train" for group in groups]),
        group=np.array(groups),
        source=np.array([face.row.source for face in kept]),
        subset=np.zeros((len(kept), 0), bool),
        rect=np.full((len(kept), 4), np.nan),
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


def _refuse_normalised(root: Path, labels: Found) -> None:
    """Raises PoposError where all labels lie in 0..1 or close by."""
    rows = [row.points for row in labels.rows if isinstance(row, Row) and row.visible.any()]
    values = np.concatenate(rows) if rows else np.array([SMALLEST])
    low, high = np.nanmin(values), np.nanmax(values)
    if -1 < low < high < SMALLEST:
        raise PoposError(
            f"{root}: all coordinates lie between {low:.3g} and {high:.3g}, but popos expects pixels",
            "Where they are shares of the picture's width and height, add --normalised.",
        )


def _below(path: Path, root: Path) -> str:
    """`path` from `root` on; a label file may also name pictures elsewhere, by their full path."""
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
