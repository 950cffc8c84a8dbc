"""WFLW: 98 points a face, several faces a picture, in text files of one line a face.

A line of list_98pt_rect_attr_*.txt: x and y of the 98 points, x_min y_min x_max y_max of a detection box,
six attributes 0 or 1 (which are the test set's subsets), the picture's path below WFLW_images/. Coordinates
are used as they stand, as all readers do.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..core.schemes import WFLW
from .archives import Archive
from .labels import Bad, Label, Labels, checked
from .parsing import read_text, shown, to_floats
from .protocol import Benchmark
from .tree import Tree, places

# The test faces of each (the paper's counts; they also follow from the failure rates k / N that FaRL's logs
# print), in the order of the attributes.
_SUBSETS = {
    "largepose": 326, "expression": 314, "illumination": 698, "makeup": 206, "occlusion": 736, "blur": 773,
}  # fmt: skip
_POINTS = 2 * WFLW.landmarks
_FIELDS = _POINTS + 4 + len(_SUBSETS) + 1


def _list(tree: Tree, split: str) -> Path | None:
    return next(tree.files(rf"list_98pt_rect_attr_{split}\.txt"), None)


def _has_labels(tree: Tree) -> bool:
    return bool(_list(tree, "train") and _list(tree, "test"))


def _has_pictures(tree: Tree) -> bool:
    return any(len(tree.pictures(folder)) for folder in tree.folders("WFLW_images"))


def read_raw(tree: Tree) -> Labels | None:
    """The faces of the lists, training before test, in the order of the lines. Raises PoposError."""
    lists = {split: path for split in ("train", "test") if (path := _list(tree, split))}
    if not lists:
        return None
    labels = Labels.of(
        "raw", 0, [label for split, path in lists.items() for label in _read_list(path, split)]
    )
    likely = [*tree.folders("WFLW_images"), tree.root / "WFLW_images"]
    images = places(tree, [face.image.as_posix() for face in labels.faces], likely)
    faces = [replace(face, image=image) for face, image in zip(labels.faces, images, strict=True)]
    return replace(labels, faces=faces)


def _read_list(path: Path, split: str) -> list[Label | Bad]:
    """One outcome a line; `Label.image` is the path as the line has it."""
    lines = enumerate(map(str.split, read_text(path).split("\n")), start=1)
    return [_label(cells, split, f"{path.name}:{number}") for number, cells in lines if cells]


def _label(cells: list[str], split: str, source: str) -> Label | Bad:
    if len(cells) != _FIELDS:
        return Bad(source, f"{len(cells)} fields instead of {_FIELDS}")
    try:
        values = to_floats(cells[:-1])
    except ValueError as error:
        return Bad(source, str(error))
    points, box, attributes = np.split(values, [_POINTS, _POINTS + 4])
    if not ((attributes == 0) | (attributes == 1)).all():
        return Bad(source, f"its attributes are {shown(' '.join(cells[_POINTS + 4 : -1]))}, not each 0 or 1")
    subsets = [subset for subset, on in zip(_SUBSETS, attributes, strict=True) if on]
    return checked(
        Label(
            image=Path(cells[-1]),
            points=points.reshape(-1, 2),
            visible=np.full(WFLW.landmarks, 2, np.uint8),
            split=split,
            source=source,
            subsets=tuple(subsets) if split == "test" else (),
            rect=np.array([*box[:2], *(box[2:] - box[:2])]),
        )
    )


BENCHMARK = Benchmark(
    name="wflw",
    scheme=WFLW,
    splits={"train": 7500, "test": 2500},
    archives=(
        Archive(r"WFLW_annotations\.(tar\.gz|tgz|zip)", _has_labels),
        Archive(r"WFLW_images\.(tar\.gz|tgz|zip)", _has_pictures),
    ),
    wanted=(
        "Looked for list_98pt_rect_attr_train.txt and list_98pt_rect_attr_test.txt (WFLW_annotations.tar.gz) "
        "and the folder WFLW_images (WFLW_images.tar.gz; wywu.github.io/projects/LAB/WFLW.html), or mmpose's "
        "JSON or HRNet's CSV beside images/."
    ),
    read_raw=read_raw,
    subsets=_SUBSETS,
)
