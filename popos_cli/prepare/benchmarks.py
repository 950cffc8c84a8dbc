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
from typing import Any

import numpy as np

from ..data.partial import Shortfall, described
from ..errors import PoposError
from ..home import extracted_folder
from . import aflw, coco_face, cofw, w300, wflw
from .archives import unpack_missing
from .assemble import Source
from .converted import read_converted
from .labels import Bad, Label, LabelledFace, Labels, listed
from .protocol import Benchmark
from .tree import Tree

BENCHMARKS: Mapping[str, Benchmark] = {
    reader.BENCHMARK.name: reader.BENCHMARK for reader in (w300, wflw, cofw, aflw, coco_face)
}
# A download of 20,000 photos may have a few that do not decode (one, in a public run on AFLW).
MOST_UNDECODABLE = 5


@dataclass(frozen=True)
class Count:
    """A line of the table "expected, found": a split, or one of its subsets or of its parts, the folders of
    the download. expected None: it is published nowhere."""

    split: str
    expected: int | None
    found: int
    subset: str = ""
    part: str = ""

    @property
    def name(self) -> str:
        return self.subset or self.part or self.split

    @property
    def right(self) -> bool:
        return self.found > 0 if self.expected is None else self.found == self.expected


def find_labels(
    name: str, root: Path, announce: Callable[[str], None] = lambda archive: None
) -> tuple[Labels, list[Count]]:
    """The labels of benchmark `name` below `root`, and how many of what should be there.

    Looked for in turn: the official download (archives are unpacked below POPOS_HOME), mmpose's JSON,
    HRNet's CSV. The first whose counts are right, else the one with most faces whose picture is there.
    `announce` is called with the name of each archive before it is unpacked. Raises PoposError where there is
    nothing, or an archive is broken.
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
    return max(found, key=lambda pair: (len(pair[0].faces), len(pair[0].missing)))


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
            lines += [Count(split, n, subsets[name], subset=name) for name, n in benchmark.subsets.items()]
        for part, n in benchmark.parts.get(split, {}).items() if parts else ():
            lines.append(Count(split, n, parts[split, part], part=part))
    return lines


def _missing(name: str, counts: Sequence[Count], pictures: Sequence[Label]) -> dict[str, Shortfall]:
    """The splits that are not whole. pictures: the faces whose picture is not there."""
    without = Counter(face.split for face in pictures)
    short = {line.split for line in counts if not line.right} | set(without)
    missing: dict[str, Shortfall] = {}
    for line in counts:
        if line.name == line.split and line.split in short:
            # Where nobody says how many there should be, it is at least those that the label file has.
            expected = line.expected or (line.found + without[line.split]) or None
            missing[line.split] = {
                "benchmark": name, "split": line.split, "faces": line.found, "of": expected,
                "parts": {}, "subsets": {},
            }  # fmt: skip
        elif not line.right:
            kind = "subsets" if line.subset else "parts"
            missing[line.split][kind][line.name] = [line.found, line.expected]
    return missing


def find_benchmark(name: str, root: Path, allow_partial: bool, say: Callable[[str], None]) -> Source:
    """The labels of benchmark `name` below `root`; says what of it is missing. Raises PoposError where there
    is nothing, or more than the benchmark has, or, unless `allow_partial`, not all."""
    say(f"reading {name} below {root}")  # COCO-WholeBody has 3 GB of labels
    labels, counts = find_labels(
        name, root, lambda archive: say(f"unpacking {archive} (this may take minutes)")
    )
    benchmark, missing = BENCHMARKS[name], _missing(name, counts, labels.missing)
    if not all(line.right for line in counts):
        say(f"{name} below {root} ({labels.kind}): expected, found")
        for line in counts:
            label = line.name if line.name == line.split else f"   {line.name}"
            expected = "?" if line.expected is None else str(line.expected)
            mark = "" if line.right else "   <-"
            say(f"{label:24}{expected:>8}{line.found:>8}{mark}")
    wrong = list(map(described, missing.values()))
    if labels.missing:
        first = labels.missing[0]
        wrong.append(f"{len(labels.missing)} pictures are missing, first {first.image} ({first.source})")
        say(wrong[-1])
    _refuse_surplus(name, root, counts)
    if not labels.faces and not labels.bad:
        raise PoposError(f"{root}: no picture of {name} is there: {wrong[-1]}", benchmark.wanted)
    if wrong and not allow_partial:
        for row in listed(labels.bad):
            say(row)
        raise PoposError(
            f"{root}: {name} is not complete: {'; '.join(wrong)}; nothing was written",
            f"Put the rest below {root}, or go on with what is there: popos prepare-data {name} {root} "
            "--allow-partial.",
        )

    def counted(faces: Sequence[LabelledFace]) -> dict[str, Any]:
        """What the index notes of what is missing, once it is known which pictures can be read."""
        lines = _count(benchmark, [face.label for face in faces]) if wrong else []
        return {"partial": bool(wrong), "missing": _missing(name, lines, labels.missing)}

    return Source(
        _once(labels) if wrong else labels, benchmark.scheme, spare=MOST_UNDECODABLE,
        subsets=tuple(benchmark.subsets), notes={"benchmark": name}, notes_on=counted,
    )  # fmt: skip


def _refuse_surplus(name: str, root: Path, counts: Sequence[Count]) -> None:
    """Raises PoposError where there are more faces than the benchmark has: some stand there twice, or are
    others."""
    surplus = [line for line in counts if line.expected is not None and line.found > line.expected]
    if surplus:
        found = ", ".join(f"{line.name}: {line.found} of {line.expected}" for line in surplus)
        raise PoposError(
            f"{root}: more faces than {name} has: {found}; nothing was written",
            "Take out copies, and pictures that are not the benchmark's.",
        )


def _once(labels: Labels) -> Labels:
    """The labels with the second of two equal ones among the bad. In a part of a benchmark no count shows a
    copy, and it may lie on the other side of the split."""
    first: dict[bytes, Label] = {}
    bad = []
    for face in labels.faces:
        earlier = first.setdefault(np.round(face.points, 2).tobytes(), face)
        if earlier is not face:
            bad.append(Bad(face.source, f"the same face as {earlier.source}"))
    return replace(labels, faces=list(first.values()), bad=labels.bad + bad)
