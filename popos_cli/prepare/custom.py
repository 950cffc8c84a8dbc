"""Somebody's own labels in a CSV, a COCO-keypoints JSON or .pts files, and what their faces are cropped to.

Labels keep the frame of their file until the picture's size is known: `_on_picture` takes them to its pixels.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PureWindowsPath

import numpy as np

from ..core.choices import SMALLEST_BOX
from ..core.crop_rule import median_rule
from ..core.geometry import Floats, tight_square
from ..core.schemes import Scheme
from ..data.pictures import SUFFIXES
from ..errors import PoposError
from .assemble import Source
from .coco import bbox, read_coco
from .custom_csv import read_csv
from .labels import Bad, Label, LabelledFace, Labels, Size, Square, box_square, checked
from .landmark_names import in_scheme_order, wrong_count
from .options import PrepareOptions
from .parsing import read_pts, shown
from .remarks import remarks_on_own
from .splits import person_of, person_pattern
from .tree import Tree


def find_own(root: Path, scheme: Scheme, options: PrepareOptions) -> Source:
    """The labels below ROOT whose picture is there, with the person of each.

    The scheme takes its landmarks' names from the label file where it has none. Raises PoposError; UsageError
    for a --split-by without group 1.
    """
    pattern = person_pattern(options.split_by)
    if not root.exists():
        raise PoposError(f"{root}: no such file or folder")
    base = 0
    remarks: list[str] = []
    if file := _label_file(root):
        read = {".csv": read_csv, ".json": _read_coco}.get(file.suffix.lower())
        if read is None:
            raise PoposError(
                f"{file}: not a label file that popos knows",
                "Give a .csv, a COCO-keypoints .json, or a folder of pictures with .pts files.",
            )
        rows, scheme, remarks = read(file, scheme)
        places = dict.fromkeys((file.parent, file.resolve().parent))
        folders = [folder / sub for folder in places for sub in ("", "images")]
    else:
        rows, folders, base = _read_pts_files(root.resolve(), scheme), [root.resolve()], 1
    if options.base is not None or options.normalised:
        base = options.base or 0
    if not options.normalised:
        _refuse_normalised(root, rows)

    def found(row: Label | Bad) -> Label | Bad:
        if isinstance(row, Bad):
            return row
        try:
            person, path = person_of(row.group, pattern), _find_picture(row.group, folders)
        except PoposError as error:
            return Bad(row.source, error.message)
        missing = np.flatnonzero((row.points == -1).all(1))
        if len(missing) and not options.normalised:
            why = "a missing point is left empty (CSV), nan (.pts), or has v = 0 (COCO)"
            return Bad(row.source, f"landmark {missing[0]} at -1, -1: {why}")
        return checked(replace(row, image=path, group=person))

    return Source(
        Labels.of("custom", base, map(found, rows), remarks=remarks), scheme,
        on_picture=partial(_on_picture, base=base, normalised=options.normalised),
        finish=_crop_alike,
        remark_on=partial(remarks_on_own, scheme=scheme),
        root=folders[0],
        notes={"labels": str(root.resolve()), "split_by": options.split_by},
    )  # fmt: skip


def _label_file(root: Path) -> Path | None:
    """ROOT itself, or the one CSV or JSON in it; None for a folder without. Raises PoposError for several."""
    if root.is_file():
        return root.parent.resolve() / root.name  # a link keeps its name, and its neighbours
    root = root.resolve()
    files = Tree.below(root, depth=0).listing.get(root, [])
    # Hidden files belong to editors and office programs.
    here = [root / name for name in files if not name.startswith((".", "~"))]
    csvs, jsons = ([p for p in here if p.suffix.lower() == ending] for ending in (".csv", ".json"))
    candidates = csvs or jsons
    if len(candidates) > 1:
        names = ", ".join(p.name for p in candidates[:5])
        raise PoposError(
            f"{root}: {len(candidates)} label files ({names}), but one is expected",
            "Name the file itself instead of the folder.",
        )
    return candidates[0] if candidates else None


def _read_coco(path: Path, scheme: Scheme) -> tuple[list[Label | Bad], Scheme, list[str]]:
    """The faces; the scheme, named by the file's `categories` where it had no names; and remarks."""
    coco = read_coco(path)
    values = [annotation.get("keypoints") for annotation in coco.annotations]
    lengths = {len(one) for one in values if isinstance(one, list) and one}
    if len(lengths) == 1 and (length := lengths.pop()) % 3 == 0 and length != 3 * scheme.landmarks:
        raise wrong_count(f"{path}: faces of", length // 3, scheme)
    named = [names for names in coco.keypoint_names if len(names) == scheme.landmarks]
    order = list(range(scheme.landmarks))
    if len(named) == 1:  # of several categories each would need its own
        order, scheme = in_scheme_order(named[0], scheme, str(path))
    rows: list[Label | Bad] = []
    for annotation, face in coco.faces(scheme.landmarks):
        if isinstance(face, Label):
            try:
                box = bbox(annotation)
                face = replace(face, points=face.points[order], visible=face.visible[order], box=box)
            except PoposError as error:
                face = Bad(face.source, error.message)
        rows.append(face)
    unlabelled = len([one for one in values if one and isinstance(one, list)]) - len(rows)
    remark = f"annotations skipped, as crowds or without a labelled point (v above 0): {unlabelled}"
    return rows, scheme, [remark] if unlabelled > 0 else []


def _read_pts_files(root: Path, scheme: Scheme) -> list[Label | Bad]:
    """Pictures below `root` with a .pts file beside them; 1-based, as iBUG's tools write them."""
    listing = Tree.below(root, depth=None).listing
    every = sorted(folder / name for folder, names in listing.items() for name in names)
    files = [path for path in every if path.suffix.lower() == ".pts"]
    if not files:
        raise PoposError(
            f"{root}: found no .csv, no .json and no .pts file",
            "ROOT is a CSV, a COCO-keypoints JSON, a folder with one of them, or a folder of "
            "pictures with .pts files.",
        )
    pictures: dict[Path, list[Path]] = {}
    for path in every:
        if path.suffix.lower() in SUFFIXES:
            pictures.setdefault(path.with_suffix(""), []).append(path)
    rows: list[Label | Bad] = []
    counts: Counter[int] = Counter()
    for file in files:
        source = str(file.relative_to(root))
        try:
            points = read_pts(file, missing=True)
            counts[len(points)] += 1
            if len(points) != scheme.landmarks:
                raise ValueError(f"{len(points)} points instead of {scheme.landmarks}")
            beside = pictures.get(file.with_suffix(""), [])
            if len(beside) > 1:  # nobody says which of them was labelled
                raise ValueError(f"{len(beside)} pictures beside it: {', '.join(p.name for p in beside)}")
            if not beside:
                known = " ".join(sorted(SUFFIXES))
                raise ValueError(f"no picture {file.stem} with one of {known} beside it")
        except ValueError as error:
            rows.append(Bad(source, str(error)))
            continue
        image = beside[0].relative_to(root)
        visible = np.where(np.isnan(points).all(1), 0, 2).astype(np.uint8)
        rows.append(Label(image, points, visible, source, group=str(image)))
    if len(counts) == 1 and scheme.landmarks not in counts:
        raise wrong_count(f"{root}: .pts files of", next(iter(counts)), scheme)
    return rows


def _refuse_normalised(root: Path, rows: Sequence[Label | Bad]) -> None:
    """Raises PoposError where all labels lie in 0..1 or close by."""
    points = [row.points for row in rows if isinstance(row, Label) and row.visible.any()]
    values = np.concatenate(points) if points else np.array([SMALLEST_BOX])
    low, high = np.nanmin(values), np.nanmax(values)
    if -1 < low < high < SMALLEST_BOX:
        raise PoposError(
            f"{root}: all coordinates lie between {low:.3g} and {high:.3g}, but popos expects pixels",
            "Where they are shares of the picture's width and height, add --normalised.",
        )


def _find_picture(image: str, folders: Sequence[Path]) -> Path:
    """Windows' separators are understood. Raises PoposError."""
    for name in (image, PureWindowsPath(image).as_posix()):
        for folder in folders:
            if os.path.isfile(folder / name):
                return folder / name
    raise PoposError(f"image {shown(image)} not found below {folders[0]}")


def _on_picture(label: Label, size: Size, base: int, normalised: bool) -> tuple[Label, Square]:
    """The label in 0-based pixels of its picture, and the square to crop: its box's where it is labelled in
    part. base: coordinate of the first pixel's centre. Raises PoposError with what is wrong with it."""
    # Width and height the other way round is a turned picture, or a slip of the program that wrote them.
    if not normalised and label.size and label.size not in (size, size[::-1]):
        raise PoposError(
            f"made on a picture of {label.size[0]} x {label.size[1]} pixels (width, height in images), but "
            f"{label.image} has {size[0]} x {size[1]}"
        )
    unit = np.array(size if normalised else (1, 1))
    points, box = label.points * unit - base, label.box
    if label.box is not None:
        box = label.box * [*unit, *unit] - [base, base, 0, 0]
        if not label.whole and _lies_beside(box, points):
            given = ", ".join(f"{value:g}" for value in label.box)
            wrong = f"its bbox {given} (x, y, w, h) holds none of its points"
            raise PoposError(f"{wrong}: it seems to be in 0..1" if label.box.max() < SMALLEST_BOX else wrong)
    square = _tight_square(points) if box is None or label.whole else box_square(box)
    return replace(label, points=points, box=box), square


def _tight_square(points: Floats) -> Square:
    """Around the points. Raises PoposError where they span nothing."""
    span = float(np.ptp(points[~np.isnan(points).any(1)], axis=0).max())
    if span < SMALLEST_BOX:
        raise PoposError(f"the face is {span:.2g} pixels wide: its labels seem to be in 0..1")
    return tight_square(points)


def _lies_beside(box: Floats, points: Floats) -> bool:
    """Whether a box holds none of the labelled points, even as a square."""
    center, side = box_square(box)
    return not (np.abs(points - center) <= side / 2 + 1).all(1).any()


def _crop_alike(faces: list[LabelledFace]) -> list[LabelledFace]:
    """The faces, those labelled in part cropped as the others.

    What a file calls a bbox may be a detector's box or a person's. Fully labelled faces show where the square
    of the landmarks lies in it; where they show no rule, boxes are not used.
    """
    boxed = [(face, face.label.box) for face in faces if face.label.whole and face.label.box is not None]
    known = [(face.square, box_square(b)) for face, b in boxed if not _lies_beside(b, face.label.points)]
    if not known:
        return faces
    try:
        rule = median_rule([square for square, _ in known], [box for _, box in known])
    except ValueError:
        rule = None

    def crop(face: LabelledFace) -> LabelledFace:
        box = face.label.box
        if face.label.whole or box is None:
            return face
        if rule:
            return replace(face, square=rule.square(*box_square(box)))
        try:
            return replace(face, square=_tight_square(face.label.points), label=replace(face.label, box=None))
        except PoposError:  # a single point: its box is better than nothing
            return face

    return [crop(face) for face in faces]
