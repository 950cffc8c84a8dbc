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
from .labels import Bad, OwnLabel
from .names import wrong_count
from .parsing import read_pts
from .tree import Tree


@dataclass(frozen=True)
class OwnLabels:
    """rows: labels and bad rows in file order. folders: where image paths may start, the first that fits
    counts. base: coordinate of the first pixel's centre. scheme: with the file's names where it had none."""

    rows: list[OwnLabel | Bad]
    folders: list[Path]
    base: int
    scheme: Scheme
    remarks: list[str] = field(default_factory=list)


def read_labels(root: Path, scheme: Scheme) -> OwnLabels:
    """Find what kind of labels ROOT holds and read them. Raises PoposError."""
    if not root.exists():
        raise PoposError(f"{root}: no such file or folder")
    if root.is_file():
        file = root.parent.resolve() / root.name  # a link keeps its name, and its neighbours
    else:
        root = root.resolve()
        tree = Tree.below(root, depth=None)
        # Hidden files belong to editors and office programs.
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
            return _read_pts_files(root, tree, scheme)
        file = candidates[0]
    read = {".csv": read_csv, ".json": read_keypoints}.get(file.suffix.lower())
    if read is None:
        raise PoposError(
            f"{file}: not a label file that popos knows",
            "Give a .csv, a COCO-keypoints .json, or a folder of pictures with .pts files.",
        )
    places = dict.fromkeys((file.parent, file.resolve().parent))
    rows, scheme, remarks = read(file, scheme)
    return OwnLabels(rows, [folder / sub for folder in places for sub in ("", "images")], 0, scheme, remarks)


def _read_pts_files(root: Path, tree: Tree, scheme: Scheme) -> OwnLabels:
    """Pictures below `root` with a .pts file beside them; 1-based, as iBUG's tools write them."""
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
    rows: list[OwnLabel | Bad] = []
    counts: Counter[int] = Counter()
    for file in files:
        source = str(file.relative_to(root))
        try:
            points = read_pts(file, missing=True)
            counts[len(points)] += 1
            if len(points) != scheme.landmarks:
                raise ValueError(f"{len(points)} points instead of {scheme.landmarks}")
            image = str(_picture_of(file, pictures).relative_to(root))
        except ValueError as error:
            rows.append(Bad(source, str(error)))
            continue
        visible = np.where(np.isnan(points).all(1), 0, 2).astype(np.uint8)
        rows.append(OwnLabel(source, image, points, visible))
    if len(counts) == 1 and scheme.landmarks not in counts:
        raise wrong_count(f"{root}: .pts files of", next(iter(counts)), scheme)
    return OwnLabels(rows, [root], 1, scheme)


def _picture_of(file: Path, pictures: dict[Path, list[Path]]) -> Path:
    """The picture beside a .pts file. Raises ValueError where there is none, or more than one."""
    beside = pictures.get(file.with_suffix(""), [])
    if len(beside) > 1:
        raise ValueError(f"{len(beside)} pictures beside it: {', '.join(p.name for p in beside)}")
    if not beside:
        raise ValueError(f"no picture {file.stem} with one of {' '.join(sorted(SUFFIXES))} beside it")
    return beside[0]
