"""Whole or torn, by walking a file's own marks; how many pixels; what a file is that is no picture."""

import io
import struct

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from popos_cli.data.headers import examine, foreign

quick = settings(deadline=None, max_examples=150, derandomize=True)
NOISE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def encoded(form, picture=NOISE, mode="RGB", **options):
    buffer = io.BytesIO()
    Image.fromarray(picture).convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


def with_thumbnail():
    exif = b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + encoded("JPEG", NOISE[:16, :16])
    return encoded("JPEG", exif=exif, comment=b"\xff\xd9 and \xff\xda \xff\xd8")


WHOLE = {
    "baseline": encoded("JPEG"),
    "progressive": encoded("JPEG", progressive=True),
    "restarts": encoded("JPEG", restart_marker_blocks=1),
    "progressive with restarts": encoded("JPEG", progressive=True, restart_marker_blocks=2),
    "thumbnail": with_thumbnail(),
    "CMYK": encoded("JPEG", mode="CMYK"),
    "grey": encoded("JPEG", mode="L"),
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
def test_whatever_lies_behind_a_whole_picture(kind, trailer):
    data = WHOLE[kind] + trailer
    assert examine(data) == (48 * 64, False)
    np.testing.assert_array_equal(decoded(data), decoded(WHOLE[kind]))


@quick
@given(whole, st.data())
def test_a_torn_picture_is_seen_wherever_it_is_torn(kind, data):
    """Also where a file system filled the rest with zeros, or with another picture."""
    picture = WHOLE[kind]
    kept = data.draw(st.integers(8, len(picture) - 1))
    rest = data.draw(st.sampled_from([b"", b"\0" * (len(picture) - kept), b"\0" * 500]))
    # A segment that is torn takes what follows for its own.
    assume(not rest or picture[kept:].strip(b"\0"))
    assert examine(picture[:kept] + rest)[1]


def test_a_picture_torn_within_its_pixels_and_followed_by_another():
    picture = WHOLE["baseline"]
    assert examine(picture[:-100] + picture)[1]


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 8, 12])
@pytest.mark.parametrize("kind", ["baseline", "progressive", "png"])
def test_the_last_bytes_are_missed(kind, cut):
    assert examine(WHOLE[kind][:-cut])[1]


SIZED = {
    "jpg": {"form": "JPEG"},
    "progressive": {"form": "JPEG", "progressive": True},
    "png": {"form": "PNG"},
    "gif": {"form": "GIF"},
    "bmp": {"form": "BMP"},
    "tif": {"form": "TIFF"},
    "deflated tif": {"form": "TIFF", "compression": "tiff_adobe_deflate"},
    "big-endian tif": {"form": "TIFF", "big_endian": True},
    "jp2": {"form": "JPEG2000"},
    "avif": {"form": "AVIF"},
}


@pytest.mark.parametrize("kind", SIZED)
def test_the_size_stands_in_the_header(kind):
    if SIZED[kind]["form"] == "AVIF":
        pytest.importorskip("PIL._avif")
    assert examine(encoded(**SIZED[kind])) == (48 * 64, False)


def test_an_old_bmp():
    """OS/2's header has sizes of 16 bits."""
    data = b"BM" + struct.pack("<IHHI", 26 + 4 * 3 * 2, 0, 0, 26) + struct.pack("<IHHHH", 12, 4, 2, 1, 24)
    data += bytes(range(24))
    assert examine(data) == (8, False)
    assert decoded(data).shape == (2, 4, 3)


def test_a_torn_webp():
    data = encoded("WEBP")
    assert examine(data) == (3072, False)
    assert examine(data[:-1])[1]


@quick
@given(st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG", b"II*\0", b"MM\0*", b"BM", b"GIF89a"]), st.binary())
def test_any_bytes_are_examined(start, rest):
    pixels, _ = examine(start + rest)
    assert pixels >= 0
    foreign(start + rest)


def boxes(brand, *others):
    brands = b"".join([brand, b"\0\0\0\0", *others])
    return struct.pack(">I", 8 + len(brands)) + b"ftyp" + brands + bytes(40)


@pytest.mark.parametrize(
    ("head", "word"),
    [
        (boxes(b"isom", b"mp42"), "video"),
        (boxes(b"qt  "), "video"),
        (boxes(b"M4V "), "video"),
        (b"\x1aE\xdf\xa3" + bytes(40), "video"),
        (b"RIFF\0\0\0\0AVI LIST", "video"),
        (b"\0\0\x01\xba" + bytes(40), "video"),
        ((b"G" + bytes(187)) * 4, "video"),
        ((bytes(4) + b"G" + bytes(187)) * 4, "video"),  # .mts
        (b"FUJIFILMCCD-RAW 0201", "raw"),
        (b"II*\0\x10\0\0\0CR\x02\0", "raw"),
        (boxes(b"heic", b"mif1"), "HEIC"),
        (boxes(b"mif1", b"heic"), "HEIC"),
        (boxes(b"crx "), "raw"),
        (b"\xff\x0a" + bytes(40), "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"%PDF-1.7", "PDF"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b'<?xml version="1.0"?>\n<svg xmlns=', "SVG"),
        (b"PK\x03\x04", "ZIP"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
    ],
)
def test_what_is_no_picture_is_named(head, word):
    assert word in foreign(head)


@pytest.mark.parametrize(
    "head", [*WHOLE.values(), boxes(b"avif"), boxes(b"mif1", b"avif"), encoded("JPEG2000")]
)
def test_pictures_are_not_foreign(head):
    assert foreign(head) is None
