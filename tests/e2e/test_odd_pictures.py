"""popos predict over a folder of thirty odd pictures: one entry each, landmarks in all that are pictures."""

from __future__ import annotations

import io
import json
import os
import struct
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from popos_cli.data.pictures import read_image
from popos_cli.predict.predictor import Predictor

VIDEO = (
    struct.pack(">I", 24)
    + b"ftypmp42\0\0\0\0mp42isom"
    + b"\xff\xd8\xff\xda moov \xff\xd9" * 99
    + b"\xff\xda\0\0"
)


def png(image, **options):
    return encoded(Image.fromarray(image), "PNG", **options)


def encoded(picture, form, **options):
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def turned(picture):
    exif = Image.Exif()
    exif[0x0112] = 6  # a person turns it to the right
    return encoded(picture.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=95, exif=exif)


def wide(image):
    """40,000 pixels wide, the photo at its left end."""
    canvas = np.full((image.shape[0], 40_000, 3), 127, np.uint8)
    canvas[:, : image.shape[1]] = image
    return canvas


def faces(path):
    """Name -> bytes of pictures that show the photo's face where the photo does."""
    jpeg, image = path.read_bytes(), read_image(path, upright=True)
    photo = Image.fromarray(image)
    deep = cv2.imencode(".png", image[..., ::-1].astype(np.uint16) * 257)[1].tobytes()
    found = {
        b"motion photo.jpg": jpeg + VIDEO,
        b"two pictures.jpg": jpeg + jpeg[:5000],
        b"trailer.png": png(image) + b"\0IEND behind the end" * 20,
        b"cmyk.jpg": encoded(photo.convert("CMYK"), "JPEG", quality=95),
        b"sixteen bit.png": deep,
        b"grey.png": encoded(photo.convert("L"), "PNG"),
        b"palette.gif": encoded(photo, "GIF"),
        b"alpha.png": encoded(photo.convert("RGBA"), "PNG"),
        b"turned.jpg": turned(photo),
        b"progressive.jpe": encoded(photo, "JPEG", quality=95, progressive=True),
        b"picture.jfif": jpeg,
        b"picture.webp": encoded(photo, "WEBP", quality=95),
        b"picture.JP2": encoded(photo, "JPEG2000"),
        b"picture.tif": encoded(photo, "TIFF", compression="tiff_lzw"),
        b"picture.bmp": encoded(photo, "BMP"),
        b"wide.png": png(wide(image), compress_level=1),
        b"caf\xe9.jpg": jpeg,  # Latin-1
        b"x" * 236 + b"1.jpg": jpeg,
        b"x" * 236 + b"2.jpg": jpeg,
        b"shot[1] :car:.jpg": jpeg,
    }
    return {name: data for name, data in found.items() if cv2.haveImageWriter("a" + ending(name))}


def ending(name):
    return os.fsdecode(name)[-4:].lower().replace("jfif", ".jpg")


EMPTY = {b"dot.png": np.zeros((1, 1, 3), np.uint8), b"thread.png": np.zeros((1, 40_000, 3), np.uint8)}


def broken(jpeg):
    """Name -> bytes and what is said of them."""
    return {
        b"torn.jpg": (jpeg[:20_000], "truncated"),
        b"torn too.png": (
            png(np.random.default_rng(0).integers(0, 9, (50, 50, 3), np.uint8))[:-99],
            "truncated",
        ),
        b"empty.jpg": (b"", "empty"),
        b"text.jpg": (b"no picture", "not an image"),
        b"phone.heic": (
            b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99),
            "HEIC picture, which OpenCV cannot",
        ),
        b"clip.jpg": (VIDEO, "a video; extract its frames first"),
    }


@pytest.fixture(scope="module")
def portrait(hopper, tmp_path_factory):
    """The face of one photo: thirty of it are soon done."""
    path = tmp_path_factory.mktemp("photo") / "portrait.jpg"
    cv2.imwrite(str(path), cv2.imread(str(hopper))[90:420, 90:400], [cv2.IMWRITE_JPEG_QUALITY, 97])
    return path


@pytest.fixture
def odd(tmp_path, portrait):
    """The folder, and what is to come of it: name -> True, False (no face) or a part of the error."""
    folder = tmp_path / "odd"
    folder.mkdir()
    files = {name: (data, True) for name, data in faces(portrait).items()}
    files |= {name: (png(image), False) for name, image in EMPTY.items()}
    files |= broken(portrait.read_bytes())
    for name, (data, _) in files.items():
        (folder / os.fsdecode(name)).write_bytes(data)
    (folder / "link.jpg").symlink_to(portrait)
    (folder / "gone.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(folder / "pipe.jpg")
    expected = {os.fsdecode(name): outcome for name, (_, outcome) in files.items()}
    return folder, expected | {
        "link.jpg": True,
        "gone.jpg": "no such file",
        "pipe.jpg": "pipe, socket or device",
    }


def test_a_folder_of_odd_pictures(popos, odd, portrait):
    folder, expected = odd
    assert len(expected) >= 30
    result = popos("predict", folder, "--json", "--out", "found", "--weights", "small")
    assert result.code == 1
    result.out.encode()  # any reader of UTF-8 takes it
    images = {image["source"]: image for image in result.json["images"]}
    assert len(images) == len(expected)
    (face,) = Predictor("small", "cpu", "haar")(read_image(portrait, upright=True))
    size = np.linalg.norm(face.points[36] - face.points[45])
    for name, outcome in expected.items():
        image = images[str(folder / name).replace("\udce9", "\\udce9")]
        if isinstance(outcome, str):
            assert outcome in image["error"], name
            assert image["faces"] == []
            continue
        assert "error" not in image
        assert len(image["faces"]) == outcome, name
        for found in image["faces"]:
            off = np.linalg.norm(np.array(found["landmarks"]) - face.points, axis=1)
            assert off.mean() < 0.03 * size, (name, off.mean(), size)
    done = [outcome for outcome in expected.values() if not isinstance(outcome, str)]
    documents = [json.loads(path.read_bytes()) for path in Path("found").glob("*.json")]
    assert {d["images"][0]["source"] for d in documents} == {s for s, i in images.items() if "error" not in i}
    assert len(list(Path("found").glob("*_landmarks.jpg"))) == len(done) == len(documents)


def test_own_overlays_are_not_predicted(popos, tmp_path, empty_picture):
    for name in ("photo.jpg", "my_landmarks.jpg"):
        (tmp_path / name).write_bytes(empty_picture.read_bytes())
    popos("predict", ".").ok()
    popos("predict", ".", "--out", ".").ok()
    images = popos("predict", ".", "--json").ok().json["images"]
    assert [image["source"] for image in images] == ["my_landmarks.jpg", "photo.jpg"]


def test_files_of_the_user_are_not_replaced(popos, tmp_path, empty_picture):
    """Labels beside the pictures, and a picture that is called as an overlay would be."""
    mine = {"a.jpg": empty_picture.read_bytes(), "b.jpg": empty_picture.read_bytes()}
    mine |= {"a.json": b'{"shapes": [], "imagePath": "a.jpg"}', "b_landmarks.jpg": empty_picture.read_bytes()}
    for name, data in mine.items():
        (tmp_path / name).write_bytes(data)
    for _ in range(2):
        popos("predict", ".", "--out", ".").ok()
    assert {name: (tmp_path / name).read_bytes() for name in mine} == mine
    written = {path.name for path in tmp_path.iterdir() if path.is_file()} - set(mine)
    stems = ("a-2", "b-2", "b_landmarks")
    assert written == {s + e for s in stems for e in (".json", "_landmarks.jpg")}


@pytest.mark.parametrize("as_json", [True, False])
def test_a_failure_of_the_network_is_reported_for_that_picture(
    popos, monkeypatch, tmp_path, empty_picture, as_json
):
    for name in "abc":
        (tmp_path / f"{name}.jpg").write_bytes(empty_picture.read_bytes())
    searched = Predictor.detect

    def detect(self, image, boxes=None):  # b.jpg's face is one that the network fails at
        broken = image.shape[0] == 30
        return [SimpleNamespace(passes=1)] if broken else searched(self, image, boxes)

    def locate(self, pictures, detections, threads=None):
        if len(pictures):
            raise RuntimeError("out of memory\nat some place")
        return []

    cv2.imwrite("b.jpg", np.zeros((30, 30, 3), np.uint8))
    monkeypatch.setattr(Predictor, "detect", detect)
    monkeypatch.setattr(Predictor, "locate", locate)
    result = popos("predict", ".", *["--json"] * as_json)
    assert result.code == 1
    assert result.errors == [
        "error: b.jpg: RuntimeError: out of memory (POPOS_DEBUG=1 shows the full report)"
    ]
    if as_json:
        assert ["error" in image for image in result.json["images"]] == [False, True, False]
    else:
        assert result.out.count("no face found") == 2


def test_faces_are_reported_although_the_disk_is_full(popos, monkeypatch, tmp_path, astronaut, empty_picture):
    def full(picture, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("popos_cli.predict.writers.save_picture", full)
    result = popos("predict", astronaut, empty_picture, "--json", "--out", "found")
    assert result.code == 1
    first, second = result.json["images"]
    assert (
        len(first["faces"]) == 1 and "No space left" in first["error"] and "No space left" in second["error"]
    )


@pytest.mark.parametrize(
    ("box", "code", "wrong"),
    [
        ("600,80,90,90", 1, "overlap the picture of 512 x 512"),
        ("0,0,1e7,1e7", 1, "at most 10 times as large"),
        ("0.35,0.16,0.17,0.18", 2, "must be in pixels"),
    ],
)
def test_boxes_that_are_around_no_face(popos, astronaut, box, code, wrong):
    result = popos("predict", astronaut, "--box", box)
    assert result.code == code
    assert wrong in result.errors[0]
    assert result.out == ""


def test_a_limit_of_pixels_that_is_none(popos, monkeypatch, astronaut):
    monkeypatch.setenv("POPOS_MAX_PIXELS", "1e6")
    assert popos("predict", astronaut).code == 2
    monkeypatch.setenv("POPOS_MAX_PIXELS", "1000")
    result = popos("predict", astronaut, "--json")
    assert result.code == 1
    assert "262144 pixels, more than the limit of 1000" in result.json["images"][0]["error"]
