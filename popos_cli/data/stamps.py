"""Whether a dataset's pictures are still those that it was prepared from.

Labels fit the pixels that they were made on: a picture that was shrunk or cropped since would silently be
trained on, and measured, with wrong points. A copy with another time stamp is no change: copying, unpacking
and version control give new ones.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import PoposError

if TYPE_CHECKING:
    from .index import Index

# Size in bytes, time of change in nanoseconds, a hash of the content; zeros where they are not known.
Stamp = tuple[int, int, int]


def is_changed(path: Path, stamp: Stamp) -> bool:
    """Whether a file has other content than it had, or is gone; opened only where its time has changed."""
    size, time, content = stamp
    if not any(stamp):
        return False
    try:
        stat = path.stat()
        return stat.st_size != size or (
            stat.st_mtime_ns != time and _content(str(path), size, stat.st_mtime_ns) != content
        )
    except OSError:
        return True


def stamped(index: Index) -> Index:
    """The index with the stamps that its pictures have now. Raises PoposError for one that is gone."""
    images, rows = np.unique(index.image, return_inverse=True)
    try:
        with ThreadPoolExecutor() as pool:
            stamps = list(pool.map(lambda image: stamp_of(index.root / image), images.tolist()))
    except OSError as error:
        raise PoposError(f"{error.filename}: cannot be read: {error.strerror or error}") from None
    return replace(index, stamp=np.array(stamps, np.int64)[rows])


def check_pictures(index: Index) -> None:
    """Raises PoposError where pictures are missing, or have changed since the dataset was prepared."""
    faces = {image: face for face, image in enumerate(index.image.tolist())}
    missing = [image for image in faces if not os.path.isfile(index.root / image)]
    if missing:
        raise PoposError(
            f"{len(missing)} of the {len(faces)} pictures of dataset {index.name!r} are missing, first "
            f"{index.root / missing[0]}",
            f"Put them back, or prepare the dataset again where they are now: {index.prepare_command}",
        )
    changed = [image for image, face in faces.items() if index.is_changed(face)]
    if changed:
        raise index.refuse_changed(changed[0], len(changed))


def stamp_of(path: Path) -> Stamp:
    """What the file is now. Raises OSError."""
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, _content(str(path), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=1 << 20)  # once a file and process, not once an epoch
def _content(path: str, size: int, time: int) -> int:
    with open(path, "rb") as file:
        hashed = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8))  # type: ignore[arg-type]
    return int.from_bytes(hashed.digest(), "big", signed=True)
