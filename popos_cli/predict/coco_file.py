"""COCO keypoints of `popos predict`: labelling tools import them, `popos prepare-data custom` reads them."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..core.schemes import Scheme
from ..errors import PoposError
from ..home import replacing
from .entries import as_unicode
from .face import Face
from .pipeline import Result

LABELLED = 2  # COCO's v of a point that is labelled and visible


class CocoFile:
    """The pictures that could be read, each with its faces. The file is written at the end, whole; until then
    the annotations are in a file without a name beside it, so that they need no memory.

    Coordinates are those of all outputs, 0-based pixel centres of the upright picture, which is how COCO's
    own keypoints count and `prepare-data` reads them. No file is ever replaced, for people correct them.
    Raises PoposError where there is one, or it cannot be written.
    """

    def __init__(self, path: Path, head: dict[str, Any], scheme: Scheme) -> None:
        if os.path.lexists(path):
            raise PoposError(f"{path} exists already", "Choose another name with --coco.")
        info = {"description": "Facial landmarks by popos predict"}
        self.path, self.head = path, info | {key: head[key] for key in ("weights", "scheme")}
        self.category = category(scheme)
        self.images: list[dict[str, Any]] = []
        self.faces = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.annotations = tempfile.TemporaryFile("w+", encoding="utf-8", dir=path.parent)  # noqa: SIM115
        except OSError as error:
            raise PoposError(
                f"cannot write {path}: {error.strerror or error}", "Choose a place you may write to."
            ) from None

    def write(self, result: Result) -> None:
        if not result.frame:
            return
        height, width = result.frame.image.shape[:2]
        number = len(self.images) + 1
        name = file_name(result.source.name, self.path.parent)
        self.images.append({"id": number, "file_name": name, "width": width, "height": height})
        for face in result.faces:
            self.annotations.write(",\n" if self.faces else "\n")
            self.faces += 1
            self.annotations.write(json.dumps({"id": self.faces, "image_id": number} | annotation(face)))

    def close(self) -> None:
        """Write the file, unless no picture was read. Raises PoposError where that fails."""
        with self.annotations:
            if self.images:
                with replacing(self.path) as temporary, temporary.open("w", encoding="utf-8") as file:
                    images = ",\n".join(map(json.dumps, self.images))
                    file.write(f'{{"info": {json.dumps(self.head)},\n"licenses": [],\n')
                    file.write(f'"categories": [{json.dumps(self.category)}],\n')
                    file.write(f'"images": [\n{images}],\n"annotations": [')
                    self.annotations.seek(0)
                    shutil.copyfileobj(self.annotations, file)
                    file.write("]}\n")


def category(scheme: Scheme) -> dict[str, Any]:
    """A landmark that the scheme does not name is called by its number. The skeleton counts from 1."""
    return {
        "id": 1,
        "name": "face",
        "supercategory": "person",
        "keypoints": [name or str(number) for number, name in enumerate(scheme.names)],
        "skeleton": [[a + 1, b + 1] for a, b in scheme.edges],
    }


def annotation(face: Face) -> dict[str, Any]:
    """What COCO has of a face. bbox: around the landmarks, as tools compute it when points are moved."""
    plain = face.to_dict()
    points = np.array(plain["landmarks"])
    x, y, width, height = np.round([*points.min(0), *np.ptp(points, axis=0)], 3).tolist()
    return {
        "category_id": 1,
        "keypoints": [value for point in plain["landmarks"] for value in (*point, LABELLED)],
        "num_keypoints": len(points),
        "bbox": [x, y, width, height],
        "area": round(width * height, 3),
        "iscrowd": 0,
        "segmentation": [],
        **({} if plain["score"] is None else {"score": plain["score"]}),
    }


def file_name(picture: str, folder: Path) -> str:
    """The picture's path from the folder of the COCO file on, with slashes; in full on another drive."""
    path, here = os.path.abspath(picture), os.path.abspath(folder)
    if not Path(path).is_relative_to(here):  # up from a link to a folder is not where it stands
        path, here = os.path.realpath(path), os.path.realpath(here)
    with suppress(ValueError):  # another drive of Windows
        path = os.path.relpath(path, here)
    return as_unicode(Path(path).as_posix())
