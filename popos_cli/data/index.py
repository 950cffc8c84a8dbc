"""The prepared format: a dataset's faces as arrays in one .npz file (docs/reference/formats.md).

Pictures stay where they are; `Index.read_bgr` reads them.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.choices import IMPORTERS, SPLITS
from ..core.geometry import Floats
from ..core.schemes import Scheme
from ..errors import PoposError, UsageError, did_you_mean
from ..home import clear_leftovers, datasets_folder, locked, replacing
from .pictures import read_bgr
from .stamps import is_changed, stamp_of
from .threads import in_threads

FORMAT = 1
# The arrays of the file, and their shape after the first axis: K landmarks, S subsets.
_COLUMNS: dict[str, tuple[str | int, ...]] = {
    "image": (), "size": (2,), "points": ("K", 2), "visible": ("K",), "center": (2,), "side": (),
    "split": (), "group": (), "source": (), "subset": ("S",), "rect": (4,), "stamp": (3,),
}  # fmt: skip


@dataclass(frozen=True)
class Index:
    """A prepared dataset: arrays with one row for each of F faces of K landmarks.

    All coordinates are 0-based pixels of the picture as `read_bgr` reads it. notes: where the dataset comes
    from; "orientation" says whether the labels refer to stored or to upright pixels.
    """

    name: str
    scheme: Scheme
    root: Path
    image: NDArray[np.str_]  # (F,) path below root
    size: NDArray[np.int32]  # (F, 2) width and height of the picture
    points: Floats  # (F, K, 2) x, y; NaN where not labelled
    visible: NDArray[np.uint8]  # (F, K) 0 not labelled, 1 labelled but occluded, 2 visible
    center: Floats  # (F, 2), with side (F,): the square around the face before padding
    side: Floats
    split: NDArray[np.str_]  # (F,) one of SPLITS; "private" is 300W's later test set
    group: NDArray[np.str_]  # (F,) the person, or other unit that no two splits share; "" if unknown
    source: NDArray[np.str_]  # (F,) where the label stands, "landmarks.csv:17"
    subset: NDArray[np.bool_] = None  # type: ignore[assignment]  # (F, S) membership in `subsets`
    rect: Floats = None  # type: ignore[assignment]  # (F, 4) official detection box x, y, w, h, or NaN
    subsets: tuple[str, ...] = ()
    notes: dict[str, Any] = field(default_factory=dict)
    stamp: NDArray[np.int64] = None  # type: ignore[assignment]  # (F, 3) `stamps.Stamp`; zeros if unknown

    def __post_init__(self) -> None:
        faces = len(self.image)
        unknown = {
            "subset": np.zeros((faces, 0), bool),
            "rect": np.full((faces, 4), np.nan),
            "stamp": np.zeros((faces, 3), np.int64),
        }
        for column, values in unknown.items():
            if getattr(self, column) is None:
                object.__setattr__(self, column, values)

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
        """The split that training picks its best epoch on, and calibrates on: "val", else "test"."""
        return next((split for split in ("val", "test") if split in self.splits), None)

    @property
    def fingerprint(self) -> str:
        """A hash of what training reads, pixels aside.

        It stays the same when the dataset is prepared again or its folder moves; it changes with any face,
        point, square or split, and with the scheme's points.
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
        """The picture of a face, BGR (H, W, 3), stored or upright as its labels mean it. Raises PoposError
        where it cannot be read, or has changed since the dataset was prepared."""
        image = str(self.image[face])
        picture = read_bgr(self.root / image, upright=self.notes.get("orientation") == "upright")
        if picture.shape[1::-1] != tuple(self.size[face]) or self.is_changed(face):
            raise self.changed_error(image)
        return picture

    def read_rgb(self, face: int) -> NDArray[np.uint8]:
        """As `read_bgr`, RGB."""
        return cv2.cvtColor(self.read_bgr(face), cv2.COLOR_BGR2RGB)  # type: ignore[return-value]

    def is_changed(self, face: int) -> bool:
        """Whether the face's picture has changed since the dataset was prepared."""
        size, time, content = self.stamp[face].tolist()
        return is_changed(self.root / str(self.image[face]), (size, time, content))

    def changed_error(self, image: str, count: int = 1) -> PoposError:
        """The error for `count` changed pictures, `image` the first of them."""
        more = f" and {count - 1} more pictures" if count > 1 else ""
        return PoposError(
            f"{self.root / image}{more} changed since dataset {self.name!r} was prepared: its labels may not "
            "fit any more",
            f"Put the old pictures back, or prepare it again: {self.prepare_command}",
        )

    @property
    def prepare_command(self) -> str:
        """The command that prepared the dataset, as far as it is known."""
        return str(self.notes.get("command") or f"popos prepare-data ... --name {self.name}")

    def normalisers(self) -> Floats:
        """(F,) image pixels: distance of the eye corners, or the square's side without eye corners."""
        if self.scheme.eye_corners is None:
            return self.side
        a, b = self.scheme.eye_corners
        distance: Floats = np.linalg.norm(self.points[:, a] - self.points[:, b], axis=-1)
        return distance

    def outside(self) -> NDArray[np.bool_]:
        """(F, K): labelled points outside their picture; kept, since networks learn them too."""
        return outside(self.points, self.size[:, None])


def outside(points: Floats, size: Any, margin: Any = 0) -> NDArray[np.bool_]:
    """(...): points (..., 2) more than `margin` pixels outside a picture of this width and height; not NaN.

    A picture's edges lie half a pixel outside its outer pixels' centres.
    """
    low, high = -0.5 - margin, np.asarray(size) - 0.5 + margin
    return np.asarray(((points < low) | (points > high)).any(-1))


def index_path(name: str) -> Path:
    return datasets_folder() / f"{name}.npz"


def write_index(index: Index, path: Path | None = None) -> Path:
    """Validate and write to POPOS_HOME, or to `path`; an index there is replaced whole or not at all."""
    if problem := _problem(index):
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
        with replacing(path) as temporary:
            np.savez_compressed(temporary, meta=np.array(json.dumps(meta)), **columns)
    return path


def read_index(name: str) -> Index:
    """Read a prepared dataset by name. Raises PoposError where it is missing, or as `load_index`."""
    path = index_path(name)
    if not path.exists():
        prepared = prepared_names()
        known = f" Prepared: {', '.join(prepared)}." if prepared else ""
        near = did_you_mean(name, prepared)
        meant = f"{near}Or run" if near else "Run"
        importer = f"{name} ROOT" if name in IMPORTERS else f"custom ROOT --name {name}"
        raise PoposError(
            f"dataset {name!r} is not prepared", f"{meant}: popos prepare-data {importer}.{known}"
        )
    return load_index(path, f"Prepare it again: popos prepare-data ... --name {name}")


def load_index(path: Path, again: str | None = None) -> Index:
    """Read an index file. Raises PoposError, with the hint `again`, where it is damaged or newer."""
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("torn, or no .npz file")  # NumPy would take it for a pickle
        with np.load(path, allow_pickle=False) as data:
            meta = json.loads(str(data["meta"]))
            if meta["format"] > FORMAT:
                again = "Upgrade popos, or prepare the dataset again."
                newer = f"index format {meta['format']} is newer than this popos reads ({FORMAT})"
                raise PoposError(f"{path}: {newer}")
            index = Index(
                name=meta["name"],
                scheme=Scheme.from_dict(meta["scheme"], str(path)),
                root=Path(meta["root"]),
                subsets=tuple(meta["subsets"]),
                notes=meta["notes"],
                **{column: data[column] for column in _COLUMNS if column in data or column != "stamp"},
            )
        if problem := _problem(index):
            raise PoposError(f"{path}: {problem}")
    except PoposError as error:  # also a UsageError about its scheme: the fault is in the file
        raise PoposError(error.message, again) from None
    except Exception as error:  # NumPy, zipfile, zlib and json raise many kinds for a damaged file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PoposError(f"{path}: not a readable index: {reason}", again) from None
    return index


def prepared_names() -> list[str]:
    return sorted(p.stem for p in datasets_folder().glob("*.npz") if not p.name.startswith("."))


def _problem(index: Index) -> str | None:
    """What is wrong with the arrays, None where nothing is."""
    if not len(index):
        return "it has no faces"
    numbers: dict[str | int, int] = {"K": index.scheme.landmarks, "S": len(index.subsets)}
    for column, rest in _COLUMNS.items():
        found = getattr(index, column).shape
        expected = (len(index), *(numbers.get(axis, axis) for axis in rest))
        if found != expected:
            return f"{column} has shape {found}, not {expected}"
    if not np.isfinite(index.points[index.visible > 0]).all():
        return "a labelled point is not finite"
    if not (np.isfinite(index.center).all() and (index.side > 0).all()):
        return "a face has no size"
    if unknown := set(index.split.tolist()) - set(SPLITS):
        return f"unknown split {min(unknown)!r}"
    split_of: dict[str, str] = {}
    for person, split in zip(index.group.tolist(), index.split.tolist(), strict=True):
        if person and split_of.setdefault(person, split) != split:
            return f"{person!r} stands in more than one split"
    return None


def stamped(index: Index) -> Index:
    """The index with the stamps that its pictures have now. Raises PoposError for one that is gone."""
    images, rows = np.unique(index.image, return_inverse=True)
    try:
        stamps = in_threads(lambda image: stamp_of(index.root / image), images.tolist())
    except OSError as error:
        raise PoposError(f"{error.filename}: cannot be read: {error.strerror or error}") from None
    return replace(index, stamp=np.array(stamps, np.int64)[rows])


def check_pictures(index: Index) -> None:
    """Raises PoposError where pictures are missing, or have changed since the dataset was prepared."""
    faces = {image: face for face, image in enumerate(index.image.tolist())}
    missing = [image for image in faces if not (index.root / image).is_file()]
    if missing:
        raise PoposError(
            f"{len(missing)} of the {len(faces)} pictures of dataset {index.name!r} are missing, first "
            f"{index.root / missing[0]}",
            f"Put them back, or prepare the dataset again where they are now: {index.prepare_command}",
        )
    changed = [image for image, face in faces.items() if index.is_changed(face)]
    if changed:
        raise index.changed_error(changed[0], len(changed))
