"""Whether a dataset's pictures are still those that it was prepared from.

Labels fit the pixels that they were made on: a picture that was shrunk or cropped since would silently give
wrong points. A copy with another time stamp is no change: copying, unpacking and version control make those.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import PoposError
from .threads import in_threads

if TYPE_CHECKING:
    from .index import Index

# Size in bytes, time of change in nanoseconds, a hash of the content; zeros where they are not known.
Stamp = tuple[int, int, int]


def stamp_of(path: Path) -> Stamp:
    """The stamp that the file has now. Raises OSError."""
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, _content(str(path), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=1 << 20)  # once per file and process, not once per epoch
def _content(path: str, size: int, time: int) -> int:
    with open(path, "rb") as file:
        hashed = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8))  # type: ignore[arg-type]
    return int.from_bytes(hashed.digest(), "big", signed=True)


def is_changed(path: Path, stamp: Stamp) -> bool:
    """Whether a file has changed or is gone; it is only opened where its time stamp differs."""
    if not any(stamp):
        return False
    size, time, content = stamp
    try:
        stat = path.stat()
        if stat.st_size != size or stat.st_mtime_ns == time:
            return stat.st_size != size
        return stamp_of(path)[2] != content
    except OSError:
        return True


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
    missing = [image for image in faces if not os.path.isfile(index.root / image)]
    if missing:
        raise PoposError(
            f"{len(missing)} of the {len(faces)} pictures of dataset {index.name!r} are missing, first "
            f"{index.root / missing[0]}",
            f"Put them back, or prepare the dataset again where they are now: {index.prepare_command}",
        )
    changed = [image for image, face in faces.items() if index.is_changed(face)]
    if changed:
        raise index.changed_error(changed[0], len(changed))
