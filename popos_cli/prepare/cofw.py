"""COFW: 29 points on faces that something hides; labels and pixels in one MATLAB v7.3 file a split.

Such a file is HDF5 with every array transposed: `phisTr` (87, N) has the x of the 29 points in its
rows 0-28, their y in 29-57 and 1 for an occluded point in 58-86; `bboxesTr` (4, N) is x, y, w, h;
`IsTr` (1, N) refers to pictures (3, W, H) RGB or (W, H) grey. Coordinates are 1-based.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.geometry import Floats
from ..core.schemes import COFW
from ..errors import PoposError
from ..home import clear_leftovers, extracted_folder, locked, new_folder
from .archives import Archive
from .labels import Bad, Label, Labels, flaw
from .tree import Tree

# Split -> ending of the names in its file.
_SPLITS = {"train": "Tr", "test": "T"}
_PATIENCE = 3600  # seconds that another process may take to write the pictures
_AGAIN = "Download COFW_color.zip (data.caltech.edu/records/20099) again."


def _has_labels(tree: Tree) -> bool:
    return all(any(tree.files(rf"COFW_{split}(_color)?\.mat")) for split in _SPLITS)


ARCHIVES = (Archive(r"COFW_color\.zip", _has_labels), Archive(r"COFW\.zip", _has_labels))
WANTED = (
    "Looked for COFW_train_color.mat and COFW_test_color.mat (COFW_color.zip, "
    "data.caltech.edu/records/20099), or mmpose's cofw_train.json and cofw_test.json."
)


def read_raw(tree: Tree) -> Labels | None:
    """The faces of COFW's .mat files; their pictures are written below POPOS_HOME as PNG.

    Pictures are numbered as mmpose numbers them, train first, then test: images-*/000001.png. The
    grey files are read where there are no colour ones. Raises PoposError for a file that is torn or
    not COFW's, and where pictures cannot be written.
    """
    files: dict[str, Path] = {}
    for split in _SPLITS:
        colour, grey = tree.files(rf"COFW_{split}_color\.mat"), tree.files(rf"COFW_{split}\.mat")
        found = next(colour, None) or next(grey, None)
        if found:
            files[split] = found
    if not files:
        return None
    tables = {split: _read_tables(path, _SPLITS[split]) for split, path in files.items()}
    folder = _write_pictures(files)
    faces: list[Label] = []
    bad: list[Bad] = []
    number = 0
    for split, (phis, boxes) in tables.items():
        for row, (values, box) in enumerate(zip(phis, boxes, strict=True), start=1):
            number += 1
            source = f"{files[split].name}:{row}"
            label = _label(_picture(folder, number), split, source, values, box)
            bad.append(label) if isinstance(label, Bad) else faces.append(label)
    remarks = [f"the pictures were written to {folder}"]
    if grey_files := [path.name for path in files.values() if "color" not in path.name.lower()]:
        remarks.append(f"{' and '.join(grey_files)}: grey pictures, no colour ones were found")
    return Labels("raw", faces, base=1, crop="box", bad=bad, remarks=remarks)


def _label(image: Path, split: str, source: str, values: Floats, box: Floats) -> Label | Bad:
    """A face from its 87 values and its box (x, y, w, h), both 1-based.

    An occluded point is labelled all the same: every one of the 29 counts in the papers' error.
    """
    x, y, w, h = box.tolist()
    columns = values.reshape(3, COFW.landmarks)
    points = columns[:2].T - 1
    visible = np.where(columns[2] > 0, 1, 2).astype(np.uint8)
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
        square=(np.array([x + w / 2 - 1, y + h / 2 - 1]), max(w, h)),  # mmpose's rule, in our frame
        rect=np.array([x - 1, y - 1, w, h]),
    )


def _read_tables(path: Path, ending: str) -> tuple[Floats, Floats]:
    """(N, 87) points and occlusion, (N, 4) boxes, as many as the file has pictures."""
    with _Mat(path) as mat:
        phis = mat.values(f"phis{ending}")
        boxes = mat.values(f"bboxes{ending}")
        pictures = mat.values(f"Is{ending}").size
    for key, values, rows in (("phis", phis, 3 * COFW.landmarks), ("bboxes", boxes, 4)):
        if values.shape != (rows, pictures) or values.dtype.kind not in "buif":
            what = f"{values.dtype} {values.shape}, not numbers {(rows, pictures)}"
            raise PoposError(
                f"{path}: {key}{ending} is {what}, for {pictures} pictures in Is{ending}", _AGAIN
            )
    return phis.T.astype(np.float64), boxes.T.astype(np.float64)


class _Mat:
    """An open MATLAB v7.3 file that tells what is wrong with it in one PoposError."""

    def __init__(self, path: Path) -> None:
        import h5py

        self.path = path
        try:
            self._file = h5py.File(path, "r")
        except OSError:
            raise PoposError(f"{path}: not a MATLAB v7.3 (HDF5) file, or torn", _AGAIN) from None

    def __enter__(self) -> _Mat:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def values(self, key: Any) -> NDArray[Any]:
        """All of an array, by its name or by a reference to it."""
        try:
            return np.asarray(self._file[key][()])
        except KeyError:
            raise PoposError(f"{self.path}: it has no {key!r}, so it is not COFW's", WANTED) from None
        except (OSError, RuntimeError, TypeError, ValueError) as error:  # torn, a null reference, a group
            what = f"{key!r}" if isinstance(key, str) else "a picture"
            raise PoposError(f"{self.path}: {what} cannot be read: {error}", _AGAIN) from None


def _pictures(path: Path, ending: str) -> Iterator[NDArray[np.uint8]]:
    """The pictures of a file, one at a time: (H, W, 3) uint8 BGR."""
    with _Mat(path) as mat:
        for row, reference in enumerate(mat.values(f"Is{ending}").ravel(), start=1):
            stored = mat.values(reference)
            if stored.dtype != np.uint8 or not (stored.ndim == 2 or stored.shape[:-2] == (3,)):
                what = f"{stored.dtype} {stored.shape}, not uint8 (3, W, H) or (W, H)"
                raise PoposError(f"{path}:{row}: its picture is {what}", _AGAIN)
            code = cv2.COLOR_GRAY2BGR if stored.ndim == 2 else cv2.COLOR_RGB2BGR
            yield cv2.cvtColor(np.ascontiguousarray(stored.T), code)  # type: ignore[misc]


def _picture(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.png"


def _write_pictures(files: dict[str, Path]) -> Path:
    """The folder of the PNG files, made whole or not at all, and used again while the .mat files
    keep their size and date: others get another folder, so that an older index keeps its pixels."""
    stats = [(split, path.stat()) for split, path in files.items()]
    stamp = repr([(split, stat.st_size, stat.st_mtime_ns) for split, stat in stats])
    folder = extracted_folder("cofw") / f"images-{hashlib.sha256(stamp.encode()).hexdigest()[:8]}"
    if folder.exists():
        return folder
    number = 0
    try:
        with locked(folder.parent, _PATIENCE) as held:
            clear_leftovers(folder.parent, held)
            if folder.exists():  # another process was quicker
                return folder
            with suppress(FileExistsError), new_folder(folder) as aside:
                for split, path in files.items():
                    for picture in _pictures(path, _SPLITS[split]):
                        number += 1
                        _picture(aside, number).write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    except OSError as error:
        reason = error.strerror or str(error)
        raise PoposError(
            f"cannot write {folder}: {reason}", "Free some space, or set POPOS_HOME to another place."
        ) from error
    return folder
