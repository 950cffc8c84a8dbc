"""A benchmark's download -> index: find its labels, count them, look at every picture."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np

from ...core.geometry import tight_square
from ...errors import PoposError
from ...sources import read_image
from ..archives import unpack_missing
from ..home import extracted_folder
from ..index import Index
from ..tree import Tree
from . import aflw, coco_face, cofw, w300, wflw
from .converted import read_hrnet, read_mmpose
from .custom import split_groups
from .labels import Bad, Label, Labels
from .protocol import BENCHMARKS, Benchmark

RAW: dict[str, ModuleType] = {"300w": w300, "wflw": wflw, "cofw": cofw, "aflw": aflw, "coco-face": coco_face}
# A download of 20,000 photos may have a few that do not decode (one, in a public run on AFLW).
MOST_UNDECODABLE = 5


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
    there = {image for image in {face.image for face in labels.faces} if image.is_file()}
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
        f"Put the rest below {root}, or go on with what is there: --allow-partial.",
    )


def told_missing(labels: Labels) -> str:
    """How many faces of the labels have no picture, and the first of them."""
    first = labels.missing[0]
    return f"{len(labels.missing)} pictures are missing, first {first.image} ({first.source})"


def build_index(
    dataset: str, labels: Labels, *, name: str, skip_bad: bool, partial: bool, val_fraction: float = 0.0,
    seed: int | None = None, advance: Callable[[int, int], None] | None = None,
) -> tuple[Index, list[Bad], list[Bad]]:  # fmt: skip
    """The index of the faces whose picture decodes, the pictures that do not, and those of another size
    than their labels say.

    labels: as `find_labels` gives them. val_fraction: share of the training pictures that becomes split
    "val" (0: none, as the papers have it), all faces of a picture together; the last by name, or drawn with
    `seed`: names of benchmarks go by source and event, whose last would be no sample. `advance` is told
    (pictures decoded, pictures in all). Raises PoposError for bad labels (unless skip_bad), for more than
    five undecodable pictures (unless skip_bad), and where no training or no test face is left.
    """
    if labels.bad and not skip_bad:
        raise PoposError(
            f"{dataset}: {len(labels.bad)} of {len(labels.bad) + _labelled(labels)} labels are bad "
            f"(first: {labels.bad[0]}); nothing was written",
            "Download the labels again, or leave the bad ones out with --skip-bad.",
        )
    sizes, undecodable = _decode({face.image for face in labels.faces}, advance)
    if len(undecodable) > MOST_UNDECODABLE and not skip_bad:
        raise PoposError(
            f"{dataset}: {len(undecodable)} pictures cannot be decoded (first: {undecodable[0]}); "
            "nothing was written",
            "Unpack or download them again, or leave them out with --skip-bad.",
        )
    kept = [face for face in labels.faces if face.image in sizes]
    if not kept:
        raise PoposError(f"{dataset}: no face is left; nothing was written")
    benchmark = BENCHMARKS[dataset]
    root = Path(os.path.commonpath({face.image.parent for face in kept}))
    squares = [face.square or tight_square(face.points) for face in kept]
    images = [face.image.relative_to(root).as_posix() for face in kept]
    splits = np.array([face.split for face in kept])
    train = [image for image, split in zip(images, splits, strict=True) if split == "train"]
    if val_fraction and len(set(train)) > 1:  # a part of a benchmark may have none to spare
        held = split_groups(train, val_fraction, seed)
        splits[[s == "train" and i in held for i, s in zip(images, splits, strict=True)]] = "val"
    whole = [] if labels.bad or labels.missing or undecodable else sorted(labels.whole)
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
        },
    )  # fmt: skip
    odd = {
        face.image: Bad(str(face.image), f"{sizes[face.image]} pixels, but {face.size} in {face.source}")
        for face in kept
        if face.size not in (None, sizes[face.image])
    }
    return index, undecodable, list(odd.values())


def _decode(
    images: set[Path], advance: Callable[[int, int], None] | None
) -> tuple[dict[Path, tuple[int, int]], list[Bad]]:
    """(width, height) of each picture that decodes, and those that do not."""
    paths = sorted(images)

    def size(path: Path) -> tuple[int, int] | Bad:
        try:
            height, width = read_image(path, upright=False).shape[:2]
        except PoposError as error:
            return Bad(str(path), error.message.removeprefix(f"{path}: "))
        return width, height

    sizes, undecodable = {}, []
    with ThreadPoolExecutor() as pool:  # OpenCV decodes outside the interpreter lock
        for number, (path, outcome) in enumerate(zip(paths, pool.map(size, paths), strict=True)):
            if isinstance(outcome, Bad):
                undecodable.append(outcome)
            else:
                sizes[path] = outcome
            if advance:
                advance(number + 1, len(paths))
    return sizes, undecodable
