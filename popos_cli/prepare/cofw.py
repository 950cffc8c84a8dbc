"""COFW: 29 points on faces that something hides; labels and pixels in one MATLAB v7.3 file a split.

Such a file is HDF5 with every array transposed: `phisTr` (87, N) has the x of the 29 points in its
rows 0-28, their y in 29-57 and 1 for an occluded point in 58-86; `bboxesTr` (4, N) is x, y, w, h;
`IsTr` (1, N) refers to pictures (3, W, H) RGB or (W, H) grey. Coordinates are 1-based.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.geometry import Floats
from ..core.schemes import COFW
from ..errors import PoposError
from ..home import extracted_folder
from .archives import Archive, extract_once
from .labels import Bad, Label, Labels, box_square, checked
from .protocol import Benchmark
from .tree import Tree

# Split -> ending of the names in its file.
_SPLITS = {"train": "Tr", "test": "T"}
_AGAIN = "Download COFW_color.zip (data.caltech.edu/records/20099) again."


def _has_labels(tree: Tree) -> bool:
    return all(any(tree.files(rf"COFW_{split}(_color)?\.mat")) for split in _SPLITS)


def read_raw(tree: Tree) -> Labels | None:
    """The faces of COFW's .mat files; their pictures are written below POPOS_HOME as PNG.

    Pictures are numbered as mmpose numbers them, train first, then test: 000001.png. The grey files are
    read where there are no colour ones. Raises PoposError for a file that is torn or not COFW's, and where
    pictures cannot be written.
    """
    files: dict[str, Path] = {}
    for split in _SPLITS:
        colour, grey = tree.files(rf"COFW_{split}_color\.mat"), tree.files(rf"COFW_{split}\.mat")
        if found := next(colour, None) or next(grey, None):
            files[split] = found
    if not files:
        return None
    tables = {split: _read_tables(path, _SPLITS[split]) for split, path in files.items()}

    def write_pictures(folder: Path) -> None:
        pictures = (picture for split, path in files.items() for picture in _pictures(path, _SPLITS[split]))
        for number, picture in enumerate(pictures, start=1):
            _path(folder, number).write_bytes(cv2.imencode(".png", picture)[1].tobytes())

    folder = extract_once(list(files.values()), extracted_folder("cofw"), write_pictures)
    outcomes: list[Label | Bad] = []
    for split, (phis, boxes) in tables.items():
        for row, (values, box) in enumerate(zip(phis, boxes, strict=True), start=1):
            source = f"{files[split].name}:{row}"
            outcomes.append(_label(_path(folder, len(outcomes) + 1), split, source, values, box))
    remarks = [f"the pictures were written to {folder}"]
    if grey_files := [path.name for path in files.values() if "color" not in path.name.lower()]:
        remarks.append(f"{' and '.join(grey_files)}: grey pictures, no colour ones were found")
    return Labels.of("raw", 1, outcomes, remarks=remarks)


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.png"


def _label(image: Path, split: str, source: str, values: Floats, box: Floats) -> Label | Bad:
    """A face from its 87 values and its box (x, y, w, h), both 1-based.

    An occluded point is labelled all the same: every one of the 29 counts in the papers' error.
    """
    columns = values.reshape(3, COFW.landmarks)
    rect = box - (1, 1, 0, 0)
    return checked(
        Label(
            image=image,
            points=columns[:2].T - 1,
            visible=np.where(columns[2] > 0, 1, 2).astype(np.uint8),
            split=split,
            source=source,
            square=box_square(rect),
            rect=rect,
        )
    )


def _read_tables(path: Path, ending: str) -> tuple[Floats, Floats]:
    """(N, 87) points and occlusion, (N, 4) boxes, as many as the file has pictures. Raises PoposError."""
    with _opened(path) as mat:
        shape = 87, mat[f"Is{ending}"].size
        phis, boxes = (mat[f"{key}{ending}"][()].astype(np.float64) for key in ("phis", "bboxes"))
        if phis.shape != shape or boxes.shape != (4, shape[1]):
            found = f"phis and bboxes are {phis.shape} and {boxes.shape}"
            raise ValueError(f"{found}, for {shape[1]} pictures")
    return phis.T, boxes.T


def _pictures(path: Path, ending: str) -> Iterator[NDArray[np.uint8]]:
    """The pictures of a file, one at a time: (H, W, 3) uint8 BGR. Raises PoposError."""
    with _opened(path) as mat:
        for row, reference in enumerate(mat[f"Is{ending}"][()].ravel(), start=1):
            stored = mat[reference][()]
            if stored.dtype != np.uint8 or not (stored.ndim == 2 or stored.shape[:-2] == (3,)):
                what = f"{stored.dtype} {stored.shape}, not uint8 (3, W, H) or (W, H)"
                raise ValueError(f"picture {row} is {what}")
            code = cv2.COLOR_GRAY2BGR if stored.ndim == 2 else cv2.COLOR_RGB2BGR
            yield cv2.cvtColor(np.ascontiguousarray(stored.T), code)  # type: ignore[misc]


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """An HDF5 file; what h5py, or the block, finds wrong with it is a PoposError."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            yield file
    # torn, a null reference, a group in the place of an array, or a name that is not there
    except (OSError, RuntimeError, TypeError, ValueError, AttributeError, KeyError) as error:
        what = f"not a MATLAB v7.3 (HDF5) file of COFW's, or torn: {error}"
        raise PoposError(f"{path}: {what}", _AGAIN) from None


BENCHMARK = Benchmark(
    name="cofw",
    scheme=COFW,
    splits={"train": 1345, "test": 507},
    archives=(Archive(r"COFW_color\.zip", _has_labels), Archive(r"COFW\.zip", _has_labels)),
    wanted=(
        "Looked for COFW_train_color.mat and COFW_test_color.mat (COFW_color.zip, "
        "data.caltech.edu/records/20099), or mmpose's cofw_train.json and cofw_test.json."
    ),
    read_raw=read_raw,
)
