"""The one prepared format: a dataset's faces as arrays in one .npz file (docs/data-format.md).

Pixels stay where they are; the file holds, for F faces of K landmarks,

    meta         JSON text: format, name, scheme (plain data), root, source, coordinate_offset, ...
    image        (F,) text, path below root
    size         (F, 2) int32, width and height of the picture as it is read
    points       (F, K, 2) float64, x then y, 0-based pixel centres of that picture
    visible      (F, K) uint8, 0 not labelled (NaN), 1 labelled but occluded, 2 visible
    center, side (F, 2), (F,) float64, the square around the face before any padding, image pixels
    split        (F,) text, "train", "val", "test", or "private" (300W's later test set)
    group        (F,) text, the person or other unit that no two splits share; "" if unknown
    source       (F,) text, where the label came from, "landmarks.csv:17"
    subset       (F, S) bool, membership in meta["subsets"]
    rect         (F, 4) float64, the official detection box x, y, w, h, NaN where there is none
    stamp        (F, 3) int64, the picture file's size in bytes, time of change in ns, and a hash of its
                 content; zeros where that is not known (indexes of earlier versions)

A picture is read by `Index.read_bgr`, which knows whether labels refer to its stored pixels or to what its
EXIF orientation makes of them.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.choices import SPLITS
from ..core.geometry import Floats
from ..core.schemes import SCHEMES, Scheme
from ..errors import PoposError, UsageError, did_you_mean
from ..home import clear_leftovers, datasets_folder, locked, replacing
from .pictures import read_bgr
from .stamps import is_changed

FORMAT = 1
FAR = 10

_IMPORTERS = (*SCHEMES, "coco-face", "synthetic")
_BROKEN = (
    OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, EOFError, RecursionError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip
_COLUMNS = (
    "image", "size", "points", "visible", "center", "side", "split", "group", "source", "subset", "rect",
    "stamp",
)  # fmt: skip


@dataclass(frozen=True)
class Index:
    """A prepared dataset in memory; the columns are described at the top of this file."""

    name: str
    scheme: Scheme
    root: Path
    image: NDArray[np.str_]
    size: NDArray[np.int32]
    points: Floats
    visible: NDArray[np.uint8]
    center: Floats
    side: Floats
    split: NDArray[np.str_]
    group: NDArray[np.str_]
    source: NDArray[np.str_]
    subset: NDArray[np.bool_]
    rect: Floats
    subsets: tuple[str, ...] = ()
    notes: dict[str, Any] = field(default_factory=dict)
    stamp: NDArray[np.int64] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.stamp is None:
            object.__setattr__(self, "stamp", np.zeros((len(self.image), 3), np.int64))

    def __len__(self) -> int:
        return len(self.image)

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(s for s in SPLITS if (self.split == s).any())

    def select(self, rows: NDArray[Any]) -> Index:
        """The faces at `rows` (indices or a mask)."""
        return replace(self, **{column: getattr(self, column)[rows] for column in _COLUMNS})

    @property
    def validation_split(self) -> str | None:
        """The split that training chooses its epoch by, and calibrates on: "val", else "test"."""
        return next((split for split in ("val", "test") if split in self.splits), None)

    @property
    def fingerprint(self) -> str:
        """A hash of what training reads, pixels aside.

        It stays when the same dataset is prepared again or its folder is moved, and changes with any face,
        point, square, split, or with the scheme's points.
        """
        scheme = [self.scheme.name, self.scheme.eye_corners, self.scheme.flip_index.tolist()]
        texts = json.dumps([scheme, self.image.tolist(), self.split.tolist()])
        points = np.where(self.visible[..., None] > 0, self.points, 0.0)
        found = hashlib.sha256(texts.encode())
        for column in (points, self.visible, self.center, self.side):
            found.update(np.ascontiguousarray(column, "<f8").tobytes())
        return found.hexdigest()

    def validation(self) -> Index:
        """The faces of `validation_split`. Raises PoposError where there are none."""
        split = self.validation_split
        if split is None:
            raise PoposError(
                f"dataset {self.name!r} has neither validation nor test faces",
                "Prepare it again with --val-fraction above 0.",
            )
        return self.of_split(split)

    def of_split(self, split: str) -> Index:
        """The faces of one split; raises UsageError where there are none."""
        chosen = self.select(self.split == split)
        if not len(chosen):
            raise UsageError(
                f"dataset {self.name!r} has no split {split!r}", f"It has: {', '.join(self.splits)}."
            )
        return chosen

    def read_bgr(self, face: int) -> NDArray[np.uint8]:
        """The picture of a face, BGR (H, W, 3), turned as its labels have it. Raises PoposError where it
        cannot be read, or is not the one that the dataset was prepared from."""
        image = str(self.image[face])
        meant = self.notes.get("orientation")
        # What was prepared before this was noted: stored pixels, but a TIFF as OpenCV turned it.
        upright = meant == "upright" or (meant is None and image.lower().endswith((".tif", ".tiff")))
        picture = read_bgr(self.root / image, upright)
        if picture.shape[1::-1] != tuple(self.size[face]) or self.is_changed(face):
            raise self.refuse_changed(image)
        return picture

    def read_rgb(self, face: int) -> NDArray[np.uint8]:
        """As `read_bgr`, RGB."""
        return cv2.cvtColor(self.read_bgr(face), cv2.COLOR_BGR2RGB)  # type: ignore[return-value]

    def is_changed(self, face: int) -> bool:
        """Whether the face's picture has changed since the dataset was prepared."""
        size, time, content = self.stamp[face].tolist()
        return is_changed(self.root / str(self.image[face]), (size, time, content))

    def refuse_changed(self, image: str, count: int = 1) -> PoposError:
        """What to raise for `count` changed pictures, `image` the first of them."""
        more = f" and {count - 1} more pictures" if count > 1 else ""
        return PoposError(
            f"{self.root / image}{more} changed since dataset {self.name!r} was prepared: its labels may not "
            "fit any more",
            f"Put the old pictures back, or prepare it again: {self.prepare_command}",
        )

    @property
    def prepare_command(self) -> str:
        """The command that the dataset was prepared with, as far as that is known."""
        return str(self.notes.get("command") or f"popos prepare-data ... --name {self.name}")

    def normalisers(self) -> Floats:
        """(F,) image pixels: eye-corner distance, or the square's side for a box scheme."""
        if self.scheme.eye_corners is None:
            return self.side
        a, b = self.scheme.eye_corners
        distance: Floats = np.linalg.norm(self.points[:, a] - self.points[:, b], axis=-1)
        return distance

    def far_out(self) -> NDArray[np.bool_]:
        """(F,): faces with a point more than `FAR` picture sizes outside: no label, but a mistake."""
        reach = FAR * self.size.max(1)[:, None, None]
        beyond = (self.points < -reach) | (self.points > self.size[:, None] + reach)
        return np.asarray(beyond.any((1, 2)))

    def outside(self) -> NDArray[np.bool_]:
        """(F, K): labelled points outside their picture; kept, since networks learn them too."""
        low = self.points < -0.5
        high = self.points > self.size[:, None] - 0.5
        return np.asarray((low | high).any(-1))


def index_path(name: str) -> Path:
    return datasets_folder() / f"{name}.npz"


def write_index(index: Index, path: Path | None = None, force: bool = False) -> Path:
    """Validate and write to POPOS_HOME, or to `path`; what is there is replaced whole or not at all.

    Raises PoposError where that was prepared from another ROOT, unless `force`.
    """
    problem = _problem(index)
    if problem:
        raise PoposError(f"dataset {index.name!r}: {problem}")
    meta = {
        "format": FORMAT,
        "name": index.name,
        "scheme": index.scheme.to_dict(),
        "root": str(index.root),
        "subsets": list(index.subsets),
        "notes": index.notes,
    }
    path = path or index_path(index.name)
    columns = {column: getattr(index, column) for column in _COLUMNS}
    with locked(path, patience=60):
        clear_leftovers(path.parent)
        if "prepared_from" in index.notes and not force:
            refuse_replacing(path, index.notes["prepared_from"], index.root)
        with replacing(path) as temporary:
            np.savez_compressed(temporary, meta=np.array(json.dumps(meta)), **columns)
    return path


def refuse_replacing(path: Path, prepared_from: str, root: Path | None = None) -> None:
    """Raises PoposError where the index at `path` was prepared from another ROOT than `prepared_from`; one of
    an earlier version, which does not say, where its pictures are not below `root`."""
    try:
        earlier = load_index(path)
    except PoposError:  # none, or broken
        return
    known = earlier.notes.get("prepared_from")
    if (root not in (None, earlier.root)) if known is None else (known != prepared_from):
        raise PoposError(
            f"dataset {earlier.name!r} is there already, prepared from {known or earlier.root}, not from "
            f"{prepared_from}",
            "Give this one another name with --name, or replace that one with --force.",
        )


def read_index(name: str) -> Index:
    """Read a prepared dataset by name. Raises PoposError where it is missing, or as `load_index`."""
    path = index_path(name)
    if not path.exists():
        prepared = prepared_names()
        known = f" Prepared: {', '.join(prepared)}." if prepared else ""
        near = did_you_mean(name, prepared)
        meant = f"{near}Or run" if near else "Run"
        importer = f"{name} ROOT" if name in _IMPORTERS else f"custom ROOT --name {name}"
        raise PoposError(
            f"dataset {name!r} is not prepared", f"{meant}: popos prepare-data {importer}.{known}"
        )
    return load_index(path, f"Prepare it again: popos prepare-data ... --name {name}")


def load_index(path: Path, again: str | None = None) -> Index:
    """Read an index file. Raises PoposError, with `again` for its hint, where it is torn or newer."""
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("torn, or no .npz file")  # NumPy would take it for a pickle
        with np.load(path, allow_pickle=False) as data:
            meta = json.loads(str(data["meta"]))
            if meta["format"] > FORMAT:
                raise PoposError(
                    f"{path}: index format {meta['format']} is newer than this popos reads ({FORMAT})",
                    "Upgrade popos, or prepare the dataset again.",
                )
            index = Index(
                name=meta["name"],
                scheme=Scheme.from_dict(meta["scheme"], str(path)),
                root=Path(meta["root"]),
                subsets=tuple(meta["subsets"]),
                notes=meta["notes"],
                **{column: data[column] for column in _COLUMNS if column in data or column != "stamp"},
            )
    except UsageError as error:  # the scheme in it; no flag of the user's is wrong
        raise PoposError(error.message, again) from None
    except _BROKEN as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PoposError(f"{path}: not a readable index: {reason}", again) from None
    problem = _problem(index)
    if problem:
        raise PoposError(f"{path}: {problem}", again)
    return index


def prepared_names() -> list[str]:
    return sorted(p.stem for p in datasets_folder().glob("*.npz") if not p.name.startswith("."))


def _problem(index: Index) -> str | None:
    faces, marks = len(index), index.scheme.landmarks
    shapes: dict[str, Sequence[int]] = {
        "image": (faces,),
        "size": (faces, 2),
        "points": (faces, marks, 2),
        "visible": (faces, marks),
        "center": (faces, 2),
        "side": (faces,),
        "split": (faces,),
        "group": (faces,),
        "source": (faces,),
        "subset": (faces, len(index.subsets)),
        "rect": (faces, 4),
        "stamp": (faces, 3),
    }
    if not faces:
        return "it has no faces"
    for column, shape in shapes.items():
        if getattr(index, column).shape != tuple(shape):
            return f"{column} has shape {getattr(index, column).shape}, not {tuple(shape)}"
    if not np.isfinite(index.points[index.visible > 0]).all():
        return "a labelled point is not finite"
    if not (np.isfinite(index.center).all() and (index.side > 0).all()):
        return "a face has no size"
    unknown = set(index.split) - set(SPLITS)
    if unknown:
        return f"unknown split {sorted(unknown)[0]!r}"
    split_of: dict[str, str] = {}
    for person, split in zip(index.group.tolist(), index.split.tolist(), strict=True):
        if person and split_of.setdefault(person, split) != split:
            return f"{person!r} stands in more than one split"
    return None
