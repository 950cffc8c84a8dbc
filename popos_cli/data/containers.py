"""Whether a video file ends before its end, by the sizes that its container states."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO


def cut_short(path: Path) -> bool:
    """Whether a part of this MP4, QuickTime, AVI, WebM or Matroska file is missing at its end. False for
    other containers, whose size nothing says, and for recordings that were never finished."""
    with path.open("rb") as file:
        head = file.read(12)
        if head.startswith(b"\x1aE\xdf\xa3"):
            end = _matroska_end(file)
        elif head.startswith(b"RIFF"):
            end = 8 + int.from_bytes(head[4:8], "little")
        elif head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide"):
            end = _mp4_end(file)
        else:
            return False
        return end > os.fstat(file.fileno()).st_size


def _mp4_end(file: BinaryIO) -> int:
    """Where the box that holds the pixels ends (ISO 14496-12): 4 bytes of size, 4 of type; size 1: 8 bytes of
    size follow; size 0: up to the file's end, wherever that is."""
    start = 0
    while True:
        file.seek(start)
        size, kind, large = (int.from_bytes(file.read(4), "big"), file.read(4), file.read(8))
        size = int.from_bytes(large, "big") if size == 1 else size
        if kind == b"mdat" or size < 8:
            return start + size
        start += size


def _matroska_end(file: BinaryIO) -> int:
    """Where the segment, which holds everything, ends (RFC 8794): the EBML header, then the segment's id."""
    file.seek(4)
    file.seek(_number(file), os.SEEK_CUR)
    if file.read(4) != b"\x18\x53\x80\x67":
        return 0
    size = _number(file)
    return file.tell() + size


def _number(file: BinaryIO) -> int:
    """A number of EBML: as many bytes as the first has leading zeros, and one. 0 where all bits are set:
    unknown, as while a recording goes on."""
    first = file.read(1)[0]
    length = 9 - first.bit_length()
    bits = 7 * length
    value = int.from_bytes(bytes([first]) + file.read(length - 1), "big") & ((1 << bits) - 1)
    return 0 if value == (1 << bits) - 1 else value
