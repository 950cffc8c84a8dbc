"""COCO-WholeBody's faces: 68 points in 300W's order on the persons of COCO 2017.

A person's annotation has `face_kpts`, 68 times x, y, v (v > 0: labelled), `face_box` x, y, w, h and
`face_valid`; a face that was not annotated has zeros. Coordinates are 0-based. The training file has
3.2 GB, so the files are streamed and only what becomes a face is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..core.schemes import W300
from ..errors import PoposError
from .archives import Archive
from .coco import bbox, keypoints
from .labels import Bad, Label, Labels, Size, box_square, checked
from .parsing import shown
from .protocol import Benchmark
from .tree import Tree

# Split -> COCO's word for it.
_SPLITS = {"train": "train", "test": "val"}
# Split -> pictures that the official file lists, and people in them who are no crowd: those of COCO 2017's
# person keypoints, which COCO-WholeBody contains. How many of the faces are valid is published nowhere.
_OFFICIAL = {"train": (118_287, 257_253), "test": (5_000, 10_777)}
_AGAIN = "Download it again (github.com/jin-s13/COCO-WholeBody)."


def _json(tree: Tree, word: str) -> Path | None:
    return next(tree.files(rf"coco_wholebody_{word}_v1\.0\.json"), None)


def _folder(tree: Tree, word: str) -> Path | None:
    """The folder train2017 or val2017 that has the most pictures right in it."""
    folders = [f for f in tree.folders(f"{word}2017") if any(n.endswith(".jpg") for n in tree.listing[f])]
    return max(folders, key=lambda folder: len(tree.listing[folder]), default=None)


def _unneeded(word: str) -> Callable[[Tree], bool]:
    """Whether the pictures are there, or their labels are not: 19 GB are not unpacked for nothing."""
    return lambda tree: bool(_folder(tree, word)) or not _json(tree, word)


def read_raw(tree: Tree) -> Labels | None:
    """The annotated faces, training before test, in the order of the files.

    A face counts as mmpose has it: no crowd, face_valid, not all zeros. Points with v = 0 are not
    labelled. Raises PoposError for a file that is no JSON or not COCO-WholeBody's.
    """
    files = {split: path for split, word in _SPLITS.items() if (path := _json(tree, word))}
    outcomes: list[Label | Bad] = []
    whole = set()
    for split, path in files.items():
        word = _SPLITS[split]
        folder = _folder(tree, word) or tree.root / f"{word}2017"
        faces, people = _read_faces(path, split)
        pictures = _read_pictures(path)
        if len(pictures) == _OFFICIAL[split][0] and people >= _OFFICIAL[split][1]:
            whole.add(split)
        for face in faces:
            if isinstance(face, Label):
                name, size = pictures.get(int(face.image.stem), (face.image.name, None))
                face = replace(face, image=folder / name, size=size)
            outcomes.append(face)
    return Labels.of("raw", 0, outcomes, whole=frozenset(whole)) if files else None


def _items(path: Path, prefix: str) -> Iterator[Any]:
    """What a JSON file has at an ijson prefix, one item at a time. Raises PoposError."""
    import ijson

    try:
        with path.open("rb") as file:
            try:
                yield from ijson.items(file, prefix, use_float=True)
            except (ijson.JSONError, UnicodeDecodeError) as error:
                reason = error.args[0] if error.args else error  # bytes where they are no UTF-8
                text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(error)
                what = text.partition("\n")[0]
                raise PoposError(f"{path}: not JSON near byte {file.tell()}: {what}", _AGAIN) from None
    except OSError as error:
        raise PoposError(f"{path}: cannot be read: {error.strerror or error}") from None


def _read_faces(path: Path, split: str) -> tuple[list[Label | Bad], int]:
    """The faces, `Label.image` being the bare name that COCO gives the picture, and how many people are
    annotated."""
    faces: list[Label | Bad] = []
    people = number = 0
    for number, annotation in enumerate(_items(path, "annotations.item"), start=1):
        if not isinstance(annotation, dict):
            faces.append(Bad(f"{path.name}#{number}", "the annotation is no object"))
            continue
        people += "face_kpts" in annotation
        if annotation.get("face_valid") and not annotation.get("iscrowd"):
            face = _face(f"{path.name}#{shown(annotation.get('id'))}", split, annotation)
            faces += [face] if face else []
    if not people:
        what = "face_kpts in its annotations" if number else "annotations"
        raise PoposError(f"{path}: it has no {what}, so it is not COCO-WholeBody's", _AGAIN)
    return faces, people


def _face(source: str, split: str, annotation: dict[str, Any]) -> Label | Bad | None:
    """None where no point is labelled (all are zeros)."""
    image = annotation.get("image_id")
    if not isinstance(image, int) or not 0 <= image < 10**12:
        return Bad(source, f"its image_id is {shown(image)}")
    try:
        points, visible = keypoints(annotation.get("face_kpts"), W300.landmarks)
        if not visible.any():
            return None
        box = bbox(annotation, "face_box")
    except PoposError as error:
        return Bad(source, error.message)
    if box is None:
        return Bad(source, "it has no face_box")
    return checked(
        Label(
            image=Path(f"{image:012d}.jpg"),
            points=points,
            visible=np.where(visible > 0, 2, 0).astype(np.uint8),  # v = 1 says that a point is labelled
            split=split,
            source=source,
            square=box_square(box),  # mmpose 0.x's rule: not clipped
            rect=box,
        )
    )


def _read_pictures(path: Path) -> dict[int, tuple[str, Size]]:
    """File name, and width and height, of the pictures by id. Raises PoposError."""
    images: Any = next(_items(path, "images"), [])  # 118,287 of them: 150 MB; what comes after is not read
    try:  # the pictures lie flat in their folder
        return {
            image["id"]: (PurePosixPath(image["file_name"]).name, (image["width"], image["height"]))
            for image in images
        }
    except (TypeError, KeyError) as error:
        raise PoposError(f"{path}: an entry of images is not COCO's: {error}", _AGAIN) from None


BENCHMARK = Benchmark(
    name="coco-face",
    scheme=W300,
    splits={"train": None, "test": None},
    archives=tuple(Archive(rf"{word}2017\.zip", _unneeded(word)) for word in _SPLITS.values()),
    wanted=(
        "Looked for coco_wholebody_train_v1.0.json and coco_wholebody_val_v1.0.json "
        "(github.com/jin-s13/COCO-WholeBody) and the folders train2017 and val2017 (cocodataset.org)."
    ),
    read_raw=read_raw,
)
