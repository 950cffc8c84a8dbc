"""Pictures from files: what is read, what is refused, and what a user's word expands to."""

import io
import json
import os
import socket
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image
from turns import TAG, TURNS

from popos_cli.data.pictures import SUFFIXES, read_image
from popos_cli.errors import PoposError, UsageError
from popos_cli.predict.sources import expand


@pytest.fixture
def quarters():
    """(20, 40, 3): red top left, green top right, blue bottom left, white bottom right."""
    picture = np.zeros((20, 40, 3), np.uint8)
    picture[:10, :20, 0] = picture[:10, 20:, 1] = picture[10:, :20, 2] = 250
    picture[10:, 20:] = 250
    return picture


def refusal(path):
    """The message of the PoposError that reading `path` raises: one line that names it."""
    with pytest.raises(PoposError) as caught:
        read_image(path, upright=True)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


@pytest.mark.parametrize("orientation", TURNS)
def test_exif_orientation_is_applied_only_upright(tmp_path, quarters, orientation):
    exif = Image.Exif()
    exif[TAG] = orientation
    path = tmp_path / "turned.jpg"
    Image.fromarray(quarters).save(path, quality=95, subsampling=0, exif=exif)
    stored, seen = read_image(path, upright=False), read_image(path, upright=True)
    expected = TURNS[orientation](quarters)
    assert stored.shape == quarters.shape and seen.shape == expected.shape
    # Quarter middles, away from JPEG's ringing.
    assert abs(stored[5::10, 10::20].astype(int) - quarters[5::10, 10::20]).max() < 12
    dy, dx = (10, 20) if seen.shape[0] < seen.shape[1] else (20, 10)
    assert (
        abs(seen[dy // 2 :: dy, dx // 2 :: dx].astype(int) - expected[dy // 2 :: dy, dx // 2 :: dx]).max()
        < 12
    )


def save_16_bit_colour(picture, path):
    cv2.imwrite(str(path), picture[..., ::-1].astype(np.uint16) * 257)


SAVERS = {
    "rgb": lambda p, path: Image.fromarray(p).save(path),
    "palette": lambda p, path: Image.fromarray(p).quantize(8).save(path),
    "rgba": lambda p, path: Image.fromarray(np.dstack([p, np.full(p.shape[:2], 255, np.uint8)])).save(path),
    "16-bit colour": save_16_bit_colour,
}


@pytest.mark.parametrize("kind", SAVERS)
def test_colour_pngs_become_rgb(tmp_path, quarters, kind):
    path = tmp_path / "picture.png"
    SAVERS[kind](quarters, path)
    image = read_image(path, upright=True)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, quarters)


@pytest.mark.parametrize("kind", ["8-bit", "16-bit", "1-bit", "grey and alpha"])
def test_grey_pngs_become_rgb(tmp_path, kind):
    grey = np.repeat(np.arange(0, 256, 51, dtype=np.uint8)[None], 4, axis=0)
    if kind == "1-bit":
        grey = np.where(grey > 100, 255, 0).astype(np.uint8)
    picture = {
        "8-bit": lambda: Image.fromarray(grey),
        "16-bit": lambda: Image.fromarray(grey.astype(np.uint16) * 257),
        "1-bit": lambda: Image.fromarray(grey).convert("1"),
        "grey and alpha": lambda: Image.fromarray(grey).convert("LA"),
    }[kind]()
    picture.save(tmp_path / "grey.png")
    image = read_image(tmp_path / "grey.png", upright=True)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("ending", ["jpg", "bmp", "webp", "tif", "ppm"])
def test_other_formats(tmp_path, quarters, ending):
    path = tmp_path / f"picture.{ending}"
    Image.fromarray(quarters).save(path, **({"lossless": True} if ending == "webp" else {}))
    image = read_image(path, upright=True)
    assert image.shape == quarters.shape
    assert abs(image[5::10, 10::20].astype(int) - quarters[5::10, 10::20]).max() < 12


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_a_truncated_picture_is_refused(tmp_path, ending, kept):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / f"torn.{ending}"
    Image.fromarray(noise).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    assert "truncated" in refusal(path)


def test_a_truncated_jpeg_with_a_whole_thumbnail_is_refused(tmp_path):
    """The thumbnail's own end-of-image mark must not pass for the picture's."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / "thumbnail.jpg"
    Image.fromarray(noise[:16, :16]).save(path)
    thumbnail = path.read_bytes()
    exif = b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + thumbnail
    Image.fromarray(noise).save(path, exif=exif)
    data = path.read_bytes()
    assert thumbnail in data
    assert read_image(path, upright=True).shape == (64, 64, 3)
    path.write_bytes(data[: len(data) - 1000])
    assert "truncated" in refusal(path)


def test_a_trailer_after_the_picture_is_no_reason_to_refuse(tmp_path, quarters):
    """Cameras append data behind the end-of-image mark."""
    path = tmp_path / "trailer.jpg"
    Image.fromarray(quarters).save(path)
    path.write_bytes(path.read_bytes() + b"\0maker data" * 50)
    assert read_image(path, upright=True).shape == quarters.shape


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "empty"),
        (b"This is no picture.\nNot at all.\n", "not an image"),
        (b"\xff\xd8\xff\xda\xff\xd9", "truncated"),
        (b"\xff\xd8\xff\xd9", "not an image"),
        (b"\x89PNG\r\n", "truncated"),
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


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    assert "no such file" in refusal(tmp_path / "missing.jpg")
    assert "directory" in refusal(tmp_path)


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


def png_of(width, height):
    """A PNG of one bit a pixel, all black: 8,000 pixels in a byte of the file."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = zlib.compress(bytes((width // 8 + 1) * height), 9) if width * height < 1e6 else b""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def one_bit_png(path, width, height):
    path.write_bytes(png_of(width, height))


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


def webps():
    """What each kind of WebP, of 40 x 30 pixels, begins with."""
    picture = Image.fromarray(np.zeros((30, 40, 4), np.uint8))
    for kind, options in ((picture, {}), (picture, {"lossless": True}), (picture.convert("RGB"), {})):
        buffer = io.BytesIO()
        kind.save(buffer, "WEBP", **options)
        yield buffer.getvalue()


@pytest.mark.parametrize("data", webps(), ids=["VP8X", "VP8L", "VP8"])
def test_the_limit_holds_for_webp(tmp_path, monkeypatch, data):
    path = tmp_path / "picture.webp"
    path.write_bytes(data)
    monkeypatch.setenv("POPOS_MAX_PIXELS", "1199")
    assert "1200 pixels, more than the limit of 1199" in refusal(path)
    monkeypatch.setenv("POPOS_MAX_PIXELS", "1200")
    assert read_image(path, upright=True).shape == (30, 40, 3)


@pytest.mark.parametrize(
    ("tag", "value", "word"),
    [(254, 1, "begins with a thumbnail"), (50706, 1, "raw picture"), (262, 32803, "raw picture")],
)
@pytest.mark.parametrize("ending", ["NEF", "tif"])
def test_a_raw_pictures_thumbnail_is_not_taken_for_the_picture(tmp_path, tag, value, word, ending):
    """OpenCV reads the first page, where cameras put 160 x 120 pixels or what the sensor saw."""
    path = tmp_path / f"DSC_0001.{ending}"
    Image.fromarray(np.zeros((12, 16, 3), np.uint8)).save(path, "TIFF")
    assert read_image(path, upright=True).shape == (12, 16, 3)
    data = bytearray(path.read_bytes())
    (at,) = struct.unpack_from("<I", data, 4)
    entries = [at + 2 + 12 * n for n in range(*struct.unpack_from("<H", data, at))]
    place = next((e for e in entries if struct.unpack_from("<H", data, e) == (tag,)), entries[0])
    struct.pack_into("<HHII", data, place, tag, 4, 1, value)
    path.write_bytes(data)
    assert word in refusal(path)
    assert expand([str(tmp_path)]) == [path]  # and in a folder it is named, not passed over


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


@pytest.mark.parametrize("ending", ["gif", "avif", "jp2", "jfif", "jpe"])
def test_pictures_of_newer_and_older_endings(tmp_path, quarters, ending):
    """Of an animation it is the first frame."""
    path = tmp_path / f"picture.{ending}"
    if not cv2.haveImageWriter("picture." + {"jfif": "jpg"}.get(ending, ending)):
        pytest.skip(f"this OpenCV does not read .{ending}")
    form = {"gif": "GIF", "avif": "AVIF", "jp2": "JPEG2000"}.get(ending, "JPEG")
    more = {"save_all": True, "append_images": [Image.fromarray(255 - quarters)]} if ending == "gif" else {}
    Image.fromarray(quarters).save(path, form, **more)
    assert expand([str(tmp_path)]) == [path]
    image = read_image(path, upright=True)
    assert abs(image[5::10, 10::20].astype(int) - quarters[5::10, 10::20]).max() < 12


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """b.jpg, a.PNG, notes.txt, deep/c.webp, deep/d.jpg/ (a folder), empty/, below the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep" / "d.jpg").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    for name in ("b.jpg", "a.PNG", "notes.txt", "deep/c.webp"):
        (tmp_path / name).write_text("")
    return tmp_path


def names(sources, tree):
    return [os.path.relpath(p, tree) for p in expand(sources)]


def test_a_folder_is_searched_below_in_order(tree):
    assert names([str(tree)], tree) == ["a.PNG", "b.jpg", "deep/c.webp"]
    assert names(["."], tree) == ["a.PNG", "b.jpg", "deep/c.webp"]


def test_a_pattern_is_expanded_in_order(tree):
    assert names([str(tree / "*.*")], tree) == ["a.PNG", "b.jpg", "notes.txt"]
    assert names(["**/*.[jw]*"], tree) == ["b.jpg", "deep/c.webp"]


def test_sources_keep_their_order_and_come_once(tree):
    assert names(["deep/c.webp", "b.jpg", "*.jpg", "deep"], tree) == ["deep/c.webp", "b.jpg"]


def test_a_named_file_is_kept_whatever_it_is(tree):
    assert names(["notes.txt", "missing.jpg"], tree) == ["notes.txt", "missing.jpg"]
    (tree / "odd[1].jpg").write_text("")
    assert names(["odd[1].jpg"], tree) == ["odd[1].jpg"]


def test_linked_folders_are_searched_and_a_link_back_is_not(tree, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "e.jpg").write_text("")
    (elsewhere / "back").symlink_to(tree)
    (tree / "deep" / "there").symlink_to(elsewhere)
    (tree / "deep" / "up").symlink_to("..")
    assert names(["."], tree) == ["a.PNG", "b.jpg", "deep/c.webp", "deep/there/e.jpg"]


def test_nothing_that_is_called_a_picture_is_passed_over(tree):
    """Reading it will say what is wrong with it."""
    (tree / "deep" / "gone.jpg").symlink_to("nowhere")
    (tree / "deep" / "phone.HEIC").write_text("")
    os.mkfifo(tree / "deep" / "pipe.png")
    (tree / "deep" / "._c.webp").write_text("")  # macOS's notes on c.webp
    (tree / "deep" / "clip.mp4").write_text("")
    found = ["deep/c.webp", "deep/gone.jpg", "deep/phone.HEIC", "deep/pipe.png"]
    assert names(["deep"], tree) == found
    assert names(["deep/[cgp]*.[jJHwp]*"], tree) == found


def test_own_overlays_are_left_out_and_a_users_pictures_are_not(tree):
    document = json.dumps({"images": [], "weights": "default", "scheme": "300w"})
    for name in ("b", "deep/x"):
        (tree / f"{name}_landmarks.jpg").write_text("")
        (tree / f"{name}.json").write_text(document)
    # A user's: nothing beside it; the labels of another program; the original.
    for name in ("my_landmarks.jpg", "a_landmarks.jpg", "x_landmarks.png", "_landmarks.jpg"):
        (tree / name).write_text("")
    (tree / "a.json").write_text('{"imagePath": "a_landmarks.jpg"}')
    mine = ["_landmarks.jpg", "a.PNG", "a_landmarks.jpg", "b.jpg", "deep/c.webp", "my_landmarks.jpg"]
    assert names(["."], tree) == [*mine, "x_landmarks.png"]
    assert names(["**/*.jpg"], tree) == [m for m in mine if m.endswith("jpg")]
    assert names(["b_landmarks.jpg"], tree) == ["b_landmarks.jpg"]  # named
    # As a shell expands *.jpg; b-2 is of another b.
    for end in ("_landmarks.jpg", ".json"):
        (tree / f"b-2{end}").write_text(document)
    (tree / "b_landmarks_landmarks.jpg").write_text("")
    shell = ["a_landmarks.jpg", "b-2_landmarks.jpg", "b.jpg", "b_landmarks.jpg"]
    assert names(shell, tree) == ["a_landmarks.jpg", "b.jpg"]
    assert names(["b-2_landmarks.jpg", "b_landmarks.jpg"], tree) == ["b-2_landmarks.jpg", "b_landmarks.jpg"]


@pytest.mark.parametrize("source", ["empty", "deep/*.png", "deep/d.*", ""])
def test_what_holds_no_picture_is_a_usage_error(tree, source):
    with pytest.raises(UsageError) as caught:
        expand(["b.jpg", source])
    assert source in str(caught.value) and (source or "empty name" in str(caught.value))
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("source", ["http://example.com/a.jpg", "rtsp://camera/1", "file:///tmp/a.jpg"])
def test_an_address_is_no_file(source):
    with pytest.raises(UsageError, match="an address, not a file"):
        expand([source])


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_every_known_ending_is_found_in_either_case(tmp_path, suffix):
    for name in ("low" + suffix, "up" + suffix.upper()):
        (tmp_path / name).write_text("")
    assert len(expand([str(tmp_path)])) == 2
