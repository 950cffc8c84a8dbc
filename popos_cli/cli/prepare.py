"""popos prepare-data: a raw download, or somebody's own labels -> a checked index."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..prepare.options import CropFormat, Orientation, PrepareOptions
from . import console
from .options import JSON

if TYPE_CHECKING:
    from ..prepare.run import Prepared

EXAMPLES = (
    r"Examples:  popos prepare-data 300w /data   |   popos prepare-data wflw /data --cache-crops   |   "
    r"popos prepare-data custom faces/ --scheme 300w --split-by '^(.*)_\d+'   |   "
    "popos prepare-data synthetic /tmp/toy --count 500"
)
OWN, BENCHMARKS, SYNTHETIC, CROPS = "Own data (custom)", "Benchmarks", "Synthetic", "Crop cache"


def _flag(*names: str, help: str, default: str | bool = True, panel: str | None = None, **limits: Any) -> Any:
    return typer.Option(*names, help=help, show_default=default, rich_help_panel=panel, **limits)


def prepare_data(
    dataset: Annotated[
        str, typer.Argument(help="300w, wflw, cofw, aflw, coco-face; custom for your own; synthetic.")
    ],
    root: Annotated[Path, typer.Argument(
        help="Benchmark: a folder that holds its download somewhere below; custom: a CSV, a COCO-keypoints "
        "JSON, or a folder; synthetic: a new folder."
    )],
    name: Annotated[str | None, _flag(
        help="What to call the dataset.", default="the benchmark's name; else ROOT's folder name"
    )] = None,
    val_fraction: Annotated[float | None, _flag(
        help="Share of people (groups) kept for validation; of a benchmark's training pictures, where 0 "
        "trains on all of them and chooses the epoch on the test faces.",
        default="0.1; benchmarks: 0.05",
    )] = None,
    seed: Annotated[int | None, _flag(
        help="Draw validation people at random (and synthetic faces).", min=0,
        default="the last by name; 0 for benchmarks and synthetic",
    )] = None,
    orientation: Annotated[Orientation, _flag(
        help="Pixels that labels refer to where EXIF turns a picture: as in the file, or as a person sees it "
        "(labelme)."
    )] = "stored",
    skip_bad: Annotated[
        bool, _flag("--skip-bad", help="Leave bad rows and undecodable pictures out.")
    ] = False,
    force: Annotated[
        bool, _flag("--force", help="Replace a dataset of this name that came from another ROOT.")
    ] = False,
    json: JSON = False,
    scheme: Annotated[str | None, _flag(
        help="300w, wflw, cofw, aflw, or a TOML file; also for synthetic.", default="300w", panel=OWN
    )] = None,
    split_by: Annotated[str | None, _flag(
        help="Pattern searched in each image path; group 1 is the person.", default="each picture alone",
        panel=OWN,
    )] = None,
    base: Annotated[int | None, _flag(
        help="Coordinate of the first pixel's centre in the labels.", min=0, max=1,
        default="1 for .pts, else 0", panel=OWN,
    )] = None,
    normalised: Annotated[
        bool, _flag("--normalised", help="Labels are in 0..1, shares of width and height.", panel=OWN)
    ] = False,
    allow_partial: Annotated[
        bool,
        _flag("--allow-partial", help="Go on with the part that is there; figures say so.", panel=BENCHMARKS),
    ] = False,
    count: Annotated[
        int, _flag(help="How many faces to draw.", min=2, max=1_000_000, panel=SYNTHETIC)
    ] = 500,
    cache_crops: Annotated[
        bool, _flag("--cache-crops", help="Also write small face crops for training to read.", panel=CROPS)
    ] = False,
    crop_format: Annotated[
        CropFormat, _flag(help="Quality 95, or lossless at four times the size.", panel=CROPS)
    ] = "jpeg",
) -> None:  # fmt: skip
    """Check pictures and labels, and write one index under POPOS_HOME.

    Benchmarks are found by the names of their files: the official download (archives or unpacked),
    mmpose's JSON or HRNet's CSV. Pictures stay where they are, unless they lie in an archive or a .mat.
    A bad row (missing or unreadable picture, wrong count, NaN, a face without size) is named with file
    and line, and nothing is written unless --skip-bad.
    """
    from ..prepare.run import prepare_dataset

    options = PrepareOptions(
        name=name, scheme=scheme, split_by=split_by, val_fraction=val_fraction, seed=seed, base=base,
        normalised=normalised, orientation=orientation, allow_partial=allow_partial, skip_bad=skip_bad,
        cache_crops=cache_crops, crop_format=crop_format, force=force, count=count,
    )  # fmt: skip
    _report(prepare_dataset(dataset, root, options, console.note, console.counter), json)


def _report(prepared: Prepared, json: bool) -> None:
    from ..data.flip_check import mirror, mirror_remarks
    from ..data.partial import described, shortfalls

    index, crops = prepared.index, prepared.crops
    missing = shortfalls(index)
    for line in mirror_remarks(mirror(index), index.scheme):
        console.note(line)
    outside = index.outside()
    points, faces = int(outside.sum()), int(outside.any(1).sum())
    splits: dict[str, Any] = {split: index.split == split for split in index.splits}
    subsets = {subset: index.subset[:, n] for n, subset in enumerate(index.subsets)}
    if json:
        console.print_json({
            "dataset": index.name,
            "index": str(prepared.path),
            "scheme": index.scheme.name,
            "faces": len(index),
            "splits": {split: int(chosen.sum()) for split, chosen in splits.items()},
            "subsets": {subset: int(chosen.sum()) for subset, chosen in subsets.items()},
            "groups": len(set(index.group) - {""}),
            "partial": bool(index.notes.get("partial")),
            "missing": missing,
            "skipped": prepared.skipped,
            "points_outside": points,
            "faces_with_points_outside": faces,
            "crops": crops and str(crops),
        })  # fmt: skip
        return
    rows = []
    parts = splits | {f"test: {subset}": chosen for subset, chosen in subsets.items()}
    for part, chosen in parts.items():
        if not chosen.any():  # a subset of a test split that is not there
            continue
        people = set(index.group[chosen]) - {""}  # empty where nobody says who is who
        counts = int(chosen.sum()), len(set(index.image[chosen])), len(people) or ""
        rows.append([part, *map(str, counts)])
    title = f"{index.name}: {len(index)} faces, scheme {index.scheme.name}"
    console.print_table(title, ["split", "faces", "pictures", "people"], rows)
    for split in missing.values():
        console.stdout.print(f"partial: {described(split)}; every figure will say so")
    if prepared.skipped:
        console.stdout.print(f"left out: {prepared.skipped} bad rows or pictures")
    if points:
        console.stdout.print(f"{points} points of {faces} faces lie outside their picture; kept")
    console.stdout.print(f"index: {prepared.path}")
    if crops:
        console.stdout.print(f"crops: {crops}")
    console.note(f"next: popos train --dataset {index.name} --resolution 16")
