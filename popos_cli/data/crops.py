"""The crop cache: a small picture of each face, so that training need not decode large photos.

POPOS_HOME/crops/NAME/ holds one JPEG (quality 95) or PNG for every face, and `crops.npz`, written
last: names (F,) text, and matrices (F, 2, 3) float64, image -> cached picture. A file's name is a
hash of the square, of the photo's path and content, and of the constants below, so that a crop that does
not belong to an index is simply not found.

A picture shows REGION sides of the face's square. Where that is at most WIDEST pixels, its pixels are
the photo's own; larger ones are shrunk to WIDEST, so that the largest take 25 to 45 kB as JPEG (9 kB at a
side of 80 pixels), and four to five times that as PNG.
"""

from __future__ import annotations

import hashlib
import math
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.geometry import Floats, crop_matrix, invert, warp
from ..errors import PoposError
from ..home import clear_leftovers, home, locked, replacing
from ..progress import Advance
from .index import Index, check_pictures
from .pictures import read_bgr
from .threads import in_threads

# Part of every name: a change here makes all caches stale.
VERSION = 1
# A crop of 1.25 sides, turned by 15 (23) degrees and scaled by 0.1 (0.125) as in training, finds all but
# 0.2 % (0.7 %) of its pixels; 2 sides would hold nearly all, at 30 % more pixels to decode.
REGION = 1.75
# 1.25 sides are 229 pixels then, of the 256 that the network sees. Decoding 320 x 320 takes 0.4 to 0.6 ms;
# 352 takes a fifth more.
WIDEST = 320
QUALITY = 95
_PATIENCE = 6 * 3600  # seconds that another process may take to write a cache


@dataclass(frozen=True)
class Crops:
    """The cached pictures of an index's faces, in its order. matrices: (F, 2, 3) image -> cached picture."""

    folder: Path
    files: list[str]
    matrices: Floats

    def read(self, face: int) -> NDArray[np.uint8]:
        """The cached picture of a face, BGR (S, S, 3). Raises PoposError."""
        try:
            return read_bgr(self.folder / self.files[face], upright=False)
        except PoposError as error:
            raise PoposError(
                f"crop cache: {error.message}", "Run popos prepare-data again with --cache-crops."
            ) from None

    @cached_property
    def to_image(self) -> Floats:
        """(F, 2, 3), picture -> image. All at once: one by one, an inverse costs 20 us."""
        return invert(self.matrices)


def crops_folder(dataset: str) -> Path:
    return home() / "crops" / dataset


def open_crops(index: Index, folder: Path | None = None) -> Crops | None:
    """The cached crops of exactly these faces; None where any of them is not cached.

    Raises PoposError where photos have changed since the dataset was prepared, or are missing.
    """
    folder = folder or crops_folder(index.name)
    path = folder / "crops.npz"
    try:
        if not zipfile.is_zipfile(path):  # NumPy would take another file for a pickle
            return None
        with np.load(path, allow_pickle=False) as data:
            rows = {name: row for row, name in enumerate(data["names"].tolist())}
            matrices, ending = data["matrices"], str(data["ending"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    files = _names(index, ending)
    if not all(name in rows for name in files):
        return None
    check_pictures(index)
    return Crops(folder, files, matrices[[rows[name] for name in files]])


def cache_crops(
    index: Index, lossless: bool = False, advance: Advance | None = None, folder: Path | None = None
) -> Path:
    """Write the crops of an index's faces, each photo decoded once; returns the folder.

    `advance` counts photos. Crops that an interrupted run left are used, those of other faces removed. Raises
    PoposError where a photo cannot be read or the folder cannot be written.
    """
    folder = folder or crops_folder(index.name)
    ending = "png" if lossless else "jpg"
    names = _names(index, ending)
    faces_of: dict[str, list[int]] = {}
    for face, image in enumerate(index.image.tolist()):
        faces_of.setdefault(image, []).append(face)
    with locked(folder, _PATIENCE) as held:
        _clear(folder, set(names), held)
        paths = [folder / name for name in names]
        in_threads(lambda faces: _cache_photo(index, faces, paths), list(faces_of.values()), advance)
        squares = zip(index.center, index.side.tolist(), strict=True)
        matrices = np.array([_place(*square)[0] for square in squares])
        with replacing(folder / "crops.npz") as temporary:
            np.savez(temporary, names=np.array(names), matrices=matrices, ending=np.array(ending))
    return folder


def _names(index: Index, ending: str) -> list[str]:
    """The file name of each face's crop."""
    upright = ["upright"] if index.notes.get("orientation") == "upright" else []
    columns = index.image, index.stamp[:, 2], index.center, index.side
    names = []
    for face in zip(*(column.tolist() for column in columns), strict=True):
        text = repr((VERSION, REGION, WIDEST, QUALITY, *face, *upright))
        names.append(f"{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}.{ending}")
    return names


def _clear(folder: Path, wanted: set[str], held: bool) -> None:
    """Remove the list of crops, other faces' crops, and what a killed process left half written."""
    try:
        for path in list(folder.iterdir()) if folder.is_dir() else []:
            ours = path.suffix in (".jpg", ".png", ".npz") and not path.name.startswith(".")
            if ours and path.name not in wanted:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise PoposError(
            f"cannot write {folder}: {error.strerror or error}", "Choose a folder you may write to."
        ) from error
    clear_leftovers(folder, held)


def _place(center: Floats, side: float) -> tuple[Floats, int]:
    """The matrix (2, 3) image -> crop of a face's square, and the crop's width."""
    width = math.ceil(REGION * side) + 1  # whole pixels that hold the region wherever it lies
    if width > WIDEST:
        return crop_matrix(center, REGION * side, WIDEST), WIDEST
    left, top = np.floor(center - REGION * side / 2)
    return np.array([[1.0, 0.0, -left], [0.0, 1.0, -top]]), width


def _cache_photo(index: Index, faces: list[int], paths: list[Path]) -> None:
    """Write the crops of one photo's faces that are not there yet or cannot be read. paths: of all crops."""
    missing = [face for face in faces if not _readable(paths[face])]
    if not missing:
        return
    photo = index.read_bgr(faces[0])
    for face in missing:
        path = paths[face]
        crop = warp(photo, *_place(index.center[face], float(index.side[face])))
        quality = [cv2.IMWRITE_JPEG_QUALITY, QUALITY] if path.suffix == ".jpg" else []
        _, data = cv2.imencode(path.suffix, crop, quality)
        with replacing(path) as temporary:
            temporary.write_bytes(data.tobytes())


def _readable(path: Path) -> bool:
    try:
        read_bgr(path, upright=False)
    except PoposError:
        return False
    return True
