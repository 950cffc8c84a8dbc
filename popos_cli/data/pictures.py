"""Pictures from files: finding, reading and writing them."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import PoposError, UsageError
from ..home import replacing
from .formats import HEAD, examine, foreign, is_avif, without_orientation

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".avif", ".jp2"}
    | {".mpo", ".apng", ".dib", ".j2k"}
    | {".ppm", ".pgm", ".pbm", ".pnm"}
)
# Pictures that OpenCV does not read. In a folder they get an entry that says what to do.
UNREADABLE = frozenset(
    {".heic", ".heif", ".hif", ".jxl"}
    | {".dng", ".nef", ".cr2", ".cr3", ".arw", ".raf", ".orf", ".rw2", ".pef"}  # raw
)
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ogv"}
    | {".mts", ".m2ts"}
)
# A picture takes three bytes per pixel in memory. A file of 100 kB can hold a thousand million pixels.
MAX_PIXELS = 300_000_000
_LONGEST_JPEG = 65_500
Picture = NDArray[np.uint8]  # (H, W, 3)


def max_pixels() -> int:
    """The most pixels that a picture may have: POPOS_MAX_PIXELS, or `MAX_PIXELS`. Raises UsageError."""
    given = os.environ.get("POPOS_MAX_PIXELS") or str(MAX_PIXELS)
    if not given.isdecimal():
        raise UsageError(f"POPOS_MAX_PIXELS={given}: must be a whole number of pixels")
    return int(given)


def read_head(path: Path) -> bytes:
    """The first bytes of a file that may be a picture or a video. Raises PoposError where it cannot be read
    or is empty."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # reading a pipe would wait for a writer
            raise PoposError(f"{path}: a pipe, socket or device, not a file")
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        raise PoposError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    if not head:
        raise PoposError(f"{path}: the file is empty")
    return head


def _read_file(path: Path) -> bytes:
    """The bytes of a file that may be a picture. Raises PoposError."""
    if what := foreign(read_head(path)):
        raise PoposError(f"{path}: {what}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise PoposError(f"{path}: {(error.strerror or str(error)).lower()}") from None


def read_with_orientation(path: Path, upright: bool) -> tuple[Picture, int]:
    """BGR (H, W, 3) uint8 as by `read_image`, and the file's EXIF orientation, 1 (as stored) to 8."""
    data = _read_file(path)
    header = examine(data)
    if header.problem:
        raise PoposError(f"{path}: {header.problem}")
    if header.pixels > (most := max_pixels()):
        raise PoposError(
            f"{path}: {header.pixels} pixels, more than the limit of {most} "
            "(set POPOS_MAX_PIXELS to allow them)"
        )
    if header.torn:
        raise PoposError(f"{path}: the image is truncated", "Copy or download it again.")
    if not upright:
        data = without_orientation(data)
    flags = cv2.IMREAD_COLOR | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION)
    try:
        image: Any = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:  # more pixels than OpenCV's own limit, for one
        raise PoposError(f"{path}: cannot be decoded: {error.err}") from None
    if image is None:
        raise PoposError(f"{path}: not an image that OpenCV {cv2.__version__} can read, or a damaged one")
    if upright and is_avif(data):  # OpenCV turns the other formats itself
        image = _turned(image, header.orientation)
    return image, header.orientation


def _turned(image: Any, orientation: int) -> Any:
    """What a viewer shows of stored pixels with this EXIF orientation."""
    image = cv2.transpose(image) if orientation >= 5 else image
    flips = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}
    return cv2.flip(image, flips[orientation]) if orientation in flips else image


def read_bgr(path: Path, upright: bool) -> Picture:
    """BGR (H, W, 3) uint8, OpenCV's own order; otherwise as `read_image`."""
    return read_with_orientation(path, upright)[0]


def read_image(path: Path, upright: bool) -> Picture:
    """RGB (H, W, 3) uint8; grey, palette and alpha pictures are converted. Of an animation the first frame.

    upright=True applies the EXIF orientation (a picture as a person sees it), False keeps the stored pixels,
    which is what most datasets' labels refer to. Raises PoposError that names the file, also for a torn file
    and for one of more than `max_pixels()`.
    """
    image = read_bgr(path, upright)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)  # type: ignore[return-value]


def images_in(folder: Path, suffixes: Collection[str] = SUFFIXES, above: tuple[str, ...] = ()) -> list[Path]:
    """What has a picture's ending below a folder and the folders that are linked there, sorted by path.

    A folder that cannot be listed is among them: reading it will say why. above: the real paths of the
    folders that led here, so that a link back to one of them is not followed.
    """
    real = os.path.realpath(folder)
    if real in above:
        return []
    try:
        paths = [folder / name for name in os.listdir(folder)]
    except OSError:
        return [folder]
    found: list[Path] = []
    for path in paths:
        if os.path.isdir(path):
            found += images_in(path, suffixes, (*above, real))
        elif path.suffix.lower() in suffixes and not path.name.startswith("._"):  # macOS's notes on a file
            found.append(path)
    return sorted(found)


def save_picture(picture: Picture, path: Path) -> None:
    """Write RGB (H, W, 3) uint8 in the format of the path's ending, whole or not at all. A JPEG whose longer
    side would be above 65,500 pixels, the format's limit, is shrunk to that."""
    if path.suffix == ".jpg" and max(picture.shape) > _LONGEST_JPEG:
        scale = _LONGEST_JPEG / max(picture.shape)
        width, height = (max(int(side * scale), 1) for side in picture.shape[1::-1])
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    done, data = cv2.imencode(path.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    assert done, path
    with replacing(path) as temporary:
        temporary.write_bytes(data.tobytes())
