"""Labels -> faces whose picture was read -> index: the same path for benchmarks, own data and drawn faces."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..core.geometry import tight_square
from ..core.schemes import Scheme
from ..data.index import Index
from ..data.pictures import read_with_orientation
from ..data.threads import in_threads
from ..errors import PoposError
from ..progress import Advance
from .labels import Bad, Label, LabelledFace, Labels, Size, Square, refuse_far
from .options import Orientation
from .remarks import remarks_on_orientation, remarks_on_sizes

# Takes a label to the pixels of its picture and gives the square to crop. Raises PoposError.
OnPicture = Callable[[Label, Size], tuple[Label, Square]]


def as_given(label: Label, size: Size) -> tuple[Label, Square]:
    """A benchmark's label: in pixels already, its square given or around the points."""
    return label, label.square or tight_square(label.points)


@dataclass(frozen=True)
class Source:
    """Labels that were found below ROOT, and what is special about them on the way to the index.

    root: what pictures are named from, by default the folder that all of them have in common. subsets: names
    in the order of the index. notes, notes_on: added to the index's; the second once all faces are known.
    finish: changes the faces then. remark_on: what a user should know of the faces. spare: so many pictures
    that do not decode are left out unasked.
    """

    labels: Labels
    scheme: Scheme
    on_picture: OnPicture = as_given
    finish: Callable[[list[LabelledFace]], list[LabelledFace]] = lambda faces: faces
    remark_on: Callable[[Sequence[LabelledFace]], list[str]] = remarks_on_sizes
    spare: int = 0
    root: Path | None = None
    subsets: Sequence[str] = ()
    notes: dict[str, Any] = field(default_factory=dict)
    notes_on: Callable[[Sequence[LabelledFace]], dict[str, Any]] = lambda faces: {}


@dataclass(frozen=True)
class Assembled:
    """The index of the good faces, None where there are none, before faces are held back for validation; the
    labels that keep it from being written without --skip-bad; those that are left out unasked; remarks."""

    index: Index | None
    bad: list[Bad]
    left_out: list[Bad]
    remarks: list[str]


def assemble(
    name: str, source: Source, orientation: Orientation, advance: Advance | None = None
) -> Assembled:
    """Read the pictures of all labels, and build the index of the faces.

    orientation: of the pixels that the labels refer to. `advance`: called with (pictures decoded, pictures in
    all); each is decoded once.
    """

    def read(path: Path) -> tuple[Size, int] | str:
        try:
            picture, turned = read_with_orientation(path, orientation == "upright")
            return (picture.shape[1], picture.shape[0]), turned
        except PoposError as error:
            return error.message

    labels = source.labels
    paths = sorted({label.image for label in labels.faces})
    pictures = dict(zip(paths, in_threads(read, paths, advance), strict=True))
    faces: list[LabelledFace] = []
    undecodable, bad = [], list(labels.bad)
    for label in labels.faces:
        found = pictures[label.image]
        if isinstance(found, str):
            undecodable.append(Bad(label.source, found))
            continue
        try:
            placed, square = source.on_picture(label, found[0])
            refuse_far(placed, square, found[0])
            faces.append(LabelledFace(placed, found[0], square, found[1]))
        except PoposError as error:
            bad.append(Bad(label.source, error.message))
    if len({row.reason for row in undecodable}) > source.spare:  # which names the picture
        bad, undecodable = bad + undecodable, []
    faces = source.finish(faces)
    index = None
    if faces:
        whole = [] if bad or undecodable or labels.missing else sorted(labels.whole)
        index = build_index(
            name, source.scheme, faces, source.root, source.subsets,
            importer=labels.kind, coordinate_base=labels.base, orientation=orientation,
            skipped=len(bad) + len(undecodable), whole=whole, **source.notes,
            **source.notes_on(faces),
        )  # fmt: skip
    remarks = [*labels.remarks, *source.remark_on(faces), *remarks_on_orientation(faces, orientation)]
    return Assembled(index, bad, undecodable, remarks)


def build_index(
    name: str, scheme: Scheme, faces: Sequence[LabelledFace], root: Path | None = None,
    subsets: Sequence[str] = (), **notes: Any,
) -> Index:  # fmt: skip
    """The index of at least one face. root: what pictures are named from, by default the folder that all of
    them have in common."""
    labels = [face.label for face in faces]
    root = root or Path(os.path.commonpath({label.image.parent for label in labels}))
    unknown = np.full(4, np.nan)
    return Index(
        name=name,
        scheme=scheme,
        root=root,
        image=np.array([_below(label.image, root) for label in labels]),
        size=np.array([face.size for face in faces], np.int32),
        points=np.stack([label.points for label in labels]),
        visible=np.stack([label.visible for label in labels]),
        center=np.stack([face.square[0] for face in faces]),
        side=np.array([face.square[1] for face in faces]),
        split=np.array([label.split for label in labels]),
        group=np.array([label.group for label in labels]),
        source=np.array([label.source for label in labels]),
        subset=np.array([[subset in label.subsets for subset in subsets] for label in labels], bool),
        rect=np.stack([unknown if label.rect is None else label.rect for label in labels]),
        subsets=tuple(subsets),
        notes=notes,
    )


def _below(path: Path, root: Path) -> str:
    """`path` from `root` on; a label file may also name pictures elsewhere, by their full path."""
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
