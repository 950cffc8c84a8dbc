"""What a file's bytes say: which format it is, how many pixels, whole or torn, and its EXIF orientation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

# Bytes from the start that are enough to recognise a file; an AVIF's properties lie within them, too.
HEAD = 4096
VIDEO = "a video; extract its frames first (ffmpeg -i VIDEO frames/%05d.png)"
_RAW = "a raw picture of a camera; develop it to JPEG or TIFF first"
_THUMBNAIL = (
    "a TIFF that begins with a thumbnail, as raw pictures of cameras do; develop or save it as JPEG first"
)
# Files that OpenCV cannot read: a pattern of their start, what they are, and what to do. The first match
# counts.
_FOREIGN = tuple(
    (re.compile(pattern, re.DOTALL), what)
    for pattern, what in (
        (rb".{4}ftypcrx |FUJIFILMCCD-RAW|IIU\0|IIRO|.{8}CR\x02", _RAW),  # Canon, Fuji, Panasonic, Olympus
        (
            rb".{4}ftyp(?:hei[cxms]|hev[cx]|mif1|msf1)",
            "a HEIC picture, which OpenCV cannot read; "
            "convert it to JPEG first (heif-convert IN.heic OUT.jpg)",
        ),
        (
            # MP4 and QuickTime; Matroska, AVI, Flash, Ogg, MPEG program and video streams, ASF; MPEG
            # transport streams in packets of 188 bytes, of 192 with a time stamp (.mts)
            rb".{4}(?:ftyp|moov|mdat)|\x1aE\xdf\xa3|.{8}AVI |FLV\x01|OggS|\0\0\x01[\xb3\xba]"
            rb"|0&\xb2u\x8ef\xcf\x11|(?:G.{187}){3}G|(?:.{4}G.{187}){3}.{4}G",
            VIDEO,
        ),
        (
            rb"\xff\x0a|.{4}JXL ",
            "a JPEG XL picture, which OpenCV cannot read; convert it to PNG first (djxl IN.jxl OUT.png)",
        ),
        (rb"%PDF", "a PDF document; convert its pages to PNG first (pdftoppm -png IN.pdf page)"),
        (rb"version https://git-lfs", "a Git LFS pointer: the name of the picture, not its content"),
        (rb"\s*<", "a web page or an SVG drawing, not a picture of pixels"),
    )
)

ByteOrder = Literal["little", "big"]
_TIFF = (b"II*\0", b"MM\0*")
_WIDTH, _HEIGHT, _SUBFILE, _PHOTOMETRIC, _DNG_VERSION, _ORIENTATION = 256, 257, 254, 262, 50706, 0x0112
# JPEG markers; FF 00 and the restarts D0 to D7 lie within pixels and are none.
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
_START, _END, _APP1 = 0xD8, 0xD9, 0xE1
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # segments that hold the size


def foreign(head: bytes) -> str | None:
    """What a file that begins so is, and what to do with it; None where it may be a picture.

    head: its first `HEAD` bytes, so that a video of gigabytes need not be read.
    """
    if head[4:8] == b"ftyp" and re.search(rb"avi[fs]", head[8 : _number(head, 0, 4, "big")]):
        return None
    return next((what for pattern, what in _FOREIGN if pattern.match(head)), None)


@dataclass(frozen=True)
class Header:
    """What a picture's own bytes say of it.

    pixels: width times height, 0 where unknown. torn: whether the file ends too early. orientation: EXIF's,
    1 (as stored, also where the file does not say) to 8; from 5 on width and height change places. problem:
    why the first page of a TIFF, which is the one that OpenCV reads, is not the picture.
    """

    pixels: int
    torn: bool = False
    orientation: int = 1
    problem: str | None = None


def examine(data: bytes) -> Header:
    """Read the headers of a picture's bytes, whatever they are; nothing is decoded.

    JPEG, PNG and WebP are followed to their end: OpenCV would fill what a JPEG lacks with grey. What is torn
    of other formats it refuses by itself.
    """
    if data.startswith(b"\xff\xd8"):
        return _jpeg(data)
    if data.startswith(b"\x89PNG"):
        return _png(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _webp(data)
    if data[:4] in _TIFF:
        return _tiff(data)
    if data.startswith(b"GIF8"):
        return Header(_area(data, 6, 2, "little"))
    if data.startswith(b"BM"):  # 12: OS/2's short header. A negative height means rows from the top.
        return Header(_area(data, 18, 2 if data[14:15] == b"\x0c" else 4, "little", signed=True))
    # JPEG 2000; AVIF, which has a size for the whole, for each tile and for a thumbnail
    sizes = re.finditer(rb"ihdr|ispe\0{4}", data[:HEAD])
    pixels = max((_area(data, found.end(), 4, "big") for found in sizes), default=0)
    return Header(pixels, orientation=_avif_orientation(data[:HEAD]) if is_avif(data) else 1)


def without_orientation(data: bytes) -> bytes:
    """The file, but a TIFF says that it is upright: OpenCV turns TIFFs whatever its flags say."""
    tags = _tags(data, 0)
    if _ORIENTATION not in tags:
        return data
    place, _ = tags[_ORIENTATION]
    return data[:place] + (1).to_bytes(2, _order(data, 0)) + data[place + 2 :]


def is_avif(data: bytes) -> bool:
    return data[4:12] in (b"ftypavif", b"ftypavis")


def _number(data: bytes, at: int, size: int, order: ByteOrder, signed: bool = False) -> int:
    """What lies behind the end of the data counts as missing: the number is smaller, or 0."""
    return int.from_bytes(data[at : at + size], order, signed=signed)


def _area(data: bytes, at: int, size: int, order: ByteOrder, signed: bool = False) -> int:
    """The product of two numbers that lie side by side."""
    return abs(_number(data, at, size, order, signed) * _number(data, at + size, size, order, signed))


def _jpeg(data: bytes) -> Header:
    """From marker to marker until the end of the first picture: phones and cameras append what they like, and
    thumbnails, which have markers of their own, lie inside segments, which are skipped."""
    pixels, torn, exif, place = 0, True, None, 2
    while found := _MARKER.search(data, place):
        code, place = data[found.end() - 1], found.end()
        if code in (_START, _END):  # the next picture may begin before this one has ended
            torn = code == _START
            break
        if code in _FRAMES:
            pixels = _area(data, place + 3, 2, "big")
        if code == _APP1 and exif is None and data[place + 2 : place + 8] == b"Exif\0\0":
            exif = place + 2
        place += _number(data, place, 2, "big")
    return Header(pixels, torn, _exif_orientation(data, exif))


def _png(data: bytes) -> Header:
    """From chunk to chunk until the last one; what lies behind it is ignored."""
    torn, exif = True, None
    for name, start, end in _chunks(data, 8, "big"):
        if name == b"eXIf":
            exif = start
        if name == b"IEND" or not name.isalpha():
            torn = name != b"IEND" or end > len(data)
            break
    return Header(_area(data, 16, 4, "big"), torn, _exif_orientation(data, exif))


def _webp(data: bytes) -> Header:
    kind = data[12:16]
    if kind == b"VP8X":
        pixels = (_number(data, 24, 3, "little") + 1) * (_number(data, 27, 3, "little") + 1)
    elif kind == b"VP8L":
        bits = _number(data, 21, 4, "little")
        pixels = ((bits & 0x3FFF) + 1) * ((bits >> 14 & 0x3FFF) + 1)
    else:
        pixels = (_number(data, 26, 2, "little") & 0x3FFF) * (_number(data, 28, 2, "little") & 0x3FFF)
    exif = next((start for name, start, _ in _chunks(data, 12, "little") if name == b"EXIF"), None)
    torn = len(data) < 8 + _number(data, 4, 4, "little")
    return Header(pixels, torn, _exif_orientation(data, exif))


def _chunks(data: bytes, place: int, order: ByteOrder) -> Iterator[tuple[bytes, int, int]]:
    """Name, first byte and end of each chunk. PNG's ("big") are length, name, content, check sum; RIFF's
    ("little") are name, length, content, of even length."""
    while place + 8 <= len(data):
        fields = data[place : place + 4], data[place + 4 : place + 8]
        size, name = fields if order == "big" else fields[::-1]
        length, start = int.from_bytes(size, order), place + 8
        place = start + length + (4 if order == "big" else length % 2)
        yield name, start, place


def _tiff(data: bytes) -> Header:
    """Raw files of cameras begin with a thumbnail of 160 pixels or so, or with what the sensor saw."""
    values = {tag: value for tag, (_, value) in _tags(data, 0).items()}
    problem = None
    sensor = values.get(_PHOTOMETRIC) in (32803, 34892)  # colour filter array, linear raw
    if _DNG_VERSION in values or sensor:
        problem = _RAW
    elif values.get(_SUBFILE, 0) & 1:
        problem = _THUMBNAIL
    pixels = values.get(_WIDTH, 0) * values.get(_HEIGHT, 0)
    return Header(pixels, False, _exif_orientation(data, 0), problem)


def _order(data: bytes, start: int) -> ByteOrder:
    return "little" if data[start : start + 2] == b"II" else "big"


def _tags(data: bytes, start: int) -> dict[int, tuple[int, int]]:
    """Of the first page of the TIFF at `start`: tag -> where its first value lies, and the value, which is 16
    or 32 bits wide. Empty where there is no TIFF."""
    if data[start : start + 4] not in _TIFF:
        return {}
    order = _order(data, start)
    first = start + _number(data, start + 4, 4, order)
    end = first + 2 + 12 * _number(data, first, 2, order)
    tags: dict[int, tuple[int, int]] = {}
    for entry in range(first + 2, min(end, len(data) - 9), 12):
        width = 2 if _number(data, entry + 2, 2, order) == 3 else 4
        value = _number(data, entry + 8, width, order)
        tags.setdefault(_number(data, entry, 2, order), (entry + 8, value))
    return tags


def _exif_orientation(data: bytes, exif: int | None) -> int:
    """exif: where the EXIF data, a small TIFF file, begin, with or without JPEG's prefix."""
    if exif is None:
        return 1
    start = exif + 6 if data[exif : exif + 6] == b"Exif\0\0" else exif
    _, value = _tags(data, start).get(_ORIENTATION, (0, 1))
    return value if 1 <= value <= 8 else 1


def _avif_orientation(head: bytes) -> int:
    """From its properties: quarter turns to the left, then a mirror. EXIF data only repeat these."""
    turn = re.search(rb"\0\0\0\x09irot(.)", head, re.DOTALL)
    mirror = re.search(rb"\0\0\0\x09imir(.)", head, re.DOTALL)
    quarters = turn[1][0] & 3 if turn else 0
    if not mirror:
        return (1, 8, 3, 6)[quarters]
    return (4, 5, 2, 7)[(quarters + 2 * (mirror[1][0] & 1)) % 4]  # 0: top and bottom; 1: left and right
