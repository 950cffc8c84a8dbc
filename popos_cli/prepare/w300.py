"""300W: iBUG's folders of pictures, each with its 68 points in a .pts file of the same stem.

afw, helen and lfpw (the last two with trainset and testset) and ibug are its four downloads; the private set
of the second challenge, 01_Indoor and 02_Outdoor, is a fifth. Coordinates are 1-based.

Where people pass parts of it on, folders are spelled otherwise (helen_train, train/helen, helen alone), and
.pts files may hold nothing but the points.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from ..core.schemes import W300
from .archives import Archive
from .labels import Bad, Label, Labels, checked
from .parsing import read_pts
from .protocol import Benchmark
from .tree import Pictures, Tree

# The test faces' subset by the folder of the download that they come from.
SUBSETS = {"helen/testset": "common", "lfpw/testset": "common", "ibug": "challenging"}
_PNG = ("lfpw", "01_Indoor", "02_Outdoor")  # the others are .jpg
_CROPPED = "300w_cropped"  # the private set once more, in other pictures
# Mirrored pictures, and what a browser makes of a second download.
_COPY = re.compile(r".*(_mirror| \(\d+\))\.pts", re.IGNORECASE)


def _has(*parts: str) -> Callable[[Tree], bool]:
    return lambda tree: all(_folder(tree, part) for part in parts)


def read_raw(tree: Tree) -> Labels | None:
    """The faces of all .pts files in those folders, in the order of `Benchmark.parts`, then by name.

    Mirrored pictures and a browser's second downloads are left out with a remark.
    """
    places = [(split, part) for split, parts in BENCHMARK.parts.items() for part in parts]
    found = {place: folder for place in places if (folder := _folder(tree, place[1]))}
    outcomes: list[Label | Bad] = []
    remarks = [
        f"warning: {folder}: all taken for training, since no folder says which are test faces; if some are, "
        "figures on test faces will be too good"
        for (_, part), folder in found.items()
        if folder in _undivided(tree, part)
    ]
    for (split, part), folder in found.items():
        pictures = tree.pictures(folder)
        names = _pts(tree, folder)
        copies = [name for name in names if _COPY.fullmatch(name)]
        outcomes += [_label(folder / name, split, part, pictures) for name in names if name not in copies]
        if copies:
            what = "mirrored pictures or copies, not the benchmark's"
            remarks.append(f"{folder}: {len(copies)} .pts files were left out ({copies[0]}): {what}")
    others = [folder for folder in _with_pts(tree, tree.listing) if folder not in found.values()]
    if others:
        count = sum(len(_pts(tree, folder)) for folder in others)
        remarks.append(f"{count} .pts files were not read, in folders of other names (first: {others[0]})")
    if any(_CROPPED in str(folder).lower() and _pts(tree, folder) for folder in tree.listing):
        remarks.append(f"{_CROPPED} was left out: its pictures are not the benchmark's")
    return Labels.of("raw", 1, outcomes, remarks=remarks) if found else None


def _label(path: Path, split: str, part: str, pictures: Pictures) -> Label | Bad:
    """The face of one .pts file, with the picture of its stem or the place where that should be."""
    source = f"{part}/{path.name}"
    try:
        points = read_pts(path, W300.landmarks) - 1
    except ValueError as error:
        return Bad(source, str(error))
    name = path.stem + (".png" if part.startswith(_PNG) else ".jpg")
    return checked(
        Label(
            image=pictures.place(name),
            points=points,
            visible=np.full(W300.landmarks, 2, np.uint8),
            split=split,
            source=source,
            subsets=(SUBSETS[part],) if part in SUBSETS else (),
            part=part,
        )
    )


def _folder(tree: Tree, part: str) -> Path | None:
    """The folder with most .pts files right in it, of equals the shallowest; None where there is none."""
    folders = _named(tree, part) or _undivided(tree, part)
    return max(folders, key=lambda folder: len(_pts(tree, folder)), default=None)


def _named(tree: Tree, part: str) -> list[Path]:
    """Folders of .pts files that are called as a part: helen/trainset, HELEN68/trainset, helen_train,
    train/helen, test/common/helen."""
    top, _, half = part.partition("/")
    name = f"{top}(68)?"  # CFSS'
    if not half:
        return _with_pts(tree, tree.folders_like(name))
    half = f"{half.removesuffix('set')}(set)?"
    # Above ROOT a folder "test" is somebody's trial.
    turned = tree.folders_like(f"{half}/(common/)?{name}", below=tree.root)
    return _with_pts(tree, [*tree.folders_like(f"{name}[/_-]?{half}"), *turned])


def _undivided(tree: Tree, part: str) -> list[Path]:
    """Folders helen and lfpw of .pts files, as those of the part for training, where no other folder is."""
    top, _, half = part.partition("/")
    if half != "trainset" or _named(tree, part) or _named(tree, f"{top}/testset"):
        return []
    return _with_pts(tree, tree.folders_like(f"{top}(68)?"))


def _with_pts(tree: Tree, folders: Iterable[Path]) -> list[Path]:
    return [folder for folder in folders if _CROPPED not in str(folder).lower() and _pts(tree, folder)]


def _pts(tree: Tree, folder: Path) -> list[str]:
    return [name for name in tree.listing[folder] if name.lower().endswith(".pts")]


BENCHMARK = Benchmark(
    name="300w",
    scheme=W300,
    splits={"train": 3148, "test": 689, "private": 600},  # iBUG's lists
    archives=(
        Archive(r"afw\.zip", _has("afw")),
        Archive(r"helen\.zip", _has("helen/trainset", "helen/testset")),
        Archive(r"ibug\.zip", _has("ibug")),
        Archive(r"lfpw\.zip", _has("lfpw/trainset", "lfpw/testset")),
        Archive(r"300w\.zip", _has("01_Indoor", "02_Outdoor")),
    ),
    wanted=(
        "Looked for pictures with .pts files in the folders afw, helen/trainset, helen/testset, "
        "lfpw/trainset, lfpw/testset and ibug (afw.zip, helen.zip, lfpw.zip, ibug.zip; private set: "
        "01_Indoor and 02_Outdoor, 300w.zip.001-004, not 300w_cropped.zip; ibug.doc.ic.ac.uk/resources/300-W)"
        ", or mmpose's JSON or HRNet's CSV beside images/. A folder that mixes them is own data: "
        "popos prepare-data custom ROOT."
    ),
    read_raw=read_raw,
    subsets={"common": 554, "challenging": 135},
    parts={
        "train": {"helen/trainset": 2000, "lfpw/trainset": 811, "afw": 337},
        "test": {"helen/testset": 330, "lfpw/testset": 224, "ibug": 135},
        "private": {"01_Indoor": 300, "02_Outdoor": 300},
    },
    optional=frozenset({"private"}),
)
