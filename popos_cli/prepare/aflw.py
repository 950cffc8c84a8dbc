"""AFLW with the 19 points that AFLWinfo_release.mat gives to 24,386 faces, visible or not.

The file is MATLAB v5: `bbox` (N, 4) is left, right, top, bottom; `data` (N, 38) has 19 x, then 19 y;
`mask_new` (N, 19) is 1 for a visible point; `nameList` (N, 1) are paths below flickr/; `ra` are the
numbers of the faces, from 1 on, in the order of the split: the first 20,000 are for training.
Coordinates are used as they stand, as all readers do.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..core.schemes import AFLW
from ..errors import PoposError
from .archives import Archive
from .labels import Bad, Label, Labels, box_square, checked
from .protocol import Benchmark
from .tree import Tree, places

_TRAIN, _TEST = 20000, 4386
_WIDTHS = {"bbox": 4, "data": 2 * AFLW.landmarks, "mask_new": AFLW.landmarks}
_AGAIN = "Download AFLWinfo_release.mat (mmlab.ie.cuhk.edu.hk/projects/compositional) again."


def _has_folders(*names: str) -> Callable[[Tree], bool]:
    """Whether folders of these names hold files."""
    return lambda tree: all(any(tree.listing[folder] for folder in tree.folders(name)) for name in names)


def read_raw(tree: Tree) -> Labels | None:
    """The faces of AFLWinfo_release.mat, in the order of its split.

    All 19 points are labelled; 1 in `visible` marks those that the picture does not show. Subset
    "frontal": test faces that show all 19. Raises PoposError for a file that is not the release's.
    """
    path = next(tree.files(r"AFLWinfo_release\.mat"), None)
    if path is None:
        return None
    table = _read_mat(path)
    order = table["ra"].astype(np.int64) - 1
    train, remarks = _TRAIN, []
    if len(order) != _TRAIN + _TEST:
        if len(order) <= _TRAIN:
            train = round(len(order) * _TRAIN / (_TRAIN + _TEST))
        remarks.append(
            f"{path.name} has {len(order)} faces, the release {_TRAIN + _TEST}: "
            f"the first {train} of its order are taken for training"
        )
    names = [_text(cell) for cell in table["nameList"]]
    # Those of the folders 0, 2 and 3 apart: each archive may have been unpacked elsewhere.
    images = places(tree, names, [path.parent / "flickr"], lambda name: name.partition("/")[0])
    outcomes = []
    for place, row in enumerate(order.tolist()):
        split = "train" if place < train else "test"
        outcomes.append(_label(table, row, split, f"{path.name}:{row + 1}", images[row]))
    return Labels.of("raw", 0, outcomes, remarks=remarks)


def _label(table: dict[str, Any], row: int, split: str, source: str, image: Path) -> Label | Bad:
    left, right, top, bottom = table["bbox"][row].tolist()
    box = np.array([left, top, right - left, bottom - top])
    seen = table["mask_new"][row] == 1
    return checked(
        Label(
            image=image,
            points=table["data"][row].reshape(2, AFLW.landmarks).T.copy(),
            visible=np.where(seen, 2, 1).astype(np.uint8),
            split=split,
            source=source,
            subsets=("frontal",) if split == "test" and seen.all() else (),
            square=box_square(box),  # its side is mmpose's box_size
            rect=box,
        )
    )


def _read_mat(path: Path) -> dict[str, Any]:
    """bbox (N, 4), data (N, 38) and mask_new (N, 19) float64, nameList and ra (N,). Raises PoposError."""
    from scipy.io import loadmat

    try:
        mat = loadmat(path, variable_names=[*_WIDTHS, "nameList", "ra"])
        table = {key: mat[key].reshape(-1) for key in ("nameList", "ra")}
        faces = len(table["nameList"])
        if not np.array_equal(np.sort(table["ra"]), np.arange(1, faces + 1)):
            raise ValueError(f"ra does not have each number from 1 to {faces} once")
        for key, width in _WIDTHS.items():
            table[key] = mat[key].astype(np.float64)
            if table[key].shape != (faces, width):
                raise ValueError(f"{key} is {table[key].shape}, not {(faces, width)}")
    except Exception as error:  # on a torn file scipy raises whatever its bytes happen to lead to
        raise PoposError(f"{path}: torn, or not AFLW's: {error}", _AGAIN) from None
    return table


def _text(cell: Any) -> str:
    """The text in a cell, however many arrays of one element are around it."""
    while isinstance(cell, np.ndarray) and cell.size == 1:
        cell = cell.item()
    return cell.strip() if isinstance(cell, str) else ""


BENCHMARK = Benchmark(
    name="aflw",
    scheme=AFLW,
    splits={"train": _TRAIN, "test": _TEST},
    archives=(
        Archive(r"AFLWinfo_release\.zip", lambda tree: any(tree.files(r"AFLWinfo_release\.mat"))),
        *(Archive(rf"aflw-images-{n}\.tar\.gz", _has_folders(n)) for n in ("0", "2", "3")),
        Archive(r"aflw\.tar\.gz", _has_folders("0", "2", "3")),
    ),
    wanted=(
        "Looked for AFLWinfo_release.mat (mmlab.ie.cuhk.edu.hk/projects/compositional) and the folders "
        "flickr/0, 2 and 3 (aflw-images-0.tar.gz, -2, -3 from TU Graz), or mmpose's JSON or HRNet's CSV."
    ),
    read_raw=read_raw,
    subsets={"frontal": 1314},  # also follows from the failure rates k / N that FaRL's logs print
)
