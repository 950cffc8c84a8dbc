"""A benchmark's download -> index: find its labels, count them, decode every picture.

To add a benchmark: a reader like w300.py, a line in `READERS`, and its splits and counts in protocol.py.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..core.geometry import tight_square
from ..data.index import Index
from ..data.pictures import read_with_orientation
from ..data.threads import Advance, in_threads
from ..errors import PoposError
from ..home import extracted_folder
from . import aflw, coco_face, cofw, w300, wflw
from .archives import Archive, unpack_missing
from .converted import read_converted
from .labels import Bad, Label, Labels, out_of_reach
from .protocol import BENCHMARKS, Benchmark
from .remarks import turned_remark
from .splits import split_groups
from .tree import Tree


class Reader(Protocol):
    """What a benchmark's module has to have."""

    @property
    def ARCHIVES(self) -> Sequence[Archive]:
        """The download's archives, and when each is no longer needed."""

    @property
    def WANTED(self) -> str:
        """What is looked for and where to get it, for a user who has none of it."""

    def read_raw(self, tree: Tree) -> Labels | None:
        """The labels below a folder, None where there are none. Raises PoposError."""


READERS: Mapping[str, Reader] = {
    "300w": w300, "wflw": wflw, "cofw": cofw, "aflw": aflw, "coco-face": coco_face,
}  # fmt: skip
# A download of 20,000 photos may have a few that do not decode (one, in a public run on AFLW).
MOST_UNDECODABLE = 5
# AFW and HELEN give each face of a photo a file of its own: 134212_1.jpg, 134212_2.jpg.
_FACE_OF_PHOTO = re.compile(r"(^|/)(\d+)_\d+(?=\.\w+$)")


@dataclass(frozen=True)
class Count:
    """A line of the table "expected, found"; expected None: it is published nowhere. depth 0 is a split, 1
    its subsets and the folders of its download. optional: may be absent as a whole."""

    name: str
    depth: int
    expected: int | None
    found: int
    optional: bool = False

    @property
    def right(self) -> bool:
        if self.expected is None:
            return self.found > 0
        return self.found == self.expected or (self.optional and not self.found)


def find_labels(
    name: str, root: Path, announce: Callable[[str], None] = lambda archive: None
) -> tuple[Labels, list[Count]]:
    """The labels of benchmark `name` below `root`, and how many of what should be there.

    Looked for in turn: the official download (archives are unpacked below POPOS_HOME), mmpose's JSON,
    HRNet's CSV. The first whose counts are right, else the one with most faces. `announce` is called with
    the name of each archive before it is unpacked. Raises PoposError where there is nothing, or an archive
    is broken.
    """
    benchmark, reader = BENCHMARKS[name], READERS[name]
    if not root.exists():
        raise PoposError(f"{root}: no such file or folder")
    root = root.resolve()
    tree = unpack_missing(reader.ARCHIVES, Tree.below(root), extracted_folder(name), announce)
    found: list[tuple[Labels, list[Count]]] = []
    for read in (
        reader.read_raw,
        lambda tree: read_converted(benchmark, "mmpose", tree),
        lambda tree: read_converted(benchmark, "hrnet", tree),
    ):
        if labels := read(tree):
            labels = _without_missing(labels)
            found.append((labels, count(benchmark, labels.faces)))
            if all(line.right for line in found[-1][1]):
                return found[-1]
    if not found:
        raise PoposError(f"{root}: nothing of {name} was found here or below", reader.WANTED)
    return max(found, key=lambda pair: pair[0].labelled)


def _without_missing(labels: Labels) -> Labels:
    """The labels with those set apart whose picture is not there; each picture is looked up once."""
    there = {image for image in {face.image for face in labels.faces} if os.path.isfile(image)}
    missing = [face for face in labels.faces if face.image not in there]
    return replace(labels, faces=[face for face in labels.faces if face.image in there], missing=missing)


def count(benchmark: Benchmark, faces: Sequence[Label]) -> list[Count]:
    """Faces by split, subset and folder, beside what there should be."""
    splits = Counter(face.split for face in faces)
    subsets = Counter(subset for face in faces for subset in face.subsets)
    parts = Counter((face.split, face.part) for face in faces if face.part)
    lines = []
    for split, expected in benchmark.splits.items():
        optional = split in benchmark.optional
        lines.append(Count(split, 0, expected, splits[split], optional))
        if split == "test":
            lines += [Count(name, 1, n, subsets[name]) for name, n in benchmark.subsets.items()]
        if parts:
            for part, expected in benchmark.parts.get(split, {}).items():
                lines.append(Count(part, 1, expected, parts[split, part], optional))
    return lines


def check_counts(name: str, root: Path, labels: Labels, counts: Sequence[Count]) -> None:
    """Raises PoposError where something of the benchmark is not there, naming the first of it."""
    wrong = [
        f"{line.name}: {line.found} of {'any' if line.expected is None else line.expected}"
        for line in counts
        if not line.right
    ]
    if labels.missing:
        wrong.append(describe_missing(labels))
    if wrong:
        raise PoposError(
            f"{root}: {name} is not complete: {'; '.join(wrong[:4])}; nothing was written",
            f"Put the rest below {root}, or go on with what is there: popos prepare-data {name} {root} "
            "--allow-partial.",
        )


def describe_missing(labels: Labels) -> str:
    """How many faces of the labels have no picture, and the first of them."""
    first = labels.missing[0]
    return f"{len(labels.missing)} pictures are missing, first {first.image} ({first.source})"


def build_index(
    dataset: str, labels: Labels, *, name: str, skip_bad: bool, partial: bool, val_fraction: float = 0.0,
    seed: int | None = None, upright: bool = False, advance: Advance | None = None,
) -> tuple[Index, list[Bad], list[str]]:  # fmt: skip
    """The index of the faces whose picture decodes; what was left out: pictures that do not decode, and
    faces that lie far outside theirs; and remarks.

    labels: as `find_labels` gives them. upright: they were made on the pictures as EXIF turns them.
    val_fraction, seed: see `_hold_back`. `advance` is called with (pictures decoded, pictures in all).
    Raises PoposError for bad labels (unless skip_bad), for more than five undecodable pictures (unless
    skip_bad), and where no face is left.
    """

    def refuse(bad: Sequence[Bad], what: str) -> None:
        if bad and not skip_bad:
            raise PoposError(
                f"{dataset}: {len(bad)} {what} (first: {bad[0]}); nothing was written",
                f"Unpack or download them again, or leave them out: popos prepare-data {dataset} ROOT "
                "--skip-bad",
            )

    refuse(labels.bad, f"of {len(labels.bad) + labels.labelled} labels are bad")
    sizes, orientations, undecodable = _decode({face.image for face in labels.faces}, upright, advance)
    if len(undecodable) > MOST_UNDECODABLE:
        refuse(undecodable, "pictures cannot be decoded")
    decoded = [face for face in labels.faces if face.image in sizes]
    kept, far = _within_reach(decoded, sizes)
    refuse(far, f"of {len(decoded)} labels lie far outside their picture")
    if not kept:
        raise PoposError(f"{dataset}: no face is left; nothing was written")
    whole = [] if labels.bad or labels.missing or undecodable or far else sorted(labels.whole)
    notes = {
        "benchmark": dataset, "importer": labels.kind, "coordinate_base": labels.base, "crop": labels.crop,
        "partial": partial, "whole": whole, "skipped": len(labels.bad),
        "undecodable": [bad.source for bad in undecodable], "orientation": "upright" if upright else "stored",
    }  # fmt: skip
    index = _to_index(name, BENCHMARKS[dataset], kept, sizes, notes)
    index = replace(index, split=_hold_back(index, val_fraction, seed))
    return index, [*undecodable, *far], _remarks(kept, sizes, orientations, upright)


def _to_index(
    name: str, benchmark: Benchmark, faces: Sequence[Label], sizes: Mapping[Path, tuple[int, int]],
    notes: dict[str, object],
) -> Index:  # fmt: skip
    root = Path(os.path.commonpath({face.image.parent for face in faces}))
    squares = [face.square or tight_square(face.points) for face in faces]
    no_rect = np.full(4, np.nan)
    return Index(
        name=name,
        scheme=benchmark.scheme,
        root=root,
        image=np.array([face.image.relative_to(root).as_posix() for face in faces]),
        size=np.array([sizes[face.image] for face in faces], np.int32),
        points=np.stack([face.points for face in faces]),
        visible=np.stack([face.visible for face in faces]),
        center=np.stack([center for center, _ in squares]),
        side=np.array([side for _, side in squares]),
        split=np.array([face.split for face in faces]),
        group=np.array([""] * len(faces)),  # benchmarks do not say who is who
        source=np.array([face.source for face in faces]),
        subset=np.array([[s in face.subsets for s in benchmark.subsets] for face in faces], bool),
        rect=np.stack([no_rect if face.rect is None else face.rect for face in faces]),
        subsets=tuple(benchmark.subsets),
        notes=notes,
    )


def _hold_back(index: Index, fraction: float, seed: int | None) -> NDArray[np.str_]:
    """The splits, where a share of the training photos becomes "val" (0: none, as in the papers).

    All faces of a photo stay together. The last photos by name, or drawn with `seed`: names of benchmarks
    go by source and event, whose last would be no sample.
    """
    splits = index.split.copy()
    photos = [_FACE_OF_PHOTO.sub(r"\1\2", image) for image in index.image.tolist()]
    train = [photo for photo, split in zip(photos, splits, strict=True) if split == "train"]
    if fraction and len(set(train)) > 1:  # a part of a benchmark may have none to spare
        held = split_groups(train, fraction, seed)
        splits[[s == "train" and p in held for p, s in zip(photos, splits, strict=True)]] = "val"
    return splits


def _within_reach(
    faces: Sequence[Label], sizes: Mapping[Path, tuple[int, int]]
) -> tuple[list[Label], list[Bad]]:
    """The faces, without those that lie far outside their picture."""
    kept, far = [], []
    for face in faces:
        square = face.square or tight_square(face.points)
        wrong = out_of_reach(face.points, face.visible, square, sizes[face.image])
        far.append(Bad(face.source, wrong)) if wrong else kept.append(face)
    return kept, far


def _remarks(
    faces: Sequence[Label], sizes: Mapping[Path, tuple[int, int]], orientations: Mapping[Path, int],
    upright: bool,
) -> list[str]:  # fmt: skip
    """On pictures of another size than their labels say, and on those that their EXIF orientation turns."""
    remarks = []
    if odd := {face.image: face for face in faces if face.size not in (None, sizes[face.image])}:
        image, face = next(iter(odd.items()))
        remarks.append(
            f"warning: {len(odd)} pictures have another size than their labels say (first: {image}: "
            f"{sizes[image]} pixels, but {face.size} in {face.source})"
        )
    seen = ((str(f.image), orientations[f.image], f.points, f.visible, sizes[f.image]) for f in faces)
    turned = turned_remark(seen, upright)
    return [*remarks, turned] if turned else remarks


def _decode(
    images: set[Path], upright: bool, advance: Advance | None
) -> tuple[dict[Path, tuple[int, int]], dict[Path, int], list[Bad]]:
    """(width, height) and EXIF orientation of each picture that decodes, and those that do not."""

    def decode(path: Path) -> tuple[tuple[int, int], int] | Bad:
        try:
            picture, orientation = read_with_orientation(path, upright)
            return (picture.shape[1], picture.shape[0]), orientation
        except PoposError as error:
            return Bad(str(path), error.message.removeprefix(f"{path}: "))

    paths = sorted(images)
    sizes, orientations, undecodable = {}, {}, []
    for path, outcome in zip(paths, in_threads(decode, paths, advance), strict=True):
        if isinstance(outcome, Bad):
            undecodable.append(outcome)
        else:
            sizes[path], orientations[path] = outcome
    return sizes, orientations, undecodable
