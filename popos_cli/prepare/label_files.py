"""Somebody's own labels: which file or files of ROOT hold them, and the faces in these."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..core.schemes import Scheme
from ..data.pictures import SUFFIXES
from ..errors import PoposError
from .columns import read_csv
from .keypoints import read_keypoints
from .labels import Bad, Row
from .names import wrong_count
from .pts import read_pts
from .tree import Tree


@dataclass(frozen=True)
class Found:
    """rows and bad rows in file order; `folders`: where image paths may start, first match wins; base:
    coordinate of the first pixel's centre. scheme: with the file's names where it had none itself."""

    rows: list[Row | Bad]
    folders: list[Path]
    base: int
    scheme: Scheme
    remarks: list[str] = field(default_factory=list)


def read_labels(root: Path, scheme: Scheme) -> Found:
    """Find what kind of labels ROOT holds and read them. Raises PoposError."""
    if not root.exists():
        raise PoposError(f"{root}: no such file or folder")
    if root.is_file():
        file = root.parent.resolve() / root.name  # a link keeps its name, and its neighbours
    else:
        root = root.resolve()
        tree = Tree.below(root, depth=None)
        # Hidden ones are editors' and office programs' own.
        here = [root / name for name in tree.listing[root] if not name.startswith((".", "~"))]
        csvs, jsons = ([p for p in here if p.suffix.lower() == ending] for ending in (".csv", ".json"))
        candidates = csvs or jsons
        if len(candidates) > 1:
            names = ", ".join(p.name for p in candidates[:5])
            raise PoposError(
                f"{root}: {len(candidates)} label files ({names}), but one is expected",
                "Name the file itself instead of the folder.",
            )
        if not candidates:
            return _read_pts(root, tree, scheme)
        file = candidates[0]
    folders = [file.parent, file.parent / "images"]
    if file.is_symlink():
        folders += [file.resolve().parent, file.resolve().parent / "images"]
    if file.suffix.lower() == ".csv":
        rows, scheme, remarks = read_csv(file, scheme)
        return Found(rows, folders, 0, scheme, remarks)
    if file.suffix.lower() == ".json":
        rows, scheme, remarks = read_keypoints(file, scheme)
        return Found(rows, folders, 0, scheme, remarks)
    raise PoposError(
        f"{file}: not a label file that popos knows",
        "Give a .csv, a COCO-keypoints .json, or a folder of pictures with .pts files.",
    )


def _read_pts(root: Path, tree: Tree, scheme: Scheme) -> Found:
    """Pictures below `root` with a .pts file beside them; 1-based, as ibug's tools write them."""
    every = sorted(folder / name for folder, names in tree.listing.items() for name in names)
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
    rows = [_pts_row(file, root, pictures) for file in files]
    counts = Counter(len(row.points) for row in rows if isinstance(row, Row))
    if len(counts) == 1 and scheme.landmarks not in counts:
        raise wrong_count(f"{root}: .pts files of", next(iter(counts)), scheme)
    wrong = f"points instead of {scheme.landmarks}"
    rows = [
        Bad(row.source, f"{len(row.points)} {wrong}")
        if isinstance(row, Row) and len(row.points) != scheme.landmarks
        else row
        for row in rows
    ]
    return Found(rows, [root], 1, scheme)


def _pts_row(path: Path, root: Path, pictures: dict[Path, list[Path]]) -> Row | Bad:
    source = str(path.relative_to(root))
    try:
        points = read_pts(path, missing=True)
    except ValueError as error:
        return Bad(source, str(error))
    beside = pictures.get(path.with_suffix(""), [])
    if len(beside) > 1:
        return Bad(source, f"{len(beside)} pictures beside it: {', '.join(p.name for p in beside)}")
    if not beside:
        return Bad(source, f"no picture {path.stem} with one of {' '.join(sorted(SUFFIXES))} beside it")
    visible = np.where(np.isnan(points).all(1), 0, 2).astype(np.uint8)
    return Row(source, str(beside[0].relative_to(root)), points, visible)
