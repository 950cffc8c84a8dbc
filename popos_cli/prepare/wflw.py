"""WFLW: 98 points a face, several faces a picture, in text files of one line a face.

A line of list_98pt_rect_attr_*.txt: x and y of the 98 points, x_min y_min x_max y_max of a detection box,
six attributes 0 or 1 (which are the test set's subsets), the picture's path below WFLW_images/. Those of
list_98pt_test*.txt have points and path alone. Coordinates are used as they stand, as all readers do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..core.schemes import WFLW
from .archives import Archive
from .files import find_pictures, is_inside, read_text, shown, to_floats
from .labels import Bad, Label, Labels, flaw
from .tree import Tree

# In the order of the attributes.
_SUBSETS = ("largepose", "expression", "illumination", "makeup", "occlusion", "blur")
_POINTS = 2 * WFLW.landmarks


def _list(name: str) -> Callable[[Tree], Path | None]:
    return lambda tree: next(tree.files(rf"list_98pt_{name}\.txt"), None)


_TRAIN, _TEST, _PLAIN_TEST = _list("rect_attr_train"), _list("rect_attr_test"), _list("test")


def _has_labels(tree: Tree) -> bool:
    return bool(_TRAIN(tree) and (_TEST(tree) or _PLAIN_TEST(tree)))


def _has_pictures(tree: Tree) -> bool:
    return any(len(tree.pictures(folder)) for folder in tree.folders("WFLW_images"))


ARCHIVES = (
    Archive(r"WFLW_annotations\.(tar\.gz|tgz|zip)", _has_labels),
    Archive(r"WFLW_images\.(tar\.gz|tgz|zip)", _has_pictures),
)
WANTED = (
    "Looked for list_98pt_rect_attr_train.txt and list_98pt_rect_attr_test.txt (WFLW_annotations.tar.gz) "
    "and the folder WFLW_images (WFLW_images.tar.gz; wywu.github.io/projects/LAB/WFLW.html), or mmpose's "
    "JSON or HRNet's CSV beside images/."
)


def read_raw(tree: Tree) -> Labels | None:
    """The faces of the lists, training before test, in the order of the lines.

    The test faces' subsets are their attributes; where only list_98pt_test.txt is there, those of the
    lists list_98pt_test_*.txt that have the same points on the same picture. Raises PoposError.
    """
    train, test, plain = _TRAIN(tree), _TEST(tree), _PLAIN_TEST(tree)
    outcomes: list[Label | Bad] = []
    if train:
        outcomes += _read_list(train, "train")
    if test:
        outcomes += _read_list(test, "test")
    elif plain:
        outcomes += _with_subsets(tree, _read_list(plain, "test", attributes=False))
    any_list = train or test or plain
    if any_list is None:
        return None
    faces = [outcome for outcome in outcomes if isinstance(outcome, Label)]
    bad = [outcome for outcome in outcomes if isinstance(outcome, Bad)]
    likely = [*tree.folders("WFLW_images"), _beside(any_list)]
    pictures = find_pictures(tree, {str(face.image) for face in faces}, likely)
    placed = []
    for face in faces:
        name = face.image.as_posix()
        placed.append(replace(face, image=pictures.find(name) or pictures.folder / name))
    return Labels("raw", placed, base=0, crop="tight", bad=bad)


def _beside(path: Path) -> Path:
    """Where WFLW_images should be, as a neighbour of the folder of the annotations."""
    folder = path.parent
    while folder.name.lower().startswith(("list_98pt", "wflw_annotations")):
        folder = folder.parent
    return folder / "WFLW_images"


def _read_list(path: Path, split: str, attributes: bool = True) -> list[Label | Bad]:
    """One outcome a line; `Label.image` is the path as the line has it."""
    fields = _POINTS + (4 + len(_SUBSETS) if attributes else 0) + 1
    outcomes: list[Label | Bad] = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        cells = line.split()
        if cells:
            source = f"{path.name}:{number}"
            outcomes.append(_label(cells, fields, split, source))
    return outcomes


def _label(cells: list[str], fields: int, split: str, source: str) -> Label | Bad:
    if len(cells) != fields:
        return Bad(source, f"{len(cells)} fields instead of {fields}")
    try:
        values = to_floats(cells[:-1])
    except ValueError as error:
        return Bad(source, str(error))
    points, box, attributes = np.split(values, [_POINTS, _POINTS + 4])
    points = points.reshape(-1, 2)
    visible = np.full(WFLW.landmarks, 2, np.uint8)
    if wrong := flaw(points, visible):
        return Bad(source, wrong)
    if not ((attributes == 0) | (attributes == 1)).all():
        return Bad(source, f"its attributes are {shown(' '.join(cells[_POINTS + 4 : -1]))}, not each 0 or 1")
    if not is_inside(cells[-1]):
        return Bad(source, f"{shown(cells[-1])} is not the name of a picture")
    test = split == "test"
    return Label(
        image=Path(cells[-1]),
        points=points,
        visible=visible,
        split=split,
        source=source,
        subsets=tuple(s for s, on in zip(_SUBSETS, attributes, strict=False) if on and test),
        rect=np.array([*box[:2], *(box[2:] - box[:2])]) if len(box) else None,
    )


def _with_subsets(tree: Tree, outcomes: list[Label | Bad]) -> Iterator[Label | Bad]:
    """The outcomes of list_98pt_test.txt, each face with the subsets whose lists have it.

    The lists have no ids, and one picture may have several faces: picture and all points must agree.
    """
    members: dict[tuple[Path, bytes], list[str]] = {
        (face.image, face.points.tobytes()): [] for face in outcomes if isinstance(face, Label)
    }
    for subset in _SUBSETS:
        path = _list(f"test_{subset}")(tree)
        for face in _read_list(path, "test", attributes=False) if path else []:
            key = (face.image, face.points.tobytes()) if isinstance(face, Label) else None
            if isinstance(face, Bad):
                yield face
            elif key in members:
                members[key].append(subset)
            else:
                yield Bad(face.source, "this face is not in list_98pt_test.txt")
    for face in outcomes:
        if isinstance(face, Label):
            face = replace(face, subsets=tuple(members[face.image, face.points.tobytes()]))
        yield face
