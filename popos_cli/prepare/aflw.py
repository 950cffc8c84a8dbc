"""AFLW with the 19 points that AFLWinfo_release.mat gives to 24,386 faces, seen or not.

The file is MATLAB v5: `bbox` (N, 4) is left, right, top, bottom; `data` (N, 38) has 19 x, then 19 y;
`mask_new` (N, 19) is 1 for a visible point; `nameList` (N, 1) are paths below flickr/; `ra` are the
numbers of the faces, from 1 on, in the order of the split: the first 20,000 are for training.
Coordinates are used as they stand, as all readers do.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.geometry import Floats
from ..core.schemes import AFLW
from ..errors import PoposError
from .archives import Archive
from .files import is_inside
from .labels import Bad, Label, Labels, flaw
from .protocol import BENCHMARKS
from .tree import Pictures, Tree

_KEYS = ("bbox", "data", "mask_new", "nameList", "ra")
_TRAIN, _TEST = (BENCHMARKS["aflw"].splits[split] or 0 for split in ("train", "test"))
_AGAIN = "Download AFLWinfo_release.mat (mmlab.ie.cuhk.edu.hk/projects/compositional) again."


def _has_folders(*names: str) -> Callable[[Tree], bool]:
    """Whether folders of these names hold pictures."""

    def present(tree: Tree) -> bool:
        return all(any(tree.listing[folder] for folder in tree.folders(name)) for name in names)

    return present


ARCHIVES = (
    Archive(r"AFLWinfo_release\.zip", lambda tree: any(tree.files(r"AFLWinfo_release\.mat"))),
    *(Archive(rf"aflw-images-{n}\.tar\.gz", _has_folders(n)) for n in ("0", "2", "3")),
    Archive(r"aflw\.tar\.gz", _has_folders("0", "2", "3")),
)
WANTED = (
    "Looked for AFLWinfo_release.mat (mmlab.ie.cuhk.edu.hk/projects/compositional) and the folders "
    "flickr/0, 2 and 3 (aflw-images-0.tar.gz, -2, -3 from TU Graz), or mmpose's JSON or HRNet's CSV."
)


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
    pictures = _Finder(tree, path.parent)
    faces: list[Label] = []
    bad: list[Bad] = []
    for place, row in enumerate(order.tolist()):
        name = _text(table["nameList"][row])
        label = _label(
            pictures.find(name), name, "train" if place < train else "test", f"{path.name}:{row + 1}",
            table["data"][row], table["bbox"][row], table["mask_new"][row] == 1,
        )  # fmt: skip
        bad.append(label) if isinstance(label, Bad) else faces.append(label)
    return Labels("raw", faces, base=0, crop="box", bad=bad, remarks=remarks)


def _label(
    image: Path | None, name: str, split: str, source: str, values: Floats, box: Floats,
    seen: NDArray[np.bool_],
) -> Label | Bad:  # fmt: skip
    """A face from its 38 values, its box (left, right, top, bottom) and which of its points are seen."""
    left, right, top, bottom = box.tolist()
    w, h = right - left, bottom - top
    points = values.reshape(2, AFLW.landmarks).T.copy()
    visible = np.where(seen, 2, 1).astype(np.uint8)
    if image is None:
        return Bad(source, f"{name!r} is not the name of a picture")
    if not np.isfinite(box).all():
        return Bad(source, "its box is NaN or infinite")
    if min(w, h) <= 0:
        return Bad(source, f"its box has no size: {w:g} x {h:g}")
    if wrong := flaw(points, visible):
        return Bad(source, wrong)
    return Label(
        image=image,
        points=points,
        visible=visible,
        split=split,
        source=source,
        subsets=("frontal",) if split == "test" and seen.all() else (),
        square=(np.array([(left + right) / 2, (top + bottom) / 2]), max(w, h)),  # max: box_size
        rect=np.array([left, top, w, h]),
    )


def _read_mat(path: Path) -> dict[str, Any]:
    """bbox (N, 4), data (N, 38) and mask_new (N, 19) float64, nameList and ra (N,)."""
    from scipy.io import loadmat

    try:
        mat = loadmat(path, variable_names=_KEYS)
    except Exception as error:  # on a torn file scipy raises whatever its bytes happen to lead to
        raise PoposError(f"{path}: not a readable MATLAB v5 file: {error}", _AGAIN) from None
    if missing := [key for key in _KEYS if key not in mat]:
        raise PoposError(f"{path}: it has no {missing[0]!r}, so it is not AFLW's", _AGAIN)
    table = {"nameList": mat["nameList"].reshape(-1), "ra": mat["ra"].reshape(-1)}
    faces = len(table["ra"])
    if len(table["nameList"]) != faces:
        raise PoposError(f"{path}: nameList has {len(table['nameList'])} names, not {faces} as ra", _AGAIN)
    for key, columns in (("bbox", 4), ("data", 2 * AFLW.landmarks), ("mask_new", AFLW.landmarks)):
        values = mat[key]
        if values.shape != (faces, columns) or values.dtype.kind not in "buif":
            what = f"{values.dtype} {values.shape}, not numbers {(faces, columns)}"
            raise PoposError(f"{path}: {key} is {what}", _AGAIN)
        table[key] = values.astype(np.float64)
    numbers = table["ra"].dtype.kind in "uif"
    if not numbers or not np.array_equal(np.sort(table["ra"]), np.arange(1, faces + 1)):
        raise PoposError(f"{path}: ra does not have each number from 1 to {faces} once", _AGAIN)
    return table


def _text(cell: Any) -> str:
    """The text in a cell, however many arrays of one element are around it."""
    while isinstance(cell, np.ndarray) and cell.size == 1:
        cell = cell.item()
    return cell.strip() if isinstance(cell, str) else ""


class _Finder:
    """Finds "0/image00002.jpg" in any folder 0: each archive may have been unpacked elsewhere."""

    def __init__(self, tree: Tree, otherwise: Path) -> None:
        """`otherwise`: where flickr/0 is said to be missing when there is no folder 0."""
        self._tree, self._otherwise = tree, otherwise
        self._folders: dict[tuple[str, ...], list[Pictures]] = {}

    def find(self, name: str) -> Path | None:
        """Where the picture is, else where it should be; None for no name, or one that leads away."""
        if not is_inside(name):
            return None
        *parts, file = PurePosixPath(name).parts
        folder = tuple(parts)
        if folder not in self._folders:
            places = dict.fromkeys([*self._tree.folders("flickr", *folder), *self._tree.folders(*folder)])
            self._folders[folder] = [self._tree.pictures(place) for place in places]
        for pictures in self._folders[folder]:
            if found := pictures.find(file):
                return found
        missing = [pictures.folder for pictures in self._folders[folder]]
        return (missing[0] if missing else self._otherwise.joinpath("flickr", *folder)) / file
