"""popos prepare-data: a raw download, or somebody's own labels -> a checked index."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..prepare.options import CropFormat, Orientation, PrepareOptions
from . import console
from .options import JSON

if TYPE_CHECKING:
    from ..prepare.dataset import Prepared

EXAMPLES = (
    r"Examples:  popos prepare-data 300w /data   |   popos prepare-data wflw /data --cache-crops   |   "
    r"popos prepare-data custom faces/ --scheme 300w --split-by '^(.*)_\d+'   |   "
    "popos prepare-data synthetic /tmp/toy --count 500"
)
OWN, SYNTHETIC, BENCHMARKS, CROPS = "Own data (custom)", "Synthetic", "Benchmarks", "Crop cache"


def prepare_data(
    dataset: Annotated[
        str, typer.Argument(help="300w, wflw, cofw, aflw, coco-face; custom for your own; synthetic.")
    ],
    root: Annotated[
        Path,
        typer.Argument(
            help="Benchmark: a folder that holds its download somewhere below; custom: a CSV, a "
            "COCO-keypoints JSON, or a folder; synthetic: a new folder."
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option(
            help="What to call the dataset.", show_default="the benchmark's name; else ROOT's folder name"
        ),
    ] = None,
    val_fraction: Annotated[
        float | None,
        typer.Option(
            help="Share of people (groups) kept for validation; of a benchmark's training pictures, where 0 "
            "trains on all of them and chooses the epoch on the test faces.",
            show_default="0.1; benchmarks: 0.05",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Draw validation people at random (and synthetic faces).",
            show_default="the last by name; 0 for benchmarks and synthetic",
        ),
    ] = None,
    orientation: Annotated[
        Orientation,
        typer.Option(
            help="Pixels that labels refer to where EXIF turns a picture: as in the file, or as a person "
            "sees it (labelme)."
        ),
    ] = "stored",
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave bad rows and undecodable pictures out.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a dataset of this name that came from another ROOT.")
    ] = False,
    json: JSON = False,
    scheme: Annotated[
        str | None,
        typer.Option(
            help="300w, wflw, cofw, aflw, or a TOML file; also for synthetic.", show_default="300w",
            rich_help_panel=OWN,
        ),
    ] = None,
    split_by: Annotated[
        str | None,
        typer.Option(
            help="Pattern searched in each image path; group 1 is the person.",
            show_default="each picture alone", rich_help_panel=OWN,
        ),
    ] = None,
    base: Annotated[
        int | None,
        typer.Option(
            min=0, max=1, help="Coordinate of the first pixel's centre in the labels.",
            show_default="1 for .pts, else 0", rich_help_panel=OWN,
        ),
    ] = None,
    normalised: Annotated[
        bool,
        typer.Option(
            "--normalised", help="Labels are in 0..1, shares of width and height.", rich_help_panel=OWN
        ),
    ] = False,
    allow_partial: Annotated[
        bool,
        typer.Option(
            "--allow-partial", help="Go on with the part that is there.", rich_help_panel=BENCHMARKS
        ),
    ] = False,
    count: Annotated[
        int, typer.Option(min=2, max=1_000_000, help="How many faces to draw.", rich_help_panel=SYNTHETIC)
    ] = 500,
    cache_crops: Annotated[
        bool,
        typer.Option(
            "--cache-crops", help="Also write small face crops, which training then reads.",
            rich_help_panel=CROPS,
        ),
    ] = False,
    crop_format: Annotated[
        CropFormat,
        typer.Option(help="Quality 95, or lossless at four times the size.", rich_help_panel=CROPS),
    ] = "jpeg",
) -> None:  # fmt: skip
    """Check pictures and labels, and write one index under POPOS_HOME.

    Benchmarks are found by the names of their files: the official download (archives or unpacked),
    mmpose's JSON or HRNet's CSV. Pictures stay where they are, unless they lie in an archive or a .mat.
    A bad row (missing or unreadable picture, wrong count, NaN, a face without size) is named with file
    and line, and nothing is written unless --skip-bad.
    """
    from ..prepare.dataset import prepare_dataset

    options = PrepareOptions(
        name=name, scheme=scheme, split_by=split_by, val_fraction=val_fraction, seed=seed, base=base,
        normalised=normalised, orientation=orientation, allow_partial=allow_partial, skip_bad=skip_bad,
        cache_crops=cache_crops, crop_format=crop_format, force=force, count=count,
    )  # fmt: skip
    _report(prepare_dataset(dataset, root, options, console.note, progress), json)


@contextmanager
def progress(description: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr; yields what moves it, called with how many are done, and of how many."""
    with console.progress_bar(description) as (bar, task):
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _report(prepared: Prepared, json: bool) -> None:
    from ..inspect.describe import mirror, mirror_remarks

    index, crops = prepared.index, prepared.crops
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
            "skipped": prepared.skipped,
            "points_outside": points,
            "faces_with_points_outside": faces,
            "crops": crops and str(crops),
        })  # fmt: skip
        return
    rows = []
    parts = splits | {f"test: {subset}": chosen for subset, chosen in subsets.items()}
    for part, chosen in parts.items():
        people = set(index.group[chosen]) - {""}  # empty where nobody says who is who
        counts = int(chosen.sum()), len(set(index.image[chosen])), len(people) or ""
        rows.append([part, *map(str, counts)])
    title = f"{index.name}: {len(index)} faces, scheme {index.scheme.name}"
    console.print_table(title, ["split", "faces", "pictures", "people"], rows)
    if prepared.skipped:
        console.stdout.print(f"left out: {prepared.skipped} bad rows or pictures")
    if points:
        console.stdout.print(f"{points} points of {faces} faces lie outside their picture; kept")
    console.stdout.print(f"index: {prepared.path}")
    if crops:
        console.stdout.print(f"crops: {crops}")
    console.note(f"next: popos train --dataset {index.name} --resolution 16")
