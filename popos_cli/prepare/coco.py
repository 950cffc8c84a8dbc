"""COCO-keypoints JSON, as mmpose's benchmarks and people's own labels have it."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.geometry import Floats
from ..errors import PoposError
from .labels import Bad, Label, to_visible
from .parsing import read_text, shown, to_numbers

Annotation = dict[str, Any]


@dataclass(frozen=True)
class Coco:
    """files: the pictures' names by their id; sizes: (width, height) of those for which the file has them.
    keypoint_names: the different lists of names that its categories give to keypoints."""

    path: Path
    files: dict[Any, str]
    sizes: dict[Any, tuple[int, int]]
    annotations: list[Annotation]
    keypoint_names: list[tuple[str, ...]]

    def faces(self, landmarks: int) -> Iterator[tuple[Annotation, Label | Bad]]:
        """The annotations that are faces: no crowd, and a point with v above 0.

        Points are as in the file, `Label.image` and `group` are the picture's name.
        """
        for number, annotation in enumerate(self.annotations):
            source = f"{self.path.name}#{shown(annotation.get('id', number))}"
            try:
                if face := self._face(source, annotation, landmarks):
                    yield annotation, face
            except PoposError as error:
                yield annotation, Bad(source, error.message)

    def _face(self, source: str, annotation: Annotation, landmarks: int) -> Label | None:
        """None where it is no face. Raises PoposError with what is wrong with it."""
        values = annotation.get("keypoints")
        if annotation.get("iscrowd") or values in (None, []):
            return None
        points, visible = keypoints(values, landmarks)
        if not visible.any():
            return None
        image = annotation.get("image_id")
        name = self.files.get(image) if isinstance(image, Hashable) else None
        if name is None:
            raise PoposError(f"image_id {shown(image)} is not among the images")
        return Label(Path(name), points, visible, source, size=self.sizes.get(image), group=name)


def keypoints(values: Any, landmarks: int) -> tuple[Floats, NDArray[np.uint8]]:
    """Points (K, 2), NaN where not labelled, and visible (K,) of x, y, v, x, y, ... Raises PoposError."""
    if not isinstance(values, list):
        raise PoposError("its keypoints are no list")
    if len(values) != 3 * landmarks:
        raise PoposError(f"{len(values)} keypoint values instead of {3 * landmarks}")
    table = to_numbers(values)
    if table is None or table.shape != (3 * landmarks,):
        raise PoposError("a keypoint is not a number")
    x_y, v = np.split(table.reshape(-1, 3), [2], axis=1)
    visible = to_visible(v[:, 0])
    return np.where(visible[:, None] > 0, x_y, np.nan), visible


def bbox(annotation: Annotation, key: str = "bbox") -> Floats | None:
    """x, y, w, h; None where there is none, which some tools write as zeros. Raises PoposError."""
    given = annotation.get(key)
    box = to_numbers(given) if given else np.zeros(4)
    if box is None or box.shape != (4,) or not np.isfinite(box).all():
        raise PoposError(f"its {key} is {shown(given)}, not four numbers")
    if box.any() and not box[2:].min() > 0:
        raise PoposError(f"its {key} has no size: {box[2]:g} x {box[3]:g}")
    return box if box.any() else None


def read_coco(path: Path) -> Coco:
    """Raises PoposError."""
    try:
        data = json.loads(read_text(path))
        if not isinstance(data, dict):
            raise TypeError("its top level is no object")
        files: dict[Any, str] = {}
        sizes: dict[Any, tuple[int, int]] = {}
        for image in data["images"]:
            name = str(image["file_name"])
            if files.setdefault(image["id"], name) != name:
                raise TypeError(f"two images have the id {shown(image['id'])}")
            width, height = image.get("width"), image.get("height")
            if isinstance(width, int) and isinstance(height, int) and min(width, height) > 0:
                sizes[image["id"]] = width, height
        annotations: list[Annotation] = list(data["annotations"])
        if not all(isinstance(annotation, dict) for annotation in annotations):
            raise TypeError("an annotation is no object")
    except (ValueError, RecursionError) as error:  # also an integer of more than 4300 digits
        line, what = "", str(error)
        if isinstance(error, json.JSONDecodeError):
            line, what = f":{error.lineno}", error.msg
        raise PoposError(f"{path}{line}: not JSON: {what}") from None
    except (KeyError, TypeError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise PoposError(
            f"{path}: not COCO keypoints: {what}",
            "Expected images (id, file_name) and annotations (image_id, keypoints).",
        ) from None
    categories = [one for one in _as_list(data.get("categories")) if isinstance(one, dict)]
    names = [tuple(map(str, _as_list(one.get("keypoints")))) for one in categories]
    return Coco(path, files, sizes, annotations, list(dict.fromkeys(filter(None, names))))


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
