"""What `popos predict` gives of each picture: its entry in the JSON document, NAME.json and an overlay."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.pictures import read_image, save_picture
from ..errors import PoposError, debugging, explained
from ..home import write_json
from .face import Face
from .overlay import draw_box, draw_points
from .predictor import Predictor, whole_image_box
from .sources import OVERLAY, written_by_predict

LONGEST_STEM = 200  # bytes of the 255 that a file's name may have


def predict_files(
    predictor: Predictor,
    paths: list[Path],
    head: dict[str, Any],
    folder: Path | None = None,
    boxes: Sequence[tuple[float, float, float, float]] = (),
    whole_image: bool = False,
) -> Iterator[tuple[dict[str, Any], list[Face]]]:
    """The JSON entry and the faces of each picture, as they are found.

    Whatever goes wrong with one picture becomes the `error` of its entry (with POPOS_DEBUG=1 what may be a
    bug is raised); the others, and faces that were found before it, are not lost. folder: where NAME.json,
    which also has the keys of `head`, and the overlays go; None writes nothing. Raises PoposError where it
    cannot be created.
    """
    if folder:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PoposError(
                f"cannot write {folder}: {error.strerror or error}", "Choose a folder you may write to."
            ) from None
    names = output_names(paths, folder)
    for path in paths:
        entry: dict[str, Any] = {"source": _as_unicode(str(path)), "frame": 0, "faces": []}
        faces: list[Face] = []
        try:
            image = read_image(path, upright=True)
            given = np.array(boxes) if boxes else None
            if whole_image:
                given = whole_image_box(image, predictor.info.crop.padding)
            try:
                faces = predictor(image, given)
            except ValueError as error:  # boxes that are not in this picture
                raise PoposError(f"{path}: {error}") from None
            height, width = image.shape[:2]
            entry |= {"width": width, "height": height, "faces": [face.to_dict() for face in faces]}
            if folder:
                write_json(folder / f"{names[path]}.json", {"images": [entry], **head})
                draw_overlay(image, faces, predictor.scheme.edges, folder / f"{names[path]}{OVERLAY}")
        except Exception as error:
            message = explained(error).message
            if not isinstance(error, PoposError):
                if debugging():
                    raise
                message = f"{path}: {message} (POPOS_DEBUG=1 shows the full report)"
            entry["error"] = _as_unicode(message)
        yield entry, faces


def draw_overlay(
    image: NDArray[np.uint8], faces: list[Face], edges: tuple[tuple[int, int], ...], path: Path
) -> None:
    """Write RGB `image` with the boxes and landmarks of `faces`."""
    canvas = image.copy()
    for face in faces:
        draw_box(canvas, face.box)
        draw_points(canvas, face.points, edges)
    save_picture(canvas, path)


def _as_unicode(text: str) -> str:
    """`text` as every reader of JSON takes it: bytes of a file's name that are no UTF-8 become \\udcNN."""
    return text.encode("utf-8", "backslashreplace").decode()


def output_names(paths: list[Path], folder: Path | None) -> dict[Path, str]:
    """A file stem for each picture. One that is taken, by another picture or a file of the user's, gets a
    number behind it."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    last: Counter[str] = Counter()  # number of each stem, so that 8,000 pictures of one stem need no search
    for path in paths:
        encoded = os.fsencode(path.stem)
        long = len(encoded) > LONGEST_STEM
        stem = encoded[:LONGEST_STEM].decode("utf-8", "ignore") if long else path.stem
        name = ""
        while not name or name.lower() in taken or (folder and _is_of_user(folder, name)):
            last[stem.lower()] += 1
            number = last[stem.lower()]
            name = stem if number == 1 else f"{stem}-{number}"
        taken.add(name.lower())
        names[path] = name
    return names


def _is_of_user(folder: Path, name: str) -> bool:
    """Whether there are files of this name that `popos predict` did not write."""
    document = folder / f"{name}.json"
    there = document.exists() or (folder / f"{name}{OVERLAY}").exists()
    return there and not written_by_predict(document)
