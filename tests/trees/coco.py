"""COCO-WholeBody as it is downloaded: annotations/coco_wholebody_*_v1.0.json, train2017/, val2017/."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from popos_cli.core.schemes import W300

from .common import TruthFace, beside, cut_left, draw, jpeg, jpeg_grey, turned, without_colour, write_archives

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
                    picture, points = cut_left(picture, points)
                found.append(np.round(points + (left, 0), 3))
                pictures.append(picture)
                left += picture.shape[1]
            photo = beside(pictures)
            if image == GREY:
                photo = without_colour(photo)
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


def build_coco(folder: Path, archives: bool = False) -> list[TruthFace]:
    """Write labels and pictures, these unpacked or as COCO's zip files; returns the faces that count."""
    faces = list(coco_truth())
    every = files(faces)
    for split, word in WORDS.items():
        text = json.dumps(document([face for face in faces if face.split == split]))
        every[f"annotations/coco_wholebody_{word}_v1.0.json"] = text.encode()
    write_archives(
        folder, every, {f"{word}2017.zip": f"{word}2017" for word in WORDS.values()} if archives else {}
    )
    return faces


def files(faces: list[TruthFace]) -> dict[str, bytes]:
    """The JPEG files of the pictures, by their paths."""
    encoded = {}
    for face in faces:
        number = int(Path(face.image).stem)
        encoded[face.image] = jpeg_grey(face.picture) if number == GREY else jpeg(face.picture)
        if number == TURNED:
            encoded[face.image] = turned(encoded[face.image])
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
    """A person's annotation without its id, with other keypoints beside the face's.

    face: (68, 3) x, y, v, and its box x, y, w, h; None for one that was not annotated: zeros, as the
    files have them.
    """
    return {
        "segmentation": [np.round(rng.uniform(0, 400, 2 * rng.integers(20, 90)), 2).tolist()],
        "iscrowd": 0,
        "keypoints": rng.integers(0, 400, 51).tolist(),
        "image_id": image,
        "bbox": np.round(rng.uniform(20, 200, 4), 2).tolist(),
        "category_id": 1,
        "face_box": [0.0] * 4 if box is None else box.tolist(),
        "face_kpts": [0.0] * 204 if face is None else face.ravel().tolist(),
        "face_valid": face is not None,
    }
