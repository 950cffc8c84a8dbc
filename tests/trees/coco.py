"""COCO-WholeBody as it is downloaded: annotations/coco_wholebody_*_v1.0.json, train2017/, val2017/."""

from __future__ import annotations

import io
import json
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from popos_cli.core.schemes import W300

from .common import TruthFace, beside, draw, jpeg, write_files

WORDS = {"train": "train", "test": "val"}  # split -> COCO's word for it
# Photo -> faces drawn in it.
PHOTOS = {"train": {9: 1, 25: 2, 30: 1}, "test": {139: 1, 285: 2, 632: 1, 724: 1}}
GREY, TURNED = 285, 632  # a photo without colours, one with an EXIF orientation
UNLABELLED = ((139, 0), (25, 1))  # photo and face of it with points of v = 0
OUTSIDE = 30  # photo whose face its left border cuts


@cache
def coco_truth() -> tuple[TruthFace, ...]:
    """The faces that count, training before test, in the order of the annotations."""
    rng = np.random.default_rng(68)
    drawn = iter(draw(W300, 9, seed=68))
    faces = []
    for split, photos in PHOTOS.items():
        for image, count in photos.items():
            pictures, found, left = [], [], 0
            for _ in range(count):
                picture, points = next(drawn)
                if image == OUTSIDE:
                    left = -int(points[:, 0].min()) - 9
                    picture = picture[:, -left:]
                found.append(np.round(points + (left, 0), 3))
                pictures.append(picture)
                left += picture.shape[1]
            photo = beside(pictures)
            if image == GREY:
                photo = cv2.cvtColor(cv2.cvtColor(photo, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
            for number, points in enumerate(found):
                visible = np.full(W300.landmarks, 2, np.uint8)
                if (image, number) in UNLABELLED:
                    visible[[0, 1, 40]] = 0
                    points[visible == 0] = np.nan
                low, high = np.nanmin(points, axis=0), np.nanmax(points, axis=0)
                # The documented box is tight, the real ones are off by up to a fifth of it.
                loose = rng.uniform(-0.1, 0.2, 4) * (high - low).max()
                rect = np.round([*(low - loose[:2]), *(high - low + loose[2:])], 2)
                faces.append(
                    TruthFace(
                        image=f"{WORDS[split]}2017/{image:012d}.jpg",
                        picture=photo,
                        points=points,
                        visible=visible,
                        split=split,
                        square=(rect[:2] + rect[2:] / 2, float(rect[2:].max())),
                        rect=rect,
                    )
                )
    return tuple(faces)


def build_coco(folder: Path) -> list[TruthFace]:
    """Write labels and pictures, unpacked; returns the faces that count, training before test."""
    faces = _write_labels(folder)
    write_files(folder, files(faces))
    return faces


def build_coco_archives(folder: Path) -> list[TruthFace]:
    """Write labels, and COCO's zip files of the pictures; returns the faces that count."""
    faces = _write_labels(folder)
    for word in WORDS.values():
        with zipfile.ZipFile(folder / f"{word}2017.zip", "w") as archive:
            for name, data in files(faces).items():
                if name.startswith(word):
                    archive.writestr(name, data)
    return faces


def _write_labels(folder: Path) -> list[TruthFace]:
    faces = list(coco_truth())
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    for split, word in WORDS.items():
        path = folder / f"annotations/coco_wholebody_{word}_v1.0.json"
        path.write_text(json.dumps(document([face for face in faces if face.split == split])))
    return faces


def files(faces: list[TruthFace]) -> dict[str, bytes]:
    """The JPEG files of the pictures, by their paths."""
    encoded = {}
    for face in faces:
        picture = face.picture
        if int(Path(face.image).stem) == GREY:
            picture = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
        encoded[face.image] = jpeg(picture)
        if int(Path(face.image).stem) == TURNED:
            exif = Image.Exif()
            exif[0x0112] = 6  # a viewer shows it on its side
            turned = io.BytesIO()
            Image.open(io.BytesIO(encoded[face.image])).save(turned, "jpeg", quality="keep", exif=exif)
            encoded[face.image] = turned.getvalue()
    return encoded


def document(faces: list[TruthFace]) -> dict[str, Any]:
    """The JSON of faces of one split; beside each stand annotations that are no faces."""
    rng = np.random.default_rng(17)
    annotations, images = [], {}
    for face in faces:
        image = int(Path(face.image).stem)
        height, width = face.picture.shape[:2]
        images[image] = {"id": image, "file_name": Path(face.image).name, "height": height, "width": width}
        # v is a real number; what is not labelled is zero.
        v = np.where(face.visible > 0, np.where(np.arange(len(face.points)) % 5, 1.0, 0.87), 0.0)
        table = np.c_[np.nan_to_num(face.points), v]
        annotations.append(person(image, rng, table, face.rect))
        annotations.append(person(image, rng))
        crowd = {"iscrowd": 1, "segmentation": {"counts": [272, 2, 4, 4], "size": [height, width]}}
        invalid = {"face_valid": False}
        annotations += [{**annotations[-2], **crowd}, {**annotations[-2], **invalid}]
        annotations.append({**annotations[-4], "face_kpts": [0.0] * 204, "face_box": [0.0] * 4})
    numbered = [{"id": 425226 + 10 * n, **annotation} for n, annotation in enumerate(annotations)]
    unused = {"id": 1, "file_name": f"{1:012d}.jpg", "height": 480, "width": 640}
    return {
        "info": {"description": "COCO-WholeBody", "version": "1.0", "year": 2020},
        "images": [unused, *images.values()],
        "annotations": numbered,
        "categories": [{"supercategory": "person", "id": 1, "name": "person"}],
    }


def person(
    image: int, rng: np.random.Generator, face: np.ndarray | None = None, box: np.ndarray | None = None
) -> dict[str, Any]:
    """A person's annotation without its id, all its other keypoints filled in.

    face: (68, 3) x, y, v, and its box x, y, w, h; None for one that was not annotated: zeros, as the
    files have them.
    """
    x, y, w, h = np.round(rng.uniform(20, 200, 4), 2).tolist()

    def keypoints(count: int) -> list[float]:
        table = np.round(rng.uniform(0, 400, (count, 3)), 6)
        table[:, 2] = np.where(rng.random(count) < 0.6, np.round(table[:, 2] / 400, 4), 0)
        return table.ravel().tolist()

    return {
        "segmentation": [np.round(rng.uniform(0, 400, 2 * rng.integers(20, 90)), 2).tolist()],
        "num_keypoints": 17,
        "area": w * h,
        "iscrowd": 0,
        "keypoints": [int(value) for value in keypoints(17)],
        "image_id": image,
        "bbox": [x, y, w, h],
        "category_id": 1,
        "face_box": [0.0] * 4 if box is None else box.tolist(),
        "lefthand_box": [x, y, w / 8, h / 8],
        "righthand_box": [x, y, w / 8, h / 8],
        "lefthand_kpts": keypoints(21),
        "righthand_kpts": keypoints(21),
        "face_kpts": [0.0] * 204 if face is None else face.ravel().tolist(),
        "face_valid": face is not None,
        "lefthand_valid": True,
        "righthand_valid": True,
        "foot_valid": True,
        "foot_kpts": keypoints(6),
    }


def write_bulk(path: Path, size: int, faces_of: int = 6) -> int:
    """A file of at least `size` bytes whose `annotations` come first; every `faces_of`th person has a
    face. Returns the number of faces. Streamed to disk, from a stock of annotations."""
    rng = np.random.default_rng(0)
    stock = []
    for number in range(12 * faces_of):
        face = np.c_[np.round(rng.uniform(100, 300, (68, 2)), 6), np.ones(68)]
        has_face = number % faces_of == 0
        text = json.dumps(person(0, rng, face, np.ones(4)) if has_face else person(0, rng))
        stock.append(text.replace('"image_id": 0', '"image_id": %d'))
    persons = 0
    with path.open("w") as file:
        file.write('{"annotations": [')
        while file.tell() < size if persons % 100 == 0 else True:
            file.write(", " * (persons > 0))
            text = stock[persons % len(stock)] % (persons // 2)
            file.write(f'{text[:-1]}, "id": {1000 + persons}}}')
            persons += 1
        file.write('], "images": [')
        for image in range(persons // 2 + 1):
            line = {
                "license": 4, "file_name": f"{image:012d}.jpg", "height": 427, "width": 640, "id": image,
                "coco_url": f"http://images.cocodataset.org/val2017/{image:012d}.jpg",
                "date_captured": "2013-11-14 17:02:52",
            }  # fmt: skip
            file.write(", " * (image > 0) + json.dumps(line))
        file.write('], "categories": [{"supercategory": "person", "id": 1, "name": "person"}]}')
    return -(-persons // faces_of)
