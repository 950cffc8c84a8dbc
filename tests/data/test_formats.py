"""What a file's bytes say: whole or torn, how many pixels, its orientation, and what it is if no picture."""

import io
import struct

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from turns import TAG, saved

from popos_cli.data.formats import examine, foreign, without_orientation

quick = settings(deadline=None, max_examples=150, derandomize=True)
NOISE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
PIXELS = 48 * 64


def encoded(form, picture=NOISE, mode="RGB", **options):
    buffer = io.BytesIO()
    Image.fromarray(picture).convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


def with_thumbnail():
    exif = b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + encoded("JPEG", NOISE[:16, :16])
    return encoded("JPEG", exif=exif, comment=b"\xff\xd9 and \xff\xda \xff\xd8")


# Formats that are followed to their end.
WHOLE = {
    "baseline": encoded("JPEG"),
    "progressive": encoded("JPEG", progressive=True),
    "restarts": encoded("JPEG", restart_marker_blocks=1),
    "progressive with restarts": encoded("JPEG", progressive=True, restart_marker_blocks=2),
    "thumbnail": with_thumbnail(),
    "CMYK": encoded("JPEG", mode="CMYK"),
    "png": encoded("PNG"),
    "palette": encoded("PNG", mode="P"),
    "animated": encoded("PNG", save_all=True, append_images=[Image.fromarray(NOISE[::-1])]),
}
whole = st.sampled_from(sorted(WHOLE))
pieces = st.sampled_from(
    [
        b"\xff\xd8",
        b"\xff\xd9",
        b"\xff\xda",
        b"\xff\xda\0\x0c",
        b"\xff",
        b"IEND",
        b"\0\0\0\0IEND\xae\x42\x60\x82",
    ]
)
trailers = st.lists(
    st.one_of(pieces, st.binary(max_size=40), whole.map(WHOLE.get), st.just(b"\0\0\0\x18ftypmp42")),
    max_size=5,
).map(b"".join)


def decoded(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


@quick
@given(whole, trailers)
def test_whatever_is_appended_to_a_whole_picture(kind, trailer):
    data = WHOLE[kind] + trailer
    header = examine(data)
    assert (header.pixels, header.torn) == (PIXELS, False)
    np.testing.assert_array_equal(decoded(data), decoded(WHOLE[kind]))


@quick
@given(whole, st.data())
def test_a_torn_picture_is_noticed_wherever_it_is_torn(kind, data):
    """Also where a file system filled the rest with zeros."""
    picture = WHOLE[kind]
    kept = data.draw(st.integers(8, len(picture) - 1))
    rest = data.draw(st.sampled_from([b"", b"\0" * (len(picture) - kept), b"\0" * 500]))
    # A torn segment takes what follows for its own.
    assume(not rest or picture[kept:].strip(b"\0"))
    assert examine(picture[:kept] + rest).torn


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 8, 12])
@pytest.mark.parametrize("kind", ["baseline", "progressive", "png"])
def test_missing_last_bytes_are_noticed(kind, cut):
    assert examine(WHOLE[kind][:-cut]).torn


def test_a_picture_torn_within_its_pixels_and_followed_by_another():
    picture = WHOLE["baseline"]
    assert examine(picture[:-100] + picture).torn


def old_bmp():
    """OS/2's header has sizes of 16 bits: 64 x 48."""
    rows = bytes(3 * PIXELS)
    return b"BM" + struct.pack("<IHHIIHHHH", 26 + len(rows), 0, 0, 26, 12, 64, 48, 1, 24) + rows


SIZED = {
    "png": {"form": "PNG"},
    "gif": {"form": "GIF"},
    "bmp": {"form": "BMP"},
    "tif": {"form": "TIFF"},
    "deflated tif": {"form": "TIFF", "compression": "tiff_adobe_deflate"},
    "big-endian tif": {"form": "TIFF", "big_endian": True},
    "jp2": {"form": "JPEG2000"},
    "avif": {"form": "AVIF"},
    "webp": {"form": "WEBP"},
    "lossless webp": {"form": "WEBP", "lossless": True},
    "transparent webp": {"form": "WEBP", "picture": np.dstack([NOISE, NOISE[..., 0]]), "mode": "RGBA"},
    "old bmp": old_bmp,
}


@pytest.mark.parametrize("kind", SIZED)
def test_the_size_is_in_the_header(kind):
    if kind == "avif":
        pytest.importorskip("PIL._avif")
    data = old_bmp() if kind == "old bmp" else encoded(**SIZED[kind])
    header = examine(data)
    assert (header.pixels, header.torn) == (PIXELS, False)
    if "webp" in kind:
        assert examine(data[:-1]).torn


STARTS = [b"", b"\xff\xd8\xff", b"\x89PNG", b"II*\0", b"MM\0*", b"BM", b"GIF89a", b"RIFF\0\0\0\0WEBP"]


@quick
@given(st.sampled_from(STARTS), st.binary())
def test_any_bytes_are_examined(start, rest):
    assert examine(start + rest).pixels >= 0
    without_orientation(start + rest)
    foreign(start + rest)


def boxes(brand, *others):
    brands = b"".join([brand, b"\0\0\0\0", *others])
    return struct.pack(">I", 8 + len(brands)) + b"ftyp" + brands + bytes(40)


@pytest.mark.parametrize(
    ("head", "word"),
    [
        (boxes(b"isom", b"mp42"), "video"),
        (boxes(b"qt  "), "video"),
        (b"\x1aE\xdf\xa3" + bytes(40), "video"),
        (b"RIFF\0\0\0\0AVI LIST", "video"),
        (b"\0\0\x01\xba" + bytes(40), "video"),
        ((b"G" + bytes(187)) * 4, "video"),
        ((bytes(4) + b"G" + bytes(187)) * 4, "video"),  # .mts
        (b"FUJIFILMCCD-RAW 0201", "raw"),
        (b"II*\0\x10\0\0\0CR\x02\0", "raw"),
        (boxes(b"crx "), "raw"),
        (boxes(b"heic", b"mif1"), "HEIC"),
        (boxes(b"mif1", b"heic"), "HEIC"),
        (b"\xff\x0a" + bytes(40), "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"%PDF-1.7", "PDF"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b'<?xml version="1.0"?>\n<svg xmlns=', "SVG"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
    ],
)
def test_what_is_no_picture_is_named(head, word):
    assert word in foreign(head)


@pytest.mark.parametrize(
    "head", [*WHOLE.values(), boxes(b"avif"), boxes(b"mif1", b"avif"), encoded("JPEG2000"), encoded("GIF")]
)
def test_pictures_are_not_foreign(head):
    assert foreign(head) is None


def test_big_endian_tiff():
    """As cameras of some makers write it; nothing but the two bytes of the orientation changes."""
    entries = struct.pack(">HHHIHH", 1, TAG, 3, 1, 6, 0)
    data = b"MM\0*" + struct.pack(">I", 8) + entries
    assert examine(data).orientation == 6
    upright = without_orientation(data)
    assert examine(upright).orientation == 1 and len(upright) == len(data)


def test_a_jpeg_with_fillers_and_other_segments():
    data = saved(NOISE, 8, "jpg")
    comment = b"\xff\xfe" + struct.pack(">H", 2 + 40_000) + b"Exif\0\0" * 6_666 + b"abcd"
    assert examine(data[:2] + comment + b"\xff\xff" + data[2:]).orientation == 8


@pytest.mark.parametrize("ending", ["png", "webp", "tif", "jpg", "avif"])
def test_torn_and_odd_headers_are_not_turned(ending):
    """Wherever a file ends, and with values that mean nothing, the answer is an orientation."""
    data = saved(NOISE, 3, ending)
    assert {examine(data[:end]).orientation for end in range(len(data))} == {1, 3}
    for value in (0, 9, None):
        assert examine(saved(NOISE, value, ending)).orientation == 1
