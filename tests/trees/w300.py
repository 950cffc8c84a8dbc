"""300W as it is downloaded: folders of pictures with .pts files, and the odd names in them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from popos_cli.core.schemes import W300

from .common import TruthFace, draw, encode, jpeg_grey, turned, without_colour, write_archives, write_files

# Pictures by split and by the folder of the download; lfpw has one name in both of its folders.
PICTURES = {
    "train": {
        "helen/trainset": ("100032540_1.jpg", "10405146_1.jpg"),
        "lfpw/trainset": ("image_0198.png", "image_0871.png"),
        "afw": ("1051618982_1.jpg", "134212_1.jpg"),
    },
    "test": {
        "helen/testset": ("296814969_3.jpg",),
        "lfpw/testset": ("image_0198.png",),
        "ibug": ("image_003_1.jpg", "image_092 _01.jpg", "image_092.jpg", "image_092_02.jpg"),
    },
    "private": {
        "01_Indoor": ("indoor_001.png", "indoor_002.png"),
        "02_Outdoor": ("outdoor_001.png", "outdoor_002.png"),
    },
}  # fmt: skip
SUBSETS = {"helen/testset": "common", "lfpw/testset": "common", "ibug": "challenging"}
GREY, TURNED = "helen/trainset/10405146_1.jpg", "afw/134212_1.jpg"  # TURNED: has an EXIF orientation
PALETTE = ("lfpw/testset/image_0198.png", "01_Indoor/indoor_002.png", "02_Outdoor/outdoor_001.png")
OUTSIDE = "ibug/image_003_1.jpg"  # the right border cuts its face
LOOSE = "afw/1051618982_1.jpg"  # its .pts has other line ends and blanks


def w300_truth() -> list[TruthFace]:
    """The faces in the order of the folders above."""
    places = [
        (split, part, name)
        for split, parts in PICTURES.items()
        for part, names in parts.items()
        for name in names
    ]
    drawn = draw(W300, len(places), decimals=6)
    faces = []
    for (split, part, name), (picture, points) in zip(places, drawn, strict=True):
        path = f"{part}/{name}"
        if path == OUTSIDE:
            picture = np.ascontiguousarray(picture[:, : int(points[:, 0].max()) - 9])
        if path == GREY:
            picture = without_colour(picture)
        if path in PALETTE:
            picture = cv2.imdecode(np.frombuffer(_palette(picture), np.uint8), cv2.IMREAD_COLOR)
        if split == "private":
            points, path = np.round(points, 3), f"Test/{path}"
        faces.append(
            TruthFace(
                image=path.replace(" ", ""),
                picture=picture,
                points=points,
                visible=np.full(W300.landmarks, 2, np.uint8),
                split=split,
                subsets=(SUBSETS[part],) if part in SUBSETS else (),
            )
        )
    return faces


def pictures(faces: Sequence[TruthFace]) -> dict[str, bytes]:
    """The files of the pictures by their paths below images/, as mmpose and HRNet have people lay them out.

    The space in ibug's odd name is on the disk, though not in the labels.
    """
    files = {}
    for face in faces:
        name = face.image.replace("image_092_01", "image_092 _01")
        original = name.removeprefix("Test/")
        if original in PALETTE:
            files[name] = _palette(face.picture)
        elif original == GREY:
            files[name] = jpeg_grey(face.picture)
        else:
            files[name] = encode(name, face.picture)
        if original == TURNED:
            files[name] = turned(files[name])
    return files


def raw_files() -> tuple[list[TruthFace], dict[str, bytes]]:
    """The faces, and all files of the unpacked downloads by path."""
    faces = w300_truth()
    files = {}
    for face, (name, data) in zip(faces, pictures(faces).items(), strict=True):
        name = name.replace("Test/", "300W/")
        files[name] = data
        text = pts(face.points + 1, private=face.split == "private", loose=name == LOOSE)
        files[str(Path(name).with_suffix(".pts"))] = text
    return faces, files


def traps(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Files beside the real ones that are none of the benchmark's faces, though they look like it."""
    blank = np.full((40, 50, 3), 90, np.uint8)
    wrong = pts(np.random.default_rng(0).uniform(2, 40, (68, 2)))
    unwanted = (
        "ibug/image_003_1_mirror.jpg", "ibug/image_092 (1).jpg", "300w_cropped/01_Indoor/indoor_001.png",
        "300w_cropped/01_Indoor/indoor_003.png", "300w_cropped/01_Indoor/indoor_004.png",
        "ibug/._image_092.jpg",
    )  # fmt: skip
    found: dict[str, bytes] = {}
    for name in unwanted:
        found[name] = encode(name, blank)
        found[str(Path(name).with_suffix(".pts"))] = wrong
    # Another picture of the same stem, twice, and one without labels.
    for name in ("helen/trainset/100032540_1.png", "lfpw/trainset/image_0871.jpg", "afw/4492032921_1.jpg"):
        found[name] = encode(name, blank)
    assert not found.keys() & files.keys()
    return found


def build_w300(folder: Path, archives: bool = False) -> list[TruthFace]:
    """Write the downloads, unpacked with traps among them, or as archives: ibug.zip and helen.zip without
    their folder, 300w.zip in four parts. Returns the faces."""
    faces, files = raw_files()
    if not archives:
        write_files(folder, {**files, **traps(files)})
        return faces
    tops = ("afw", "helen", "ibug", "lfpw", "300W")
    write_archives(folder, files, {f"{top}.zip": top for top in tops}, bare=("ibug.zip", "helen.zip"))
    whole = (folder / "300W.zip").read_bytes()
    (folder / "300W.zip").unlink()
    quarter = len(whole) // 4 + 1
    for part in range(4):
        data = whole[part * quarter : (part + 1) * quarter]
        (folder / f"300w.zip.{part + 1:03d}").write_bytes(data)
    return faces


def pts(points: np.ndarray, private: bool = False, loose: bool = False) -> bytes:
    """A .pts file of points (K, 2), as they are to stand in it; loose: what other tools make of it."""
    decimals, blanks = (3, " ") if private else (6, "  ")
    lines = [f"{x:.{decimals}f} {y:.{decimals}f}" for x, y in points]
    head = f"version: {'1.0' if loose else '1'}", f"n_points:{blanks}{len(points)}", "{"
    end = " \r\n" if loose else "\n"
    return "".join(line + end for line in (*head, *lines, "}")).encode("ascii")


def _palette(picture: np.ndarray) -> bytes:
    packed = io.BytesIO()
    Image.fromarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)).quantize(200).save(packed, "png")
    return packed.getvalue()
