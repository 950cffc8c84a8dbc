"""What the readers of label files share: text, numbers, COCO JSON, and the folder of the pictures."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..core.geometry import Floats
from ..data.pictures import SUFFIXES
from ..errors import PoposError
from .tree import Pictures, Tree


@dataclass(frozen=True)
class Coco:
    """A COCO-keypoints JSON: the pictures' file names by their id, and width and height of those for which
    it has them; the annotations, and the different lists of names that its categories give to keypoints."""

    files: dict[Any, str]
    sizes: dict[Any, tuple[int, int]]
    annotations: list[dict[str, Any]]
    keypoint_names: list[tuple[str, ...]]


def read_text(path: Path) -> str:
    """A label file's text, its lines ending in "\\n". Raises PoposError."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise PoposError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise PoposError(f"{path}: cannot be read as text: {error}", "Save it as UTF-8.") from None


def shown(value: Any) -> str:
    """A value from a file as a message shows it, at most 60 characters."""
    try:
        text = repr(value) if isinstance(value, str) else str(value)
    except (ValueError, RecursionError):  # an integer of more than 4300 digits; lists in lists in lists
        return f"a {type(value).__name__} too long to show"
    return text if len(text) <= 60 else f"{text[:57]}..."


def some(names: Iterable[str]) -> str:
    """The first of many names, and how many there are."""
    every = list(names)
    more = f" ... ({len(every)} in all)" if len(every) > 6 else ""
    return ", ".join(shown(name).strip("'\"") for name in every[:6]) + more


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def to_numbers(values: Any) -> Floats | None:
    """float64, of any shape, NaN for null; None where something is no number."""
    try:
        return np.array(values, np.float64)
    except (TypeError, ValueError, OverflowError, RecursionError):  # 10**400 overflows
        return None


def to_floats(cells: Sequence[str], first: int = 1, missing: bool = False) -> Floats:
    """(n,) float64, all finite, or NaN with `missing`. `first`: what the message calls cells[0]. Raises
    ValueError."""
    try:
        values = np.array(cells, dtype=np.float64)
        right = np.isfinite(values) | (missing & np.isnan(values))
        if right.all():
            return values
        wrong = int(np.flatnonzero(~right)[0])
    except ValueError:
        wrong = next(place for place, cell in enumerate(cells) if not is_number(cell))
        raise ValueError(f"column {wrong + first}: {shown(cells[wrong])} is not a number") from None
    raise ValueError(f"column {wrong + first}: {shown(cells[wrong])} is NaN or infinite")


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
        annotations: list[dict[str, Any]] = list(data["annotations"])
        if not all(isinstance(annotation, dict) for annotation in annotations):
            raise TypeError("an annotation is no object")
    except json.JSONDecodeError as error:
        raise PoposError(f"{path}:{error.lineno}: not JSON: {error.msg}") from None
    except RecursionError:
        raise PoposError(f"{path}: not JSON that can be read: lists in lists without end") from None
    except ValueError as error:  # an integer of more than 4300 digits
        raise PoposError(f"{path}: not JSON that can be read: {error}") from None
    except (KeyError, TypeError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise PoposError(
            f"{path}: not COCO keypoints: {what}",
            "Expected images (id, file_name) and annotations (image_id, keypoints).",
        ) from None
    return Coco(files, sizes, annotations, _keypoint_names(data.get("categories")))


def _keypoint_names(categories: Any) -> list[tuple[str, ...]]:
    lists = [one.get("keypoints") for one in _list(categories) if isinstance(one, dict)]
    return list(dict.fromkeys(tuple(map(str, _list(names))) for names in lists if _list(names)))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


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
