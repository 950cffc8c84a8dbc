"""What the bytes of a file say: whether it is a picture, how many pixels it has, whether it is whole."""

from __future__ import annotations

import re
import struct

_VIDEO = "a video; extract its frames first (ffmpeg -i VIDEO frames/%05d.png)"
_HEIC = "a HEIC picture, which OpenCV cannot read; convert it to JPEG first (heif-convert IN.heic OUT.jpg)"
_RAW = "a raw picture of a camera; develop it to JPEG or TIFF first"
_THUMBNAIL = (
    "a TIFF that begins with a thumbnail, as raw pictures of cameras do; develop or save it as JPEG first"
)
_JXL = "a JPEG XL picture, which OpenCV cannot read; convert it to PNG first (djxl IN.jxl OUT.png)"
# Offset, bytes there, what such a file is.
_FOREIGN = (
    (0, b"\x1aE\xdf\xa3", _VIDEO),  # Matroska, WebM
    (8, b"AVI ", _VIDEO),
    (0, b"FLV\x01", _VIDEO),
    (0, b"\0\0\x01\xba", _VIDEO),  # MPEG program stream
    (0, b"\0\0\x01\xb3", _VIDEO),  # MPEG video
    (0, b"0&\xb2u\x8ef\xcf\x11", _VIDEO),  # ASF, WMV
    (0, b"OggS", _VIDEO),
    (4, b"moov", _VIDEO),  # QuickTime before it had brands
    (4, b"mdat", _VIDEO),
    (0, b"FUJIFILMCCD-RAW", _RAW),
    (0, b"IIU\0", _RAW),  # Panasonic
    (0, b"IIRO", _RAW),  # Olympus
    (8, b"CR\x02", _RAW),  # Canon
    (0, b"\xff\x0a", _JXL),
    (4, b"JXL ", _JXL),
    (0, b"%PDF", "a PDF document; convert its pages to PNG first (pdftoppm -png IN.pdf page)"),
    (0, b"8BPS", "a Photoshop document; export it as PNG or JPEG first"),
    (0, b"PK\x03\x04", "a ZIP archive; unpack it first"),
    (0, b"version https://git-lfs", "a Git LFS pointer: the name of the picture, not its content"),
)
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# Enough to see what a file is; the boxes of an AVIF that hold its size also lie in here.
HEAD = 4096


def foreign(head: bytes) -> str | None:
    """What a file that begins so is, and what to do with it; None where it may be a picture."""
    if head[4:8] == b"ftyp":  # the family of MP4: its brands say what is inside
        brands = head[8 : int.from_bytes(head[:4], "big")]
        if b"avif" in brands or b"avis" in brands:
            return None
        if head[8:12] == b"crx ":
            return _RAW
        return _HEIC if head[8:12] in _HEIC_BRANDS else _VIDEO
    if re.match(rb"\s*<", head):  # no format that OpenCV reads begins so
        return "an SVG drawing; convert it to PNG first" if b"<svg" in head else "a web page, not a picture"
    # MPEG transport stream; as camcorders write it (.mts), four bytes of time before each packet
    if any(head[at : at + 1 + 3 * step : step] == b"GGGG" for at, step in ((0, 188), (4, 192))):
        return _VIDEO
    return next((what for at, magic, what in _FOREIGN if head[at : at + len(magic)] == magic), None)


def examine(data: bytes) -> tuple[int, bool]:
    """Width times height by a picture's header, 0 where not known, and whether the file ends too early.

    OpenCV would fill what a JPEG lacks with grey. What is torn of other formats it refuses by itself, without
    a reason.
    """
    try:
        if data.startswith(b"\xff\xd8"):
            return _walk_jpeg(data)
        if data.startswith(b"\x89PNG"):
            return _product(data, 16, ">II"), not _png_ends(data)
        if data.startswith(b"GIF8"):
            return _product(data, 6, "<HH"), False
        if data.startswith(b"BM"):
            return _product(data, 18, "<HH" if data[14] == 12 else "<ii"), False
        if data[8:12] == b"WEBP":
            return _webp_pixels(data), len(data) < 8 + int.from_bytes(data[4:8], "little")
        if data.startswith(TIFF):
            tags = _tiff_tags(data)
            return tags.get(256, 1) * tags.get(257, 1), False
        # JPEG 2000; AVIF, which has a size for the whole, and for each tile, and for a thumbnail
        sizes = [*re.finditer(rb"ihdr|ispe\0{4}", data[:HEAD])]
        return max((_product(data, found.end(), ">II") for found in sizes), default=0), False
    except (struct.error, IndexError):  # too short for a header
        return 0, data.startswith(b"\x89PNG")


def _product(data: bytes, at: int, code: str) -> int:
    a, b = struct.unpack_from(code, data, at)
    return abs(int(a) * int(b))


# FF 00 and the restarts D0 to D7, which lie within pixels, are none.
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
_START, _END = 0xD8, 0xD9
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # segments that hold the size


def _walk_jpeg(data: bytes) -> tuple[int, bool]:
    """From marker to marker until the end of the first picture: behind it phones and cameras put what they
    like, and thumbnails, which have marks of their own, lie inside segments, which are passed over."""
    pixels, place = 0, 2
    while found := _MARKER.search(data, place):
        code, place = data[found.end() - 1], found.end()
        if code == _END:
            return pixels, False
        if code == _START:
            break  # the next picture begins before this one has ended
        if code in _FRAMES and len(data) >= place + 7:
            pixels = _product(data, place + 3, ">HH")
        place += int.from_bytes(data[place : place + 2], "big")
    return pixels, True


def _png_ends(data: bytes) -> bool:
    """Whether the chunks reach the last one, whole; what lies behind it is not looked at."""
    place = 8
    while place + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        place += 12 + length
        if kind == b"IEND" or not kind.isalpha():
            return bool(kind == b"IEND") and place <= len(data)
    return False


def _webp_pixels(data: bytes) -> int:
    if data[12:16] == b"VP8X":
        return (int.from_bytes(data[24:27], "little") + 1) * (int.from_bytes(data[27:30], "little") + 1)
    if data[12:16] == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return int(((bits & 0x3FFF) + 1) * ((bits >> 14 & 0x3FFF) + 1))
    width, height = struct.unpack_from("<HH", data, 26)
    return int((width & 0x3FFF) * (height & 0x3FFF))


TIFF = (b"II*\0", b"MM\0*")


def _tiff_tags(data: bytes) -> dict[int, int]:
    """Of its first page: the first value of each tag, which is 16 or 32 bits wide."""
    order = "<" if data.startswith(b"II") else ">"
    (at,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, at)
    tags = {}
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        (tags[tag],) = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, entry + 8)
    return tags


def raw_tiff(data: bytes) -> str | None:
    """What a TIFF is whose first page, which is what OpenCV reads, is not the picture: cameras' raw files
    begin with a thumbnail of 160 pixels or so, or with what the sensor saw."""
    try:
        tags = _tiff_tags(data) if data.startswith(TIFF) else {}
    except struct.error:
        return None
    if 50706 in tags or tags.get(262) in (32803, 34892):  # DNG's version; values of a sensor
        return _RAW
    return _THUMBNAIL if tags.get(254, 0) & 1 else None
