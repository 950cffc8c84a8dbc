"""What the readers of label files share: text, numbers, COCO JSON, and the folder of the pictures."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ...core.geometry import Floats
from ...errors import PoposError
from ...sources import SUFFIXES
from ..tree import Pictures, Tree


def read_text(path: Path) -> str:
    """A label file's text, its lines ending in "\\n". Raises PoposError."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PoposError(f"{path}: cannot be read as text: {error}") from None


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def to_floats(cells: Sequence[str], first: int = 1) -> Floats:
    """(n,) float64, all finite. `first`: what the message calls cells[0]. Raises ValueError."""
    try:
        values = np.array(cells, dtype=np.float64)
        finite = np.isfinite(values)
        if finite.all():
            return values
        wrong = int(np.flatnonzero(~finite)[0])
    except ValueError:
        wrong = next(place for place, cell in enumerate(cells) if not is_number(cell))
        raise ValueError(f"column {wrong + first}: {cells[wrong]!r} is not a number") from None
    raise ValueError(f"column {wrong + first}: {cells[wrong]!r} is NaN or infinite")


def read_coco(path: Path) -> tuple[dict[Any, str], list[dict[str, Any]]]:
    """The file names of a COCO-keypoints JSON by image id, and its annotations. Raises PoposError."""
    try:
        data = json.loads(read_text(path))
        if not isinstance(data, dict):
            raise TypeError("its top level is no object")
        names = {image["id"]: str(image["file_name"]) for image in data["images"]}
        annotations: list[dict[str, Any]] = list(data["annotations"])
        if not all(isinstance(annotation, dict) for annotation in annotations):
            raise TypeError("an annotation is no object")
    except json.JSONDecodeError as error:
        raise PoposError(f"{path}:{error.lineno}: not JSON: {error.msg}") from None
    except (KeyError, TypeError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise PoposError(
            f"{path}: not COCO keypoints: {what}",
            "Expected images (id, file_name) and annotations (image_id, keypoints).",
        ) from None
    return names, annotations


def is_inside(name: str) -> bool:
    """Whether a label's picture name means something below the folder of the pictures."""
    path = PurePosixPath(name)
    return bool(path.name) and not path.is_absolute() and ".." not in path.parts


def find_pictures(tree: Tree, names: Iterable[str], likely: Sequence[Path]) -> Pictures:
    """The pictures below the folder that has most of `names`: one of `likely` or any in the tree.

    Of equals the earlier of `likely` wins, then the shallowest; where there are none of the pictures it
    is the first of `likely`.
    """
    wanted: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for name in names:
        *above, file = PurePosixPath(name.lower()).parts or ("",)
        wanted[tuple(above)].add(_stem(file))
    depths = {len(above) for above in wanted}
    scores: Counter[Path] = Counter()
    for folder, files in tree.listing.items():
        parts = tuple(part.lower() for part in folder.parts)
        for depth in depths:
            stems = wanted.get(parts[len(parts) - depth :]) if depth < len(parts) else None
            if stems:
                pictures = (file for file in files if os.path.splitext(file)[1].lower() in SUFFIXES)
                there = stems.intersection(map(_stem, pictures))
                scores[folder.parents[depth - 1] if depth else folder] += len(there)
    others = sorted(scores, key=lambda folder: (len(folder.parts), folder))
    return tree.pictures(max((*likely, *others), key=lambda folder: scores[folder]))


def _stem(file: str) -> str:
    """A file's name as loosely as `Pictures.find` reads it."""
    return os.path.splitext(file.lower().replace(" ", ""))[0]
