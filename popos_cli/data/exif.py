"""The EXIF orientation in a picture file's bytes: how a viewer turns the stored pixels.

JPEG, PNG, WebP, TIFF and AVIF, which has properties of its own for it; other formats have none.
"""

from __future__ import annotations

import re
from typing import Literal

from .headers import TIFF

_ORIENTATION = 0x0112
_Order = Literal["little", "big"]


def orientation(data: bytes) -> int:
    """1 (as stored; also where the file does not say) to 8; from 5 on width and height change places."""
    if is_avif(data):
        return _in_avif(data[:4096])
    tag = _tag(data)
    value = int.from_bytes(data[tag[0] : tag[0] + 2], tag[1]) if tag else 1
    return value if 1 <= value <= 8 else 1


def without_orientation(data: bytes) -> bytes:
    """The file, but a TIFF says that it is upright: OpenCV turns others, whatever its flags say."""
    tag = _tag(data) if data[:4] in TIFF else None
    return data[: tag[0]] + (1).to_bytes(2, tag[1]) + data[tag[0] + 2 :] if tag else data


def is_avif(data: bytes) -> bool:
    return data[4:12] in (b"ftypavif", b"ftypavis")


def _in_avif(head: bytes) -> int:
    """Quarter turns to the left, then a mirror; the EXIF data in the file repeat it, and do not count."""
    turn = re.search(rb"\0\0\0\x09irot(.)", head, re.DOTALL)
    mirror = re.search(rb"\0\0\0\x09imir(.)", head, re.DOTALL)
    quarters = turn[1][0] & 3 if turn else 0
    if not mirror:
        return (1, 8, 3, 6)[quarters]
    return (4, 5, 2, 7)[(quarters + 2 * (mirror[1][0] & 1)) % 4]  # 0: top and bottom; 1: left and right


def _tag(data: bytes) -> tuple[int, _Order] | None:
    """Where the two bytes of the orientation are, and their order. EXIF data is a small TIFF file."""
    start = _exif(data)
    if start is None or data[start : start + 4] not in TIFF:
        return None
    order: _Order = "little" if data[start : start + 2] == b"II" else "big"
    entries = start + int.from_bytes(data[start + 4 : start + 8], order)
    count = int.from_bytes(data[entries : entries + 2], order)
    for entry in range(entries + 2, min(entries + 2 + 12 * count, len(data) - 9), 12):
        if int.from_bytes(data[entry : entry + 2], order) == _ORIENTATION:
            return entry + 8, order
    return None


def _exif(data: bytes) -> int | None:
    """Where the EXIF data begin; None where there are none."""
    if data[:4] in TIFF:
        return 0
    if data.startswith(b"\xff\xd8"):
        return _in_jpeg(data)
    if data.startswith(b"\x89PNG"):  # chunks: length, name, data, check sum
        return _in_chunks(data, 8, b"eXIf", "big", name_first=False)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":  # chunks: name, length, data, even in length
        return _in_chunks(data, 12, b"EXIF", "little", name_first=True)
    return None


def _in_jpeg(data: bytes) -> int | None:
    place = 2
    while data[place : place + 1] == b"\xff":
        marker = data[place + 1 : place + 2]
        if marker in (b"\xda", b"\xd9", b""):  # the pixels begin
            return None
        if marker == b"\xff":  # a byte that fills
            place += 1
            continue
        if marker == b"\xe1" and data[place + 4 : place + 10] == b"Exif\0\0":
            return place + 10
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return None


def _in_chunks(data: bytes, place: int, wanted: bytes, order: _Order, name_first: bool) -> int | None:
    while place + 8 <= len(data):
        fields = data[place : place + 4], data[place + 4 : place + 8]
        name, length = fields if name_first else fields[::-1]
        place += 8
        if name == wanted:  # some writers keep JPEG's prefix
            return place + (6 if data[place : place + 6] == b"Exif\0\0" else 0)
        size = int.from_bytes(length, order)
        place += size + (size % 2 if name_first else 4)
    return None
