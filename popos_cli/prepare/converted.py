"""The benchmarks as mmpose and HRNet converted them: COCO-keypoints JSON, or CSV, beside images/.

Both keep 300W's 1-based coordinates, shift nothing in WFLW and AFLW, and have no visibility; mmpose's COFW
is 0-based with occlusion, but its boxes are still 1-based. A subset has a file of its own, which repeats
faces of the test file under other ids.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.geometry import Floats
from ..errors import PoposError
from . import w300
from .files import find_pictures, is_inside, read_coco, read_text, shown, to_floats, to_numbers
from .labels import Bad, Label, Labels, flaw
from .protocol import Benchmark
from .tree import Pictures, Tree

# Split -> what follows the benchmark's name in its label file's; subset -> likewise.
_SPLITS: Mapping[str, Mapping[str, str]] = {
    "300w": {"train": "train", "test": "valid", "private": "test"},
    **{name: {"train": "train", "test": "test"} for name in ("wflw", "cofw", "aflw")},
}
_SUBSETS: Mapping[str, Mapping[str, str]] = {
    "300w": {"common": "valid_common", "challenging": "valid_challenge"},
    "wflw": {
        subset: f"test_{subset}"
        for subset in ("largepose", "expression", "illumination", "makeup", "occlusion", "blur")
    },
    "aflw": {"frontal": "test_frontal"},
}
_BOXES = ("cofw", "aflw")  # cropped by a box of the benchmark's own; the others by their landmarks


@dataclass(frozen=True)
class _Row:
    """A face of one label file: `Label` before its picture is looked for."""

    source: str
    name: str
    points: Floats
    visible: NDArray[np.uint8]
    square: tuple[Floats, float] | None = None
    rect: Floats | None = None

    @property
    def key(self) -> tuple[str, bytes]:
        """What tells it apart from all others: pictures may have several faces, ids differ by file, and so
        may a number's last digits."""
        return self.name, np.round(self.points, 2).tobytes()


_Rows = Sequence[_Row | Bad]


def read_mmpose(benchmark: Benchmark, tree: Tree) -> Labels | None:
    """The faces of mmpose's JSON files; None where there are none of this benchmark. Raises PoposError."""
    return _read(benchmark, tree, "mmpose", "json", _mmpose_rows)


def read_hrnet(benchmark: Benchmark, tree: Tree) -> Labels | None:
    """The faces of HRNet's CSV files; None where there are none of this benchmark. Raises PoposError."""
    return None if benchmark.name == "cofw" else _read(benchmark, tree, "hrnet", "csv", _hrnet_rows)


def _read(
    benchmark: Benchmark, tree: Tree, kind: str, ending: str, rows_of: Callable[[Path, Benchmark], _Rows]
) -> Labels | None:
    name = benchmark.name
    splits, subsets = _SPLITS.get(name, {}), _SUBSETS.get(name, {})
    stem = "cofw" if name == "cofw" else f"face_landmarks_{name}"
    paths: dict[str, Path] = {}
    for word in (*splits.values(), *subsets.values()):
        if path := next(tree.files(rf"{stem}_{word}\.{ending}"), None):
            paths[word] = path
    words = {split: [word] if word in paths else [] for split, word in splits.items()}
    if name == "300w" and not words["test"]:  # its subsets are the two parts of its test set
        words["test"] = [word for word in subsets.values() if word in paths]
    if not any(words.values()):
        return None
    rows = {word: rows_of(path, benchmark) for word, path in paths.items()}
    bad = [row for outcomes in rows.values() for row in outcomes if isinstance(row, Bad)]
    good = {word: [row for row in outcomes if isinstance(row, _Row)] for word, outcomes in rows.items()}
    members = {subset: {row.key for row in good[word]} for subset, word in subsets.items() if word in good}
    if words["test"]:
        test = {row.key for word in words["test"] for row in good[word]}
        where = paths[words["test"][0]].name
        strangers = (row for word in subsets.values() for row in good.get(word, ()) if row.key not in test)
        bad += [Bad(row.source, f"this face is not in {where}") for row in strangers]
    faces: list[Label] = []
    for split, its_words in words.items():
        for word in its_words:
            faces += _labels(benchmark, tree, paths[word], split, good[word], members)
    crop = "box" if name in _BOXES else "tight"
    return Labels(kind, faces, base=_base(benchmark), crop=crop, bad=bad)


def _labels(
    benchmark: Benchmark, tree: Tree, path: Path, split: str, rows: Sequence[_Row],
    members: Mapping[str, set[tuple[str, bytes]]],
) -> list[Label]:  # fmt: skip
    """The faces of one file with their pictures, or the places where these should be."""
    beside, above = path.parent / "images", path.parent.parent / "images"
    likely = [above, beside] if path.parent.name.lower() == "annotations" else [beside, above]
    pictures = find_pictures(tree, {row.name for row in rows}, likely)
    labels = []
    elsewhere: dict[str, list[Pictures]] = {}  # 300W's private folders lie in Test/ or in 300W/
    for row in rows:
        part = _part(benchmark, split, row.name)
        image = pictures.find(row.name)
        if image is None and part:
            if part not in elsewhere:
                elsewhere[part] = [tree.pictures(folder) for folder in tree.folders(*part.split("/"))]
            found = (others.find(PurePosixPath(row.name).name) for others in elsewhere[part])
            image = next((path for path in found if path), None)
        subsets: tuple[str, ...] = ()
        if split == "test":
            subsets = tuple(subset for subset, keys in members.items() if row.key in keys)
            if not subsets and part in w300.SUBSETS:
                subsets = (w300.SUBSETS[part],)
        labels.append(
            Label(
                image=image or pictures.folder / row.name,
                points=row.points,
                visible=row.visible,
                split=split,
                source=row.source,
                subsets=subsets,
                part=part,
                square=row.square,
                rect=row.rect,
            )
        )
    return labels


def _part(benchmark: Benchmark, split: str, name: str) -> str:
    """The folder of the raw download that a picture's path tells of, "" where it tells of none."""
    folder = f"/{PurePosixPath(name).parent}".lower()
    return next((p for p in benchmark.parts.get(split, ()) if folder.endswith(f"/{p.lower()}")), "")


def _base(benchmark: Benchmark) -> int:
    return 1 if benchmark.name == "300w" else 0


def _mmpose_rows(path: Path, benchmark: Benchmark) -> _Rows:
    coco = read_coco(path)
    outcomes = []
    for number, annotation in enumerate(coco.annotations):
        source = f"{path.name}#{shown(annotation.get('id', number))}"
        outcome = _mmpose_row(source, annotation, coco.files, benchmark)
        if outcome is not None:
            outcomes.append(outcome)
    return outcomes


def _mmpose_row(
    source: str, annotation: Mapping[str, Any], names: Mapping[Any, str], benchmark: Benchmark
) -> _Row | Bad | None:
    """None for what mmpose passes by: a crowd, or keypoints of which none is above 0."""
    landmarks = benchmark.scheme.landmarks
    values = annotation.get("keypoints")
    if annotation.get("iscrowd"):
        return None
    if not isinstance(values, list) or len(values) != 3 * landmarks:
        what = f"{len(values)} keypoint values" if isinstance(values, list) else "no list of keypoints"
        return Bad(source, f"{what} instead of {3 * landmarks}")
    table = _numbers(values)
    if table is None:
        return Bad(source, "a keypoint is no finite number")
    if table.max() == 0:
        return None
    image = annotation.get("image_id")
    name = names.get(image) if isinstance(image, (int, str)) else None
    if name is None:
        return Bad(source, f"image_id {shown(image)} is not among the images")
    table = table.reshape(-1, 3)
    labelled = table[:, 2] > 0
    visible = np.where(labelled, 2, 0).astype(np.uint8)
    if benchmark.name == "cofw":
        visible[table[:, 2] == 1] = 1  # the other benchmarks' 1 says that a point is labelled
    points = np.where(labelled[:, None], table[:, :2] - _base(benchmark), np.nan)
    if wrong := _wrong(name, points, visible):
        return Bad(source, wrong)
    row = _Row(source, name, points, visible)
    if benchmark.name not in _BOXES:
        return row
    outcome = (_cofw_box if benchmark.name == "cofw" else _aflw_box)(annotation)
    return Bad(source, outcome) if isinstance(outcome, str) else replace(row, **outcome)


def _numbers(values: Any) -> Floats | None:
    """Finite float64 numbers, None for anything else."""
    numbers = to_numbers(values)
    return numbers if numbers is not None and np.isfinite(numbers).all() else None


def _cofw_box(annotation: Mapping[str, Any]) -> dict[str, Any] | str:
    """mmpose's rule, in the frame of the points: it moved these from base 1 to 0, but not the box."""
    box = _numbers(annotation.get("bbox"))
    if box is None or box.shape != (4,):
        return "its bbox is not four numbers"
    x, y, w, h = box.tolist()
    if min(w, h) <= 0:
        return f"its bbox has no size: {w:g} x {h:g}"
    square = np.array([x + w / 2 - 1, y + h / 2 - 1]), max(w, h)
    return {"square": square, "rect": np.array([x - 1, y - 1, w, h])}


def _aflw_box(annotation: Mapping[str, Any]) -> dict[str, Any] | str:
    """The middle and side of AFLW's own box; the `bbox` is another one, around the points."""
    center, side = _numbers(annotation.get("center")), _numbers(annotation.get("box_size"))
    if side is None:
        scale = _numbers(annotation.get("scale"))
        side = None if scale is None else scale * 200
    if center is None or center.shape != (2,) or side is None or side.shape:
        return "it has no center, or neither box_size nor scale"
    return {"square": (center, float(side))} if side > 0 else f"its box has no size: {side:g}"


def _wrong(name: str, points: Floats, visible: NDArray[np.uint8]) -> str | None:
    return flaw(points, visible) if is_inside(name) else f"{shown(name)} is not the name of a picture"


def _hrnet_rows(path: Path, benchmark: Benchmark) -> _Rows:
    """By position: header texts vary. AFLW has a column more, the side of its box."""
    landmarks = benchmark.scheme.landmarks
    boxed = benchmark.name in _BOXES
    head = ("image_name", "scale", *(["box_size"] if boxed else []), "center_w", "center_h")
    width = len(head) + 2 * landmarks
    header, *lines = read_text(path).split("\n")
    if header.count(",") + 1 != width:
        raise PoposError(
            f"{path}:1: {header.count(',') + 1} columns, but HRNet's labels of {benchmark.name} have {width}",
            f"Expected: {', '.join(head)}, then x and y of {landmarks} points.",
        )
    everywhere = np.full(landmarks, 2, np.uint8)
    outcomes: list[_Row | Bad] = []
    for number, line in enumerate(lines, start=2):
        if not line.strip():
            continue
        source = f"{path.name}:{number}"
        name, *cells = line.split(",")
        if len(cells) + 1 != width:
            outcomes.append(Bad(source, f"{len(cells) + 1} columns instead of {width}"))
            continue
        try:
            values = to_floats(cells, first=2)
        except ValueError as error:
            outcomes.append(Bad(source, str(error)))
            continue
        points = values[len(head) - 1 :].reshape(-1, 2) - _base(benchmark)
        square = (values[2:4], float(values[1])) if boxed else None
        wrong = _wrong(name, points, everywhere)
        if square and square[1] <= 0:
            wrong = f"its box has no size: {square[1]:g}"
        outcomes.append(Bad(source, wrong) if wrong else _Row(source, name, points, everywhere, square))
    return outcomes
