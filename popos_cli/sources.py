"""Pictures from files: reading one, and turning what a user names into a list of them."""

from __future__ import annotations

import glob
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from .errors import PoposError, UsageError
from .exif import orientation, without_orientation

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})


def _torn(data: bytes) -> bool:
    """Whether a JPEG or PNG stops before its end mark; OpenCV would fill the rest with grey.

    The last end-of-image must follow the last start-of-scan: a thumbnail has marks of its own.
    """
    if data.startswith(b"\xff\xd8"):
        # Looking for the start of the scan goes back over all the pixels; mostly the end is the end.
        return not data.endswith(b"\xff\xd9") and data.rfind(b"\xff\xd9") <= data.rfind(b"\xff\xda")
    return data.startswith(b"\x89PNG") and b"IEND" not in data[-64:]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PoposError(f"{path}: {(error.strerror or str(error)).lower()}") from None


def exif_orientation(path: Path) -> int:
    """1 (as stored) to 8, as `exif.orientation`. Raises PoposError where the file cannot be read."""
    return orientation(_read(path))


def read_bgr(path: Path, upright: bool) -> NDArray[np.uint8]:
    """BGR (H, W, 3) uint8, OpenCV's own order; otherwise as `read_image`."""
    data = _read(path)
    if not data:
        raise PoposError(f"{path}: the file is empty")
    if _torn(data):
        raise PoposError(f"{path}: the image is truncated", "Copy or download it again.")
    if not upright:
        data = without_orientation(data)
    flags = cv2.IMREAD_COLOR | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:  # more pixels than OpenCV's limit, for one
        raise PoposError(f"{path}: cannot be decoded: {error.err}") from None
    if image is None:
        raise PoposError(f"{path}: not an image that OpenCV can read")
    return image  # type: ignore[return-value]


def read_image(path: Path, upright: bool) -> NDArray[np.uint8]:
    """RGB (H, W, 3) uint8; grey, palette and alpha pictures are converted.

    upright=True applies the EXIF orientation (a picture as a person sees it), False keeps the
    stored pixels, which is what most datasets' labels refer to. Raises PoposError naming the file.
    """
    return cv2.cvtColor(read_bgr(path, upright), cv2.COLOR_BGR2RGB)  # type: ignore[return-value]


def images_in(folder: Path) -> list[Path]:
    """The pictures below a folder, sorted by path."""
    files = (p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    return sorted(files)


def expand(sources: list[str]) -> list[Path]:
    """What the user named, as files: an image, a folder (searched below) or a glob.

    A named file is kept even if it does not exist or is no picture: reading it will say so.
    Raises UsageError for a folder or a pattern with no picture.
    """
    paths: list[Path] = []
    for source in sources:
        path = Path(source)
        if path.is_dir():
            found = images_in(path)
            if not found:
                raise UsageError(
                    f"{source}: no picture below this folder", "Known endings: " + " ".join(sorted(SUFFIXES))
                )
        elif glob.has_magic(source) and not path.exists():
            found = [p for p in map(Path, sorted(glob.glob(source, recursive=True))) if p.is_file()]
            if not found:
                raise UsageError(f"{source}: the pattern matches no file")
        else:
            found = [path]
        paths += found
    return list(dict.fromkeys(paths))
