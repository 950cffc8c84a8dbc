"""The EXIF orientation of every kind of file that has one, read both ways."""

import struct

import cv2
import numpy as np
import pytest
from PIL import Image
from turns import TAG, TURNS

from popos_cli.data.exif import orientation, without_orientation
from popos_cli.data.pictures import exif_orientation, read_image

ENDINGS = ("png", "webp", "tif", "jpg", "avif")


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(0).integers(0, 255, (6, 10, 3), np.uint8).repeat(8, 0).repeat(8, 1)


def save(path, picture, value):
    exif = Image.Exif()
    exif[TAG] = value
    options = {
        ".jpg": {"exif": exif, "quality": 100, "subsampling": 0},
        ".png": {"exif": exif},
        ".webp": {"exif": exif, "lossless": True},
        ".tif": {"tiffinfo": {TAG: value}},
        ".avif": {"exif": exif, "quality": 100, "subsampling": "4:4:4"},
    }
    Image.fromarray(picture).save(path, **options[path.suffix])


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("value", TURNS)
def test_stored_and_upright_pixels(tmp_path, picture, ending, value):
    path = tmp_path / f"turned.{ending}"
    if ending == "avif" and not cv2.haveImageWriter(path.name):
        pytest.skip("this OpenCV does not read AVIF")
    save(path, picture, value)
    assert exif_orientation(path) == value
    tolerance = 5 if ending in ("jpg", "avif") else 0
    for upright, expected in ((False, picture), (True, TURNS[value](picture))):
        found = read_image(path, upright)
        assert found.shape == expected.shape
        assert np.abs(found.astype(int) - expected).max() <= tolerance


def test_big_endian_tiff(picture):
    """As cameras of some makers write it; nothing but the two bytes of the orientation changes."""
    entries = struct.pack(">HHHIHH", 1, TAG, 3, 1, 6, 0)
    data = b"MM\0*" + struct.pack(">I", 8) + entries
    assert orientation(data) == 6
    assert orientation(without_orientation(data)) == 1
    assert len(without_orientation(data)) == len(data)


def test_a_jpeg_with_fillers_and_other_segments(tmp_path, picture):
    save(tmp_path / "a.jpg", picture, 8)
    data = (tmp_path / "a.jpg").read_bytes()
    comment = b"\xff\xfe" + struct.pack(">H", 2 + 40_000) + b"Exif\0\0" * 6_666 + b"abcd"
    assert orientation(data[:2] + comment + b"\xff\xff" + data[2:]) == 8


@pytest.mark.parametrize("ending", ENDINGS)
def test_torn_and_odd_headers_are_not_turned(tmp_path, picture, ending):
    """Wherever a file ends, and with values that mean nothing, the answer is an orientation."""
    path = tmp_path / f"turned.{ending}"
    save(path, picture, 3)
    data = path.read_bytes()
    if ending == "avif":  # its properties lie further back
        assert {orientation(data[:end]) for end in range(500)} == {1, 3}
    for end in [*range(0, 200), len(data) // 2]:
        assert orientation(data[:end]) in (1, 3)
        without_orientation(data[:end])
    save(path, picture, 9)
    assert exif_orientation(path) == 1
    save(path, picture, 0)
    assert exif_orientation(path) == 1


def test_files_without_exif(tmp_path, picture):
    for ending in ("png", "jpg", "webp", "bmp", "gif"):
        Image.fromarray(picture).save(tmp_path / f"a.{ending}")
        assert exif_orientation(tmp_path / f"a.{ending}") == 1
    assert orientation(b"") == 1
