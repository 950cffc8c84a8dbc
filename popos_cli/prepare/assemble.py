"""A benchmark's download -> index: find its labels, count them, look at every picture."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np

from ..core.geometry import tight_square
from ..data.index import Index
from ..data.pictures import read_with_orientation
from ..errors import PoposError
from ..home import extracted_folder
from . import aflw, coco_face, cofw, w300, wflw
from .archives import unpack_missing
from .converted import read_hrnet, read_mmpose
from .labels import Bad, Label, Labels, out_of_reach
from .protocol import BENCHMARKS, Benchmark
from .remarks import turned_remark
from .splits import split_groups
from .tree import Tree

RAW: dict[str, ModuleType] = {"300w": w300, "wflw": wflw, "cofw": cofw, "aflw": aflw, "coco-face": coco_face}
# A download of 20,000 photos may have a few that do not decode (one, in a public run on AFLW).
MOST_UNDECODABLE = 5
# AFW and HELEN give each face of a photo a file of its own: 134212_1.jpg, 134212_2.jpg.
_FACE_OF_PHOTO = re.compile(r"(^|/)(\d+)_\d+(?=\.\w+$)")


@dataclass(frozen=True)
class Count:
    """A line of the tree "expected against found"; expected None: nobody states it. depth 0 is a
    split, 1 its subsets and the folders of its download. optional: may be absent as a whole."""

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
    name: str, root: Path, unpacking: Callable[[str], None] | None = None
) -> tuple[Labels, list[Count]]:
    """The labels of benchmark `name` below `root`, and how many of what should be there.

    Looked for in turn: the official download (archives are unpacked below POPOS_HOME), mmpose's JSON,
    HRNet's CSV. The first whose counts are right, else the one with most faces. `unpacking` is told
    the name of each archive. Raises PoposError where there is nothing, or an archive is broken.
    """
    benchmark, raw = BENCHMARKS[name], RAW[name]
    if not root.exists():
        raise PoposError(f"{root}: no such file or folder")
    root = root.resolve()
    tree = unpack_missing(raw.ARCHIVES, Tree.below(root), extracted_folder(name), unpacking)
    best: tuple[Labels, list[Count]] | None = None
    for read in (raw.read_raw, lambda t: read_mmpose(benchmark, t), lambda t: read_hrnet(benchmark, t)):
        labels = read(tree)
        if labels is None:
            continue
        labels = _look(labels)
        counts = count(benchmark, labels.faces)
        if all(line.right for line in counts):
            return labels, counts
        if best is None or _labelled(labels) > _labelled(best[0]):
            best = labels, counts
    if best is None:
        raise PoposError(f"{root}: nothing of {name} was found here or below", raw.WANTED)
    return best


def _look(labels: Labels) -> Labels:
    """The labels with those apart whose picture is not there; each picture is asked for once."""
    there = {image for image in {face.image for face in labels.faces} if os.path.isfile(image)}
    return replace(
        labels,
        faces=[face for face in labels.faces if face.image in there],
        missing=[face for face in labels.faces if face.image not in there],
    )


def _labelled(labels: Labels) -> int:
    return len(labels.faces) + len(labels.missing)


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
    wrong = [line for line in counts if not line.right]
    if not labels.missing and not wrong:
        return
    what = [
        f"{line.name}: {line.found} of {'any' if line.expected is None else line.expected}" for line in wrong
    ]
    if labels.missing:
        what.append(told_missing(labels))
    raise PoposError(
        f"{root}: {name} is not complete: {'; '.join(what[:4])}; nothing was written",
        f"Put the rest below {root}, or go on with what is there: popos prepare-data {name} {root} "
        "--allow-partial.",
    )


def told_missing(labels: Labels) -> str:
    """How many faces of the labels have no picture, and the first of them."""
    first = labels.missing[0]
    return f"{len(labels.missing)} pictures are missing, first {first.image} ({first.source})"


def build_index(
    dataset: str, labels: Labels, *, name: str, skip_bad: bool, partial: bool, val_fraction: float = 0.0,
    seed: int | None = None, upright: bool = False, advance: Callable[[int, int], None] | None = None,
) -> tuple[Index, list[Bad], list[Bad], str | None]:  # fmt: skip
    """The index of the faces whose picture decodes; what was left out: pictures that do not, and faces that
    lie far outside theirs; pictures of another size than their labels say; and a remark on pictures that
    their EXIF orientation turns.

    labels: as `find_labels` gives them. upright: they were made on the pictures as EXIF turns them.
    val_fraction: share of the training pictures that becomes split "val" (0: none, as the papers have it),
    all faces of a photo together; the last by name, or drawn with `seed`: names of benchmarks go by source
    and event, whose last would be no sample. `advance` is told
    (pictures decoded, pictures in all). Raises PoposError for bad labels (unless skip_bad), for more than
    five undecodable pictures (unless skip_bad), and where no training or no test face is left.
    """
    leave_out = f"popos prepare-data {dataset} ROOT --skip-bad"
    if labels.bad and not skip_bad:
        raise PoposError(
            f"{dataset}: {len(labels.bad)} of {len(labels.bad) + _labelled(labels)} labels are bad "
            f"(first: {labels.bad[0]}); nothing was written",
            f"Download the labels again, or leave the bad ones out: {leave_out}",
        )
    sizes, turned, undecodable = _decode({face.image for face in labels.faces}, upright, advance)
    if len(undecodable) > MOST_UNDECODABLE and not skip_bad:
        raise PoposError(
            f"{dataset}: {len(undecodable)} pictures cannot be decoded (first: {undecodable[0]}); "
            "nothing was written",
            f"Unpack or download them again, or leave them out: {leave_out}",
        )
    decoded = [face for face in labels.faces if face.image in sizes]
    far = _far(decoded, sizes)
    if far and not skip_bad:
        raise PoposError(
            f"{dataset}: {len(far)} of {len(decoded)} labels lie far outside their picture (first: "
            f"{next(iter(far.values()))}); nothing was written",
            f"Download the labels again, or leave these out: {leave_out}",
        )
    kept = [face for number, face in enumerate(decoded) if number not in far]
    if not kept:
        raise PoposError(f"{dataset}: no face is left; nothing was written")
    benchmark = BENCHMARKS[dataset]
    root = Path(os.path.commonpath({face.image.parent for face in kept}))
    squares = [face.square or tight_square(face.points) for face in kept]
    images = [face.image.relative_to(root).as_posix() for face in kept]
    splits = np.array([face.split for face in kept])
    photos = [_FACE_OF_PHOTO.sub(r"\1\2", image) for image in images]
    train = [photo for photo, split in zip(photos, splits, strict=True) if split == "train"]
    if val_fraction and len(set(train)) > 1:  # a part of a benchmark may have none to spare
        held = split_groups(train, val_fraction, seed)
        splits[[s == "train" and p in held for p, s in zip(photos, splits, strict=True)]] = "val"
    whole = [] if labels.bad or labels.missing or undecodable or far else sorted(labels.whole)
    no_rect = np.full(4, np.nan)
    index = Index(
        name=name,
        scheme=benchmark.scheme,
        root=root,
        image=np.array(images),
        size=np.array([sizes[face.image] for face in kept], np.int32),
        points=np.stack([face.points for face in kept]),
        visible=np.stack([face.visible for face in kept]),
        center=np.stack([center for center, _ in squares]),
        side=np.array([side for _, side in squares]),
        split=splits,
        group=np.array([""] * len(kept)),  # benchmarks do not say who is who
        source=np.array([face.source for face in kept]),
        subset=np.array([[s in face.subsets for s in benchmark.subsets] for face in kept], bool),
        rect=np.stack([no_rect if face.rect is None else face.rect for face in kept]),
        subsets=tuple(benchmark.subsets),
        notes={
            "benchmark": dataset, "importer": labels.kind, "coordinate_base": labels.base,
            "crop": labels.crop, "partial": partial, "whole": whole, "skipped": len(labels.bad),
            "undecodable": [bad.source for bad in undecodable],
            "orientation": "upright" if upright else "stored",
        },
    )  # fmt: skip
    odd = {
        face.image: Bad(str(face.image), f"{sizes[face.image]} pixels, but {face.size} in {face.source}")
        for face in kept
        if face.size not in (None, sizes[face.image])
    }
    looked = ((f, f.image, turned[f.image], sizes[f.image]) for f in kept)
    remark = turned_remark([(str(i), o, f.points, f.visible, size) for f, i, o, size in looked], upright)
    return index, [*undecodable, *far.values()], list(odd.values()), remark


def _far(faces: Sequence[Label], sizes: Mapping[Path, tuple[int, int]]) -> dict[int, Bad]:
    """Which faces lie far outside their picture."""
    far = {}
    for number, face in enumerate(faces):
        square = face.square or tight_square(face.points)
        if wrong := out_of_reach(face.points, face.visible, square, sizes[face.image]):
            far[number] = Bad(face.source, wrong)
    return far


def _decode(
    images: set[Path], upright: bool, advance: Callable[[int, int], None] | None
) -> tuple[dict[Path, tuple[int, int]], dict[Path, int], list[Bad]]:
    """(width, height) and EXIF orientation of each picture that decodes, and those that do not."""
    paths = sorted(images)

    def look(path: Path) -> tuple[tuple[int, int], int] | Bad:
        try:
            picture, orientation = read_with_orientation(path, upright)
            return (picture.shape[1], picture.shape[0]), orientation
        except PoposError as error:
            return Bad(str(path), error.message.removeprefix(f"{path}: "))

    sizes, turned, undecodable = {}, {}, []
    with ThreadPoolExecutor() as pool:  # OpenCV decodes outside the interpreter lock
        for number, (path, outcome) in enumerate(zip(paths, pool.map(look, paths), strict=True)):
            if isinstance(outcome, Bad):
                undecodable.append(outcome)
            else:
                sizes[path], turned[path] = outcome
            if advance:
                advance(number + 1, len(paths))
    return sizes, turned, undecodable
