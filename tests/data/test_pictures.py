"""Pictures read from files, and what is refused; pictures written to files."""

import os
import socket
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image
from turns import TURNS, saved

from popos_cli.data.pictures import images_in, read_image, read_with_orientation, save_picture
from popos_cli.errors import PoposError, UsageError


@pytest.fixture
def quarters():
    """(20, 40, 3): red top left, green top right, blue bottom left, white bottom right."""
    picture = np.zeros((20, 40, 3), np.uint8)
    picture[:10, :20, 0] = picture[:10, 20:, 1] = picture[10:, :20, 2] = 250
    picture[10:, 20:] = 250
    return picture


def assert_quarters(image, picture):
    """Compared in the middles of the quarters, away from JPEG's ringing."""
    assert image.dtype == np.uint8 and image.shape == picture.shape
    assert abs(image[5::10, 10::20].astype(int) - picture[5::10, 10::20]).max() < 12


def refusal(path):
    """The message of the PoposError that reading `path` raises: one line that names it."""
    with pytest.raises(PoposError) as caught:
        read_image(path, upright=True)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


@pytest.mark.parametrize("ending", ["png", "webp", "tif", "jpg", "avif"])
@pytest.mark.parametrize("value", TURNS)
def test_stored_and_upright_pixels(tmp_path, ending, value):
    path = tmp_path / f"turned.{ending}"
    if ending == "avif" and not cv2.haveImageWriter(path.name):
        pytest.skip("this OpenCV does not read AVIF")
    picture = np.random.default_rng(0).integers(0, 255, (6, 10, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    path.write_bytes(saved(picture, value, ending))
    tolerance = 5 if ending in ("jpg", "avif") else 0
    for upright, expected in ((False, picture), (True, TURNS[value](picture))):
        found, orientation = read_with_orientation(path, upright)
        assert orientation == value
        assert found.shape == expected.shape
        assert np.abs(found[..., ::-1].astype(int) - expected).max() <= tolerance


SAVERS = {
    "rgb": lambda p, path: Image.fromarray(p).save(path),
    "palette": lambda p, path: Image.fromarray(p).quantize(8).save(path),
    "rgba": lambda p, path: Image.fromarray(np.dstack([p, np.full(p.shape[:2], 255, np.uint8)])).save(path),
    "16-bit": lambda p, path: cv2.imwrite(str(path), p[..., ::-1].astype(np.uint16) * 257),
}


@pytest.mark.parametrize("kind", SAVERS)
def test_colour_pngs_become_rgb(tmp_path, quarters, kind):
    path = tmp_path / "picture.png"
    SAVERS[kind](quarters, path)
    np.testing.assert_array_equal(read_image(path, upright=True), quarters)


@pytest.mark.parametrize("mode", ["L", "I;16", "1", "LA"])
def test_grey_pngs_become_rgb(tmp_path, mode):
    grey = np.repeat(np.array([[0, 51, 255] if mode != "1" else [0, 255, 255]], np.uint8), 4, axis=0)
    picture = Image.fromarray(grey.astype(np.uint16) * 257 if mode == "I;16" else grey)
    (picture if mode == "I;16" else picture.convert(mode)).save(tmp_path / "grey.png")
    image = read_image(tmp_path / "grey.png", upright=True)
    np.testing.assert_array_equal(image, np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("ending", ["bmp", "webp", "tif", "ppm", "gif", "avif", "jp2", "jfif", "jpe"])
def test_other_formats(tmp_path, quarters, ending):
    """Of an animation the first frame; found in a folder by their endings."""
    path = tmp_path / f"picture.{ending}"
    if not cv2.haveImageWriter("picture." + {"jfif": "jpg"}.get(ending, ending)):
        pytest.skip(f"this OpenCV does not read .{ending}")
    form = {"jfif": "JPEG", "jpe": "JPEG", "jp2": "JPEG2000"}.get(ending)
    more = {"save_all": True, "append_images": [Image.fromarray(255 - quarters)]} if ending == "gif" else {}
    Image.fromarray(quarters).save(path, form, **more)
    assert images_in(tmp_path) == [path]
    assert_quarters(read_image(path, upright=True), quarters)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "empty"),
        (b"This is no picture.\nNot at all.\n", "not an image"),
        (b"\xff\xd8\xff\xda\xff\xd9", "truncated"),
        (b"\xff\xd8\xff\xd9", "not an image"),
        (b"\x89PNG\r\n", "truncated"),
        (cv2.imencode(".jpg", np.zeros((99, 99, 3), np.uint8))[1].tobytes()[:-1], "truncated"),
        (b"BM" + bytes(60), "not an image"),
        (b"GIF89a\x10\0\x10\0" + bytes(20), "damaged"),
        (b"\0\0\0\x18ftypmp42" + bytes(40), "a video; extract its frames"),
        (b"\0\0\0\x18ftypheic" + bytes(40), "a HEIC picture, which OpenCV cannot read; convert it"),
        (b"<html>404</html>", "a web page"),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path, content, message):
    path = tmp_path / "called.jpg"
    path.write_bytes(content)
    assert message in refusal(path)


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "link.jpg").symlink_to("pipe.jpg")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(tmp_path / "socket.jpg"))
        for name in ("pipe.jpg", "link.jpg", "device.jpg", "socket.jpg"):
            assert "pipe, socket or device" in refusal(tmp_path / name)
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    assert "symbolic links" in refusal(tmp_path / "loop.jpg")
    assert "too long" in refusal(tmp_path / ("x" * 300))
    assert "no such file" in refusal(tmp_path / "missing.jpg")
    assert "directory" in refusal(tmp_path)


def one_bit_png(path, width, height):
    """All black: 8,000 pixels in a byte of the file."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = zlib.compress(bytes((width // 8 + 1) * height), 9) if width * height < 1e6 else b""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


def large_jpeg(path, width, height):
    """What the header says; the pixels are another picture's."""
    data = bytearray(cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    path.write_bytes(data)


def large_tiff(path, width, height):
    data = b"II*\0" + struct.pack("<IH", 8, 2)
    data += struct.pack("<HHII", 256, 4, 1, width) + struct.pack("<HHIHH", 257, 3, 1, height, 0)
    path.write_bytes(data + bytes(8))


@pytest.mark.parametrize("write", [one_bit_png, large_jpeg, large_tiff])
def test_a_picture_of_too_many_pixels_is_not_decoded(tmp_path, monkeypatch, write):
    """Whatever its file's size: 32,000 x 32,000 black pixels take 124 kB there and 3 GB here."""
    path = tmp_path / "large.png"
    write(path, 32_000, 32_000)
    monkeypatch.setattr(cv2, "imdecode", None)  # would be called
    message = refusal(path)
    assert "1024000000 pixels" in message and "POPOS_MAX_PIXELS" in message


def test_the_limit_can_be_set(tmp_path, monkeypatch):
    path = tmp_path / "picture.png"
    one_bit_png(path, 64, 20)
    monkeypatch.setenv("POPOS_MAX_PIXELS", "1279")
    assert "1280 pixels, more than the limit of 1279" in refusal(path)
    monkeypatch.setenv("POPOS_MAX_PIXELS", "1280")
    assert read_image(path, upright=True).shape == (20, 64, 3)
    monkeypatch.setenv("POPOS_MAX_PIXELS", "many")
    with pytest.raises(UsageError, match="POPOS_MAX_PIXELS=many"):
        read_image(path, upright=True)


@pytest.mark.parametrize(
    ("tag", "value", "word"),
    [(254, 1, "begins with a thumbnail"), (50706, 1, "raw picture"), (262, 32803, "raw picture")],
)
def test_a_raw_pictures_thumbnail_is_not_taken_for_the_picture(tmp_path, tag, value, word):
    """OpenCV reads the first page, where cameras put 160 x 120 pixels or what the sensor saw."""
    path = tmp_path / "DSC_0001.NEF"
    Image.fromarray(np.zeros((12, 16, 3), np.uint8)).save(path, "TIFF")
    assert read_image(path, upright=True).shape == (12, 16, 3)
    data = bytearray(path.read_bytes())
    (at,) = struct.unpack_from("<I", data, 4)
    entries = [at + 2 + 12 * n for n in range(*struct.unpack_from("<H", data, at))]
    place = next((e for e in entries if struct.unpack_from("<H", data, e) == (tag,)), entries[0])
    struct.pack_into("<HHII", data, place, tag, 4, 1, value)
    path.write_bytes(data)
    assert word in refusal(path)


def test_a_saved_picture_has_its_colours(tmp_path):
    picture = np.full((16, 16, 3), (250, 20, 90), np.uint8)
    for name in ("a.png", "a.jpg"):
        save_picture(picture, tmp_path / name)
        assert np.abs(read_image(tmp_path / name, upright=True).astype(int) - (250, 20, 90)).max() < 12


@pytest.mark.parametrize("shape", [(30, 65_501), (1, 131_000)])
def test_a_jpeg_that_would_be_too_long_is_made_smaller(tmp_path, shape):
    picture = np.full((*shape, 3), (0, 200, 90), np.uint8)
    save_picture(picture, tmp_path / "long.jpg")
    saved = cv2.imread(str(tmp_path / "long.jpg"))
    assert saved.shape[:2] == (max(int(shape[0] * 65_500 / shape[1]), 1), 65_500)
    assert np.abs(saved[0, -1].astype(int) - (90, 200, 0)).max() < 12
