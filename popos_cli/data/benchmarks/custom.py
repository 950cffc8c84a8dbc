"""Anybody's own faces -> index: from a CSV, a folder of .pts files, or COCO-keypoints JSON.

CSV: header `image,x0,y0,x1,y1,...`, one face a row. .pts: one text file beside each picture, of
the same stem, as 300W has them. COCO: `images`, `annotations` with `keypoints` [x, y, v, ...].
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...core.geometry import Floats, tight_square
from ...core.schemes import Scheme
from ...errors import PoposError, UsageError
from ...sources import SUFFIXES, images_in, read_image
from ..index import Index
from .files import is_number, read_coco, read_text
from .labels import Bad, flaw
from .pts import read_pts


@dataclass(frozen=True)
class Row:
    """A face as its label file has it: points (K, 2) in the file's base, visible (K,) 0, 1 or 2."""

    source: str
    image: str
    points: Floats
    visible: NDArray[np.uint8]


@dataclass(frozen=True)
class Labels:
    """rows and bad rows in file order; `folders`: where image paths may start, first match wins."""

    rows: list[Row | Bad]
    folders: list[Path]
    base: int


def read_labels(root: Path, scheme: Scheme) -> Labels:
    """Find what kind of labels ROOT holds and read them. Raises PoposError or UsageError."""
    if not root.exists():
        raise PoposError(f"{root}: no such file or folder")
    if root.is_file():
        label_file = root
    else:
        csvs, jsons = sorted(root.glob("*.csv")), sorted(root.glob("*.json"))
        candidates = csvs or jsons
        if len(candidates) > 1:
            names = ", ".join(p.name for p in candidates[:5])
            raise PoposError(
                f"{root}: {len(candidates)} label files ({names}), but one is expected",
                "Name the file itself instead of the folder.",
            )
        if not candidates:
            return _read_pts(root, scheme)
        label_file = candidates[0]
    folders = [label_file.parent, label_file.parent / "images"]
    if label_file.suffix.lower() == ".csv":
        return Labels(list(_read_csv(label_file, scheme)), folders, base=0)
    if label_file.suffix.lower() == ".json":
        return Labels(list(_read_coco(label_file, scheme)), folders, base=0)
    raise PoposError(
        f"{label_file}: not a label file that popos knows",
        "Give a .csv, a COCO-keypoints .json, or a folder of pictures with .pts files.",
    )


def _read_csv(path: Path, scheme: Scheme) -> Iterator[Row | Bad]:
    lines = csv.reader(read_text(path).splitlines())
    header = next(lines, None)
    if not header:
        raise PoposError(f"{path}: the file is empty", "Expected a header: image,x0,y0,x1,y1,...")
    width = 1 + 2 * scheme.landmarks
    if header[0].strip().lower() != "image" or len(header) != width:
        raise PoposError(
            f"{path}:1: {len(header)} columns starting with {header[0]!r}; scheme {scheme.name!r} "
            f"needs {width}: image and {scheme.landmarks} x,y pairs",
            "Check --scheme, and that the first line is image,x0,y0,x1,y1,...",
        )
    everywhere = np.full(scheme.landmarks, 2, np.uint8)
    for cells in lines:
        source = f"{path.name}:{lines.line_num}"
        if not cells:
            continue
        if len(cells) != width:
            yield Bad(source, f"{len(cells)} columns instead of {width}")
            continue
        try:
            points = np.array(cells[1:], dtype=np.float64).reshape(-1, 2)
        except ValueError:
            wrong = next(i for i, cell in enumerate(cells[1:]) if not is_number(cell))
            yield Bad(source, f"column {header[wrong + 1]}: {cells[wrong + 1]!r} is not a number")
            continue
        yield Row(source, cells[0].strip(), points, everywhere)


def _read_pts(root: Path, scheme: Scheme) -> Labels:
    """Pictures below `root` with a .pts file beside them; 1-based, as ibug's tools write them."""
    files = sorted(root.rglob("*.pts"))
    if not files:
        raise PoposError(
            f"{root}: found no .csv, no .json and no .pts file",
            "ROOT is a CSV, a COCO-keypoints JSON, a folder with one of them, or a folder of "
            "pictures with .pts files.",
        )
    pictures = {p.with_suffix(""): p for p in images_in(root)}
    return Labels([_pts_row(f, root, pictures, scheme) for f in files], [root], base=1)


def _pts_row(path: Path, root: Path, pictures: dict[Path, Path], scheme: Scheme) -> Row | Bad:
    source = str(path.relative_to(root))
    try:
        points = read_pts(path, scheme.landmarks)
    except ValueError as error:
        return Bad(source, str(error))
    picture = pictures.get(path.with_suffix(""))
    if picture is None:
        return Bad(source, f"no picture {path.stem} with one of {' '.join(sorted(SUFFIXES))} beside it")
    visible = np.full(scheme.landmarks, 2, np.uint8)
    return Row(source, str(picture.relative_to(root)), points, visible)


def _read_coco(path: Path, scheme: Scheme) -> Iterator[Row | Bad]:
    names, annotations = read_coco(path)
    for number, annotation in enumerate(annotations):
        source = f"{path.name}#{annotation.get('id', number)}"
        values = annotation.get("keypoints")
        if values is not None and not isinstance(values, list):
            yield Bad(source, "its keypoints are no list")
            continue
        if annotation.get("iscrowd") or not values or not any(values):
            continue  # a crowd or a person without labelled points is no face
        if len(values) != 3 * scheme.landmarks:
            yield Bad(source, f"{len(values)} keypoint values instead of {3 * scheme.landmarks}")
            continue
        image = names.get(annotation.get("image_id"))
        if image is None:
            yield Bad(source, f"image_id {annotation.get('image_id')} is not among the images")
            continue
        try:
            table = np.array(values, dtype=np.float64).reshape(-1, 3)
        except (TypeError, ValueError):
            yield Bad(source, "a keypoint is not a number")
            continue
        visible = np.clip(np.nan_to_num(table[:, 2]), 0, 2).astype(np.uint8)
        points = np.where(visible[:, None] > 0, table[:, :2], np.nan)
        yield Row(source, image, points, visible)


def _check(row: Row, folders: Sequence[Path]) -> tuple[Path, tuple[int, int]] | Bad:
    """The picture's path and (width, height), or what is wrong with the face."""
    if wrong := flaw(row.points, row.visible):
        return Bad(row.source, wrong)
    found = next((f / row.image for f in folders if (f / row.image).is_file()), None)
    if not row.image or found is None:
        return Bad(row.source, f"image {row.image!r} not found below {folders[0]}")
    try:
        height, width = read_image(found, upright=False).shape[:2]
    except PoposError as error:
        return Bad(row.source, error.message)
    return found, (width, height)


def _below(path: Path, root: Path) -> str:
    """`path` from `root` on; a label file may also name pictures elsewhere, by their full path."""
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


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


def prepare_custom(
    root: Path,
    scheme: Scheme,
    name: str,
    *,
    split_by: str | None = None,
    val_fraction: float = 0.1,
    seed: int | None = None,
    base: int | None = None,
    advance: Callable[[int, int], None] | None = None,
) -> tuple[Index | None, list[Bad]]:
    """Read labels and pictures below `root`; the index of the good faces and the bad labels.

    split_by: a regular expression searched in each image path, group 1 is the person; without it
    each picture is its own group. base: 0 or 1, the coordinate of the first pixel's centre in the
    label files (None: 1 for .pts, else 0). `advance` is told (faces checked, faces in all). The
    index is None where too few faces are good. Raises UsageError for a pattern without group 1.
    """
    try:
        pattern = re.compile(split_by) if split_by else None
    except re.error as error:
        raise UsageError(f"--split-by {split_by!r}: not a regular expression: {error}") from None
    if pattern and pattern.groups < 1:
        raise UsageError(f"--split-by {split_by!r} has no group", r"Put the person in brackets: '^(.*)_\d+'.")
    labels = read_labels(root.resolve(), scheme)
    offset = labels.base if base is None else base
    kept: list[tuple[Row, Path, tuple[int, int], str]] = []
    bad: list[Bad] = []
    with ThreadPoolExecutor() as pool:  # OpenCV decodes outside the interpreter lock
        checked = pool.map(
            lambda row: row if isinstance(row, Bad) else _check(row, labels.folders), labels.rows
        )
        for number, (row, outcome) in enumerate(zip(labels.rows, checked, strict=True)):
            if advance:
                advance(number + 1, len(labels.rows))
            if isinstance(outcome, Bad) or isinstance(row, Bad):
                bad.append(outcome if isinstance(outcome, Bad) else row)  # type: ignore[arg-type]
                continue
            match = pattern.search(row.image) if pattern else None
            if pattern and not (match and match[1]):
                bad.append(Bad(row.source, f"--split-by finds no person in {row.image!r}"))
                continue
            kept.append((row, *outcome, match[1] if match else row.image))
    groups = [group for *_, group in kept]
    if not kept or (bad and len(set(groups)) < 2):  # the bad labels are what is wrong, not the split
        return None, bad
    points = np.stack([row.points for row, *_ in kept]) - offset
    squares = [tight_square(p) for p in points]
    validation = split_groups(groups, val_fraction, seed)
    common = labels.folders[0]
    index = Index(
        name=name,
        scheme=scheme,
        root=common,
        image=np.array([_below(path, common) for _, path, _, _ in kept]),
        size=np.array([size for _, _, size, _ in kept], np.int32),
        points=points,
        visible=np.stack([row.visible for row, *_ in kept]),
        center=np.stack([center for center, _ in squares]),
        side=np.array([side for _, side in squares]),
        split=np.array(["val" if group in validation else "train" for group in groups]),
        group=np.array(groups),
        source=np.array([row.source for row, *_ in kept]),
        subset=np.zeros((len(kept), 0), bool),
        rect=np.full((len(kept), 4), np.nan),
        notes={
            "importer": "custom",
            "labels": str(root),
            "coordinate_base": offset,
            "split_by": split_by,
            "skipped": len(bad),
        },
    )
    return index, bad
