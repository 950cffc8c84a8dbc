"""Pictures from files: finding and reading them, and writing one."""

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
from .exif import is_avif, orientation, without_orientation
from .headers import HEAD, examine, foreign, raw_tiff

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".avif", ".jp2"}
    | {".mpo", ".apng", ".dib", ".j2k"}
    | {".ppm", ".pgm", ".pbm", ".pnm"}
)
# Pictures that OpenCV does not read. In a folder they are named, each with what to do, not passed over.
UNREADABLE = frozenset(
    {".heic", ".heif", ".hif", ".jxl"}
    | {".dng", ".nef", ".cr2", ".cr3", ".arw", ".raf", ".orf", ".rw2", ".pef"}  # raw
)
# A picture takes three bytes a pixel. A file of 100 kB can hold a thousand million of them.
MAX_PIXELS = 300_000_000
_LONGEST_JPEG = 65_500
Picture = NDArray[np.uint8]  # (H, W, 3)


def max_pixels() -> int:
    """The most pixels that a picture may have: POPOS_MAX_PIXELS, or `MAX_PIXELS`. Raises UsageError."""
    given = os.environ.get("POPOS_MAX_PIXELS") or str(MAX_PIXELS)
    if not given.isdecimal():
        raise UsageError(f"POPOS_MAX_PIXELS={given}: must be a whole number of pixels")
    return int(given)


def _read_file(path: Path) -> bytes:
    """The bytes of a file that may be a picture. Raises PoposError."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # reading a pipe would wait for a writer
            raise PoposError(f"{path}: a pipe, socket or device, not a file")
        with path.open("rb") as file:
            head = file.read(HEAD)
            if what := foreign(head):
                raise PoposError(f"{path}: {what}")
            data = head + file.read()
    except OSError as error:
        raise PoposError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    if not data:
        raise PoposError(f"{path}: the file is empty")
    if what := raw_tiff(data):
        raise PoposError(f"{path}: {what}")
    return data


def exif_orientation(path: Path) -> int:
    """1 (as stored) to 8, as `exif.orientation`. Raises PoposError where the file cannot be read."""
    return orientation(_read_file(path))


def read_bgr(path: Path, upright: bool) -> NDArray[np.uint8]:
    """BGR (H, W, 3) uint8, OpenCV's own order; otherwise as `read_image`."""
    return read_oriented(path, upright)[0]


def read_oriented(path: Path, upright: bool) -> tuple[NDArray[np.uint8], int]:
    """As `read_bgr`, and the file's EXIF orientation, 1 (as stored) to 8."""
    data = _read_file(path)
    turned = orientation(data)
    pixels, torn = examine(data)
    if pixels > (most := max_pixels()):
        raise PoposError(
            f"{path}: {pixels} pixels, more than the limit of {most} (set POPOS_MAX_PIXELS to allow them)"
        )
    if torn:
        raise PoposError(f"{path}: the image is truncated", "Copy or download it again.")
    if not upright:
        data = without_orientation(data)
    flags = cv2.IMREAD_COLOR | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:  # more pixels than OpenCV's own limit, for one
        raise PoposError(f"{path}: cannot be decoded: {error.err}") from None
    if image is None and pixels:
        raise PoposError(f"{path}: an image that is damaged, or that OpenCV {cv2.__version__} cannot read")
    if image is None:
        raise PoposError(f"{path}: not an image that OpenCV can read")
    if upright and is_avif(data):  # OpenCV turns the others
        image = _turned(image, turned)
    return image, turned  # type: ignore[return-value]


def _turned(image: Any, value: int) -> Any:
    """What a viewer shows of stored pixels with this EXIF orientation."""
    image = cv2.transpose(image) if value >= 5 else image
    flips = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}
    return cv2.flip(image, flips[value]) if value in flips else image


def read_image(path: Path, upright: bool) -> NDArray[np.uint8]:
    """RGB (H, W, 3) uint8; grey, palette and alpha pictures are converted.

    upright=True applies the EXIF orientation (a picture as a person sees it), False keeps the
    stored pixels, which is what most datasets' labels refer to. Of an animation it is the first frame.
    Raises PoposError naming the file: also for one that is torn, or has more than `max_pixels()`.
    """
    image = read_bgr(path, upright)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)  # type: ignore[return-value]


def images_in(folder: Path, suffixes: Collection[str] = SUFFIXES) -> list[Path]:
    """What is called a picture below a folder and the folders that are linked there, sorted by path.

    A folder that cannot be listed is among them: reading it will say why.
    """
    found: list[Path] = []
    pending: list[tuple[Path, tuple[str, ...]]] = [(folder, ())]
    while pending:
        place, above = pending.pop()
        real = os.path.realpath(place)
        if real in above:  # a link back to where we come from
            continue
        try:
            names = os.listdir(place)
        except OSError:
            found.append(place)
            continue
        for name in names:
            path = place / name
            if os.path.isdir(path):
                pending.append((path, (*above, real)))
            elif path.suffix.lower() in suffixes and not name.startswith("._"):  # macOS's notes on a file
                found.append(path)
    return sorted(found)


def save_picture(picture: Picture, path: Path) -> None:
    """Write RGB (H, W, 3) uint8 in the format of the path's ending, whole or not at all. A JPEG whose longer
    side would be above 65,500 pixels, which it cannot have, is made that small."""
    if path.suffix == ".jpg" and max(picture.shape) > _LONGEST_JPEG:
        scale = _LONGEST_JPEG / max(picture.shape)
        width, height = (max(int(side * scale), 1) for side in picture.shape[1::-1])
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    done, data = cv2.imencode(path.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    assert done, path
    with replacing(path) as temporary:
        temporary.write_bytes(data.tobytes())
