"""Whether a picture is still the one that its dataset was prepared from.

Labels fit the pixels that they were made on: a picture that was shrunk or cropped since would silently give
wrong points. A copy with another time stamp is no change: copying, unpacking and version control make those.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

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
