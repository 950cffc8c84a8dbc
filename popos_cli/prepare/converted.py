"""The benchmarks as mmpose and HRNet converted them: COCO-keypoints JSON, or CSV, beside images/.

Both keep 300W's 1-based coordinates, shift nothing in WFLW and AFLW, and have no visibility; mmpose's COFW
is 0-based with occlusion, but its boxes are still 1-based. A subset has a file of its own, which repeats
faces of the test file under other ids, and stands for it where that is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..core.geometry import Floats
from ..errors import PoposError
from .coco import Annotation, bbox, read_coco
from .labels import Bad, Label, Labels, Square, box_square, checked
from .parsing import read_text, to_floats, to_numbers
from .protocol import Benchmark
from .tree import Tree, places
from .w300 import SUBSETS as W300_SUBSETS

# 300W's splits and subsets as its label files call them; other benchmarks' are called as here.
_W300_SPLITS = {"train": "train", "test": "valid", "private": "test"}
_W300_FILES = {"common": "valid_common", "challenging": "valid_challenge"}


def read_converted(benchmark: Benchmark, kind: str, tree: Tree) -> Labels | None:
    """The faces of "mmpose" JSON or "hrnet" CSV files; None where there are none of this benchmark.

    Raises PoposError.
    """
    name, base = benchmark.name, _base(benchmark.name)
    if (name, kind) == ("cofw", "hrnet"):  # HRNet reads the .mat
        return None
    ending, read = ("json", _read_json) if kind == "mmpose" else ("csv", _read_csv)
    splits, subsets = {s: s for s in benchmark.splits}, {s: f"test_{s}" for s in benchmark.subsets}
    if name == "300w":
        splits, subsets = _W300_SPLITS, _W300_FILES
    stem = "cofw" if name == "cofw" else f"face_landmarks_{name}"
    paths: dict[str, Path] = {}  # by what follows the benchmark's name
    for word in (*splits.values(), *subsets.values()):
        if path := next(tree.files(rf"{stem}_{word}\.{ending}"), None):
            paths[word] = path
    if not paths:
        return None
    rows = {word: Labels.of(kind, base, read(path, benchmark)) for word, path in paths.items()}
    members = {s: set(map(_key, rows[word].faces)) for s, word in subsets.items() if word in rows}
    faces: list[Label] = []
    for split, whole in splits.items():
        parts = subsets.values() if split == "test" and whole not in rows else [whole]
        known: set[tuple[Path, bytes]] = set()  # a face may be in several subsets
        for word in (word for word in parts if word in rows):
            found = []
            for face in (face for face in rows[word].faces if _key(face) not in known):
                face = replace(face, split=split)
                found.append(replace(face, subsets=_subsets(benchmark, face, members)))
            known |= set(map(_key, found))
            faces += _with_pictures(benchmark, tree, paths[word], found)
    return Labels(kind, base, faces, [bad for labels in rows.values() for bad in labels.bad])


def _subsets(
    benchmark: Benchmark, face: Label, members: Mapping[str, set[tuple[Path, bytes]]]
) -> tuple[str, ...]:
    """Those of a test face: by the subsets' files, of which 300W's say what the folders say, too."""
    if face.split != "test":
        return ()
    listed = tuple(subset for subset, keys in members.items() if _key(face) in keys)
    by_folder = W300_SUBSETS.get(_part(benchmark, face)) if benchmark.name == "300w" else None
    return listed or ((by_folder,) if by_folder else ())


def _key(face: Label) -> tuple[Path, bytes]:
    """What identifies a face: pictures may have several, ids differ by file, and so may a number's last
    digits."""
    return face.image, np.round(face.points, 2).tobytes()


def _with_pictures(benchmark: Benchmark, tree: Tree, path: Path, faces: list[Label]) -> list[Label]:
    """The faces of one file with their pictures, or the places where these should be."""
    beside, above = path.parent / "images", path.parent.parent / "images"
    likely = [above, beside] if path.parent.name.lower() == "annotations" else [beside, above]
    parts = [_part(benchmark, face) for face in faces]
    # 300W's private folders lie in Test/ or in 300W/, whatever the labels say.
    names = [f"{p}/{f.image.name}" if p else f.image.as_posix() for p, f in zip(parts, faces, strict=True)]
    part_of = dict(zip(names, parts, strict=True))
    images = places(tree, names, likely, part_of.__getitem__)
    return [replace(f, image=i, part=p) for f, i, p in zip(faces, images, parts, strict=True)]


def _part(benchmark: Benchmark, face: Label) -> str:
    """The folder of the raw download in the picture's path, "" where it has none."""
    folder = f"/{face.image.parent.as_posix()}".lower()
    return next((p for p in benchmark.parts.get(face.split, ()) if folder.endswith(f"/{p.lower()}")), "")


def _base(name: str) -> int:
    return 1 if name == "300w" else 0


def _read_json(path: Path, benchmark: Benchmark) -> list[Label | Bad]:
    faces = read_coco(path).faces(benchmark.scheme.landmarks)
    return [
        face if isinstance(face, Bad) else _from_annotation(face, annotation, benchmark.name)
        for annotation, face in faces
    ]


def _from_annotation(face: Label, annotation: Annotation, name: str) -> Label | Bad:
    square, rect, visible = None, None, face.visible
    try:
        if name == "cofw":
            rect = _cofw_box(annotation)
            square = box_square(rect)
        elif name == "aflw":
            square = _aflw_box(annotation)
    except PoposError as error:
        return Bad(face.source, error.message)
    if name != "cofw":  # the others' 1 says that a point is labelled
        visible = np.where(visible > 0, 2, 0).astype(np.uint8)
    points = face.points - _base(name)
    return checked(Label(face.image, points, visible, face.source, square=square, rect=rect))


def _cofw_box(annotation: Annotation) -> Floats:
    """x, y, w, h in the frame of the points: mmpose moved these from base 1 to 0, but not the box. Raises
    PoposError."""
    box = bbox(annotation)
    if box is None:
        raise PoposError("it has no bbox")
    return box - (1, 1, 0, 0)


def _aflw_box(annotation: Annotation) -> Square:
    """Centre and side of AFLW's own box; `bbox` is another one, around the points. Raises PoposError."""
    center, side = (to_numbers(annotation.get(key)) for key in ("center", "box_size"))
    if center is None or center.shape != (2,) or side is None or side.shape:
        raise PoposError("its center is not two numbers, or its box_size is not one")
    return center, float(side)


def _read_csv(path: Path, benchmark: Benchmark) -> list[Label | Bad]:
    """By position: header texts vary. AFLW has a column more, the side of its box."""
    landmarks, boxed = benchmark.scheme.landmarks, benchmark.name == "aflw"
    head = ("image_name", "scale", *(["box_size"] if boxed else []), "center_w", "center_h")
    width = len(head) + 2 * landmarks
    header, *lines = read_text(path).split("\n")
    if header.count(",") + 1 != width:
        raise PoposError(
            f"{path}:1: {header.count(',') + 1} columns, but HRNet's labels of {benchmark.name} have {width}",
            f"Expected: {', '.join(head)}, then x and y of {landmarks} points.",
        )
    visible = np.full(landmarks, 2, np.uint8)

    def read_line(line: str, source: str) -> Label | Bad:
        name, *cells = line.split(",")
        if len(cells) + 1 != width:
            return Bad(source, f"{len(cells) + 1} columns instead of {width}")
        try:
            values = to_floats(cells, first=2)
        except ValueError as error:
            return Bad(source, str(error))
        points = values[len(head) - 1 :].reshape(-1, 2) - _base(benchmark.name)
        square = (values[2:4], float(values[1])) if boxed else None
        return checked(Label(Path(name), points, visible, source, square=square))

    numbered = enumerate(lines, start=2)
    return [read_line(line, f"{path.name}:{number}") for number, line in numbered if line.strip()]
