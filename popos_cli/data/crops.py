"""The crop cache: a small picture of each face, so that training need not decode large photos.

POPOS_HOME/crops/NAME/ holds one JPEG (quality 95) or PNG for every face, and `crops.npz`, written
last: names (F,) text, and matrices (F, 2, 3) float64, image -> cached picture. A file's name is a
hash of the square, of the photo's path and content, and of the constants below, so that a crop that does
not belong to an index is simply not there.

A picture shows REGION sides of the face's square. Where that is at most WIDEST pixels, its pixels are
the photo's own; larger ones are brought down to WIDEST, so that a face takes 25 to 45 kB as JPEG at its
largest (9 kB at a side of 80 pixels), and four to five times that as PNG.
"""

from __future__ import annotations

import hashlib
import math
import os
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.geometry import Floats, crop_matrix, invert, warp
from ..errors import PoposError
from ..home import clear_leftovers, home, locked, replacing
from .index import Index
from .pictures import read_bgr
from .stamps import check_pictures

# Part of every name: a change here makes all caches stale.
VERSION = 1
# A crop of 1.25 sides, turned by 15 (23) degrees and scaled by 0.1 (0.125) as in training, finds all but
# 0.2 % (0.7 %) of its pixels; 2 sides would hold nearly all, at 30 % more pixels to decode.
REGION = 1.75
# 1.25 sides are 229 pixels then, of the 256 that the network sees. Decoding 320 x 320 takes 0.4 to 0.6 ms,
# which leaves the rest of a thousandth of a second to the warp; 352 takes a fifth more.
WIDEST = 320
QUALITY = 95
_PATIENCE = 6 * 3600  # seconds that another process may take to write a cache


@dataclass(frozen=True)
class Crops:
    """The cached pictures of an index's faces, in its order."""

    folder: Path
    files: list[str]
    matrices: Floats

    def __getitem__(self, face: int) -> tuple[NDArray[np.uint8], Floats]:
        """The picture, BGR (S, S, 3) uint8, and the matrix (2, 3) image -> picture. Raises PoposError."""
        try:
            picture = read_bgr(self.folder / self.files[face], upright=False)
        except PoposError as error:
            raise PoposError(
                f"crop cache: {error.message}", "Run popos prepare-data again with --cache-crops."
            ) from None
        return picture, self.matrices[face]

    @cached_property
    def to_image(self) -> Floats:
        """(F, 2, 3), picture -> image. All at once: one by one, an inverse costs 20 us."""
        return invert(self.matrices)


def crops_folder(dataset: str) -> Path:
    return home() / "crops" / dataset


def open_crops(index: Index, folder: Path | None = None) -> Crops | None:
    """The cache of these very faces (all of a dataset's or some), None where it is not complete.

    Raises PoposError where photos have changed since the dataset was prepared, or are not there.
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
    index: Index,
    lossless: bool = False,
    advance: Callable[[int, int], None] | None = None,
    folder: Path | None = None,
) -> Path:
    """Write the crops of an index's faces, each photo decoded once; returns the folder.

    `advance` is told how many faces are done, and of how many. What an interrupted run left is used;
    crops of other faces are removed. Raises PoposError where a photo cannot be read or the place
    not be written.
    """
    folder = folder or crops_folder(index.name)
    ending = "png" if lossless else "jpg"
    names = _names(index, ending)
    with locked(folder, _PATIENCE) as held:
        _clear(folder, set(names), held)
        _write_crops(index, [folder / name for name in names], advance)
        matrices = [_place(*square)[0] for square in zip(index.center, index.side.tolist(), strict=True)]
        with replacing(folder / "crops.npz") as temporary:
            np.savez(temporary, names=np.array(names), matrices=np.array(matrices), ending=np.array(ending))
    return folder


def _write_crops(index: Index, paths: list[Path], advance: Callable[[int, int], None] | None) -> None:
    """The crop of each face, to its path."""
    faces_of: dict[str, list[int]] = {}
    for face, image in enumerate(index.image.tolist()):
        faces_of.setdefault(image, []).append(face)
    done = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # OpenCV lets other threads run meanwhile
        jobs = {
            pool.submit(_cache_photo, index, faces, [paths[face] for face in faces]): len(faces)
            for faces in faces_of.values()
        }
        try:
            for job in as_completed(jobs):
                job.result()
                done += jobs[job]
                if advance:
                    advance(done, len(index))
        except BaseException:  # Ctrl-C too: what has not begun is not done
            pool.shutdown(cancel_futures=True)
            raise


def _names(index: Index, ending: str) -> list[str]:
    """The file name of each face's crop."""
    photos = dict(zip(index.image.tolist(), index.stamp[:, 2].tolist(), strict=True))
    for image, content in photos.items():
        if not content:  # not known
            photos[image] = _bytes_in(index.root / image)
    turned = ["upright"] if index.notes.get("orientation") == "upright" else []
    columns = index.image.tolist(), index.center.tolist(), index.side.tolist()
    names = []
    for image, center, side in zip(*columns, strict=True):
        text = repr((VERSION, REGION, WIDEST, QUALITY, image, photos[image], center, side, *turned))
        names.append(f"{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}.{ending}")
    return names


def _bytes_in(path: Path) -> int:
    """A file's size; -1 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _clear(folder: Path, wanted: set[str], held: bool) -> None:
    """Remove the list of crops, other faces' crops, and what a killed run left half written."""
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
    """Write those crops of one photo's faces that are not there or cannot be read."""
    missing = [(face, path) for face, path in zip(faces, paths, strict=True) if not _readable(path)]
    if not missing:
        return
    photo = index.read_bgr(faces[0])
    for face, path in missing:
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
