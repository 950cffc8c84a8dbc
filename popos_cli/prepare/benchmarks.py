"""The benchmarks: what of one lies below a folder, and whether it is all there.

To add one: a file beside w300.py that ends in a `Benchmark`, an entry in `BENCHMARKS`, and its name in
core/choices.py.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import PoposError
from ..home import extracted_folder
from . import aflw, coco_face, cofw, w300, wflw
from .archives import unpack_missing
from .assemble import Source
from .converted import read_converted
from .labels import Label, Labels, listed
from .protocol import Benchmark
from .tree import Tree

BENCHMARKS: Mapping[str, Benchmark] = {
    reader.BENCHMARK.name: reader.BENCHMARK for reader in (w300, wflw, cofw, aflw, coco_face)
}
# A download of 20,000 photos may have a few that do not decode (one, in a public run on AFLW).
MOST_UNDECODABLE = 5


@dataclass(frozen=True)
class Count:
    """A line of the table "expected, found": a split, or indented one of its subsets or of the folders of its
    download. expected None: it is published nowhere."""

    name: str
    expected: int | None
    found: int

    @property
    def right(self) -> bool:
        return self.found > 0 if self.expected is None else self.found == self.expected


def find_labels(
    name: str, root: Path, announce: Callable[[str], None] = lambda archive: None
) -> tuple[Labels, list[Count]]:
    """The labels of benchmark `name` below `root`, and how many of what should be there.

    Looked for in turn: the official download (archives are unpacked below POPOS_HOME), mmpose's JSON,
    HRNet's CSV. The first whose counts are right, else the one with most faces. `announce` is called with
    the name of each archive before it is unpacked. Raises PoposError where there is nothing, or an archive
    is broken.
    """
    benchmark = BENCHMARKS[name]
    if not root.exists():
        raise PoposError(f"{root}: no such file or folder")
    root = root.resolve()
    tree = unpack_missing(benchmark.archives, Tree.below(root), extracted_folder(name), announce)
    found: list[tuple[Labels, list[Count]]] = []
    for read in (
        benchmark.read_raw,
        lambda tree: read_converted(benchmark, "mmpose", tree),
        lambda tree: read_converted(benchmark, "hrnet", tree),
    ):
        if labels := read(tree):
            labels = _without_missing(labels)
            found.append((labels, _count(benchmark, labels.faces)))
            if all(line.right for line in found[-1][1]):
                return found[-1]
    if not found:
        raise PoposError(f"{root}: nothing of {name} was found here or below", benchmark.wanted)
    return max(found, key=lambda pair: len(pair[0].faces) + len(pair[0].missing))


def _without_missing(labels: Labels) -> Labels:
    """The labels with those set apart whose picture is not there; each picture is looked up once."""
    there = {image for image in {face.image for face in labels.faces} if os.path.isfile(image)}
    missing = [face for face in labels.faces if face.image not in there]
    return replace(labels, faces=[face for face in labels.faces if face.image in there], missing=missing)


def _count(benchmark: Benchmark, faces: Sequence[Label]) -> list[Count]:
    """Faces by split, subset and folder, beside what there should be."""
    splits = Counter(face.split for face in faces)
    subsets = Counter(subset for face in faces for subset in face.subsets)
    parts = Counter((face.split, face.part) for face in faces if face.part)
    lines = []
    for split, expected in benchmark.splits.items():
        if split in benchmark.optional and not splits[split]:
            continue
        lines.append(Count(split, expected, splits[split]))
        if split == "test":
            lines += [Count(f"   {name}", n, subsets[name]) for name, n in benchmark.subsets.items()]
        for part, n in benchmark.parts.get(split, {}).items() if parts else ():
            lines.append(Count(f"   {part}", n, parts[split, part]))
    return lines


def find_benchmark(name: str, root: Path, allow_partial: bool, say: Callable[[str], None]) -> Source:
    """The labels of benchmark `name` below `root`; says what of it is missing. Raises PoposError where there
    is nothing, or, unless `allow_partial`, not all."""
    say(f"reading {name} below {root}")  # COCO-WholeBody has 3 GB of labels
    labels, counts = find_labels(
        name, root, lambda archive: say(f"unpacking {archive} (this may take minutes)")
    )
    wrong = [
        f"{line.name.strip()}: {line.found} of {'any' if line.expected is None else line.expected}"
        for line in counts
        if not line.right
    ]
    if wrong:
        say(f"{name} below {root} ({labels.kind}): expected, found")
        for line in counts:
            expected = "?" if line.expected is None else str(line.expected)
            mark = "" if line.right else "   <-"
            say(f"{line.name:24}{expected:>8}{line.found:>8}{mark}")
    if labels.missing:
        first = labels.missing[0]
        wrong.append(f"{len(labels.missing)} pictures are missing, first {first.image} ({first.source})")
        say(wrong[-1])
    if wrong and not allow_partial:
        for row in listed(labels.bad):
            say(row)
        raise PoposError(
            f"{root}: {name} is not complete: {'; '.join(wrong[:4])}; nothing was written",
            f"Put the rest below {root}, or go on with what is there: popos prepare-data {name} {root} "
            "--allow-partial.",
        )
    benchmark = BENCHMARKS[name]
    return Source(
        labels, benchmark.scheme, spare=MOST_UNDECODABLE, subsets=tuple(benchmark.subsets),
        notes={"benchmark": name, "partial": bool(wrong)},
    )  # fmt: skip
