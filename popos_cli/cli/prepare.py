"""popos prepare-data: a raw download -> a validated index."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import PoposError, UsageError
from . import console
from .options import JSON, one_of

if TYPE_CHECKING:
    from ..core.schemes import Scheme
    from ..data.index import Index

EXAMPLES = (
    r"Examples:  popos prepare-data custom faces/ --scheme 300w --split-by '^(.*)_\d+'   |   "
    "popos prepare-data synthetic /tmp/toy --count 500"
)
BENCHMARKS = ("300w", "wflw", "cofw", "aflw", "coco-face")


def prepare_data(
    dataset: Annotated[
        str, typer.Argument(help="custom, synthetic, or a benchmark: 300w, wflw, cofw, aflw, coco-face.")
    ],
    root: Annotated[
        Path,
        typer.Argument(help="custom: a CSV, a COCO-keypoints JSON, or a folder; synthetic: a new folder."),
    ],
    scheme: Annotated[str, typer.Option(help="300w, wflw, cofw, aflw, or a TOML file.")] = "300w",
    name: Annotated[
        str | None, typer.Option(help="What to call the dataset.", show_default="ROOT's folder name")
    ] = None,
    split_by: Annotated[
        str | None,
        typer.Option(
            help="Pattern searched in each image path; group 1 is the person.",
            show_default="each picture alone",
        ),
    ] = None,
    val_fraction: Annotated[float, typer.Option(help="Share of people (groups) kept for validation.")] = 0.1,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Draw validation people at random (and synthetic faces).",
            show_default="the last by name; 0 for synthetic",
        ),
    ] = None,
    base: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=1,
            help="Coordinate of the first pixel's centre in the labels.",
            show_default="1 for .pts, else 0",
        ),
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave bad rows out instead of failing.")
    ] = False,
    count: Annotated[int, typer.Option(min=2, max=1_000_000, help="synthetic: how many faces.")] = 500,
    json: JSON = False,
) -> None:
    """Check pictures and labels, and write one index under POPOS_HOME.

    Pictures stay where they are. A bad row (missing or unreadable picture, wrong count, NaN, a
    face without size) is named with file and line, and nothing is written unless --skip-bad.
    """
    one_of(dataset, ("custom", "synthetic", *BENCHMARKS), "dataset")
    if dataset in BENCHMARKS:
        raise PoposError(
            f"prepare-data {dataset}: this version does not read the raw {dataset} download yet",
            "Convert its labels to a CSV (image,x0,y0,...), .pts files or COCO keypoints, then: "
            f"popos prepare-data custom ROOT --name {dataset} --scheme "
            f"{'300w' if dataset == 'coco-face' else dataset}",
        )
    if not 0 < val_fraction < 1:
        raise UsageError(f"--val-fraction {val_fraction}: must lie between 0 and 1")
    from ..core.schemes import find_scheme
    from ..data.home import remember
    from ..data.index import write_index

    landmark_scheme = find_scheme(scheme)
    if dataset == "synthetic":
        from ..data.benchmarks.synthetic import prepare_synthetic

        index = prepare_synthetic(
            root, count, landmark_scheme, seed or 0, _checked(name or "synthetic"), val_fraction
        )
        bad: list[Any] = []
    else:
        label = _checked(name or (root.resolve().stem if root.is_file() else root.resolve().name))
        options = {"split_by": split_by, "val_fraction": val_fraction, "seed": seed, "base": base}
        index, bad = _import_custom(root, landmark_scheme, label, skip_bad, options)
    path = write_index(index)
    remember("roots", root)
    _report(index, path, len(bad), json)


def _import_custom(
    root: Path, scheme: Scheme, name: str, skip_bad: bool, options: dict[str, Any]
) -> tuple[Index, list[Any]]:
    """The good faces and the bad rows, each of which is named on stderr. Raises PoposError."""
    from ..data.benchmarks.custom import prepare_custom

    with console.progress_bar("checking pictures") as (bar, task):
        index, bad = prepare_custom(
            root, scheme, name, **options,
            advance=lambda done, total: bar.update(task, completed=done, total=total),
        )  # fmt: skip
    for problem in bad:
        console.note(str(problem))
    if index is None:
        first = f", first: {bad[0]}" if bad else ""
        raise PoposError(
            f"{root}: too few usable faces ({len(bad)} bad rows{first}); nothing was written",
            "Training needs faces of two people (groups) at least.",
        )
    if bad and not skip_bad:
        raise PoposError(
            f"{root}: {len(bad)} of {len(bad) + len(index)} rows are bad (first: {bad[0]}); "
            "nothing was written",
            "Mend them, or leave them out with --skip-bad.",
        )
    return index, bad


def _report(index: Index, path: Path, skipped: int, json: bool) -> None:
    splits = {split: int((index.split == split).sum()) for split in index.splits}
    outside = index.outside()
    report = {
        "dataset": index.name,
        "index": str(path),
        "scheme": index.scheme.name,
        "faces": len(index),
        "splits": splits,
        "groups": len(set(index.group)),
        "skipped": skipped,
        "points_outside": int(outside.sum()),
        "faces_with_points_outside": int(outside.any(1).sum()),
    }
    if json:
        console.print_json(report)
        return
    console.print_table(
        f"{index.name}: {len(index)} faces, scheme {index.scheme.name}",
        ["split", "faces", "people or groups"],
        [[s, str(n), str(len(set(index.group[index.split == s])))] for s, n in splits.items()],
    )
    if skipped:
        console.stdout.print(f"left out: {skipped} bad rows")
    if outside.any():
        console.stdout.print(
            f"{report['points_outside']} points of {report['faces_with_points_outside']} faces lie "
            "outside their picture; kept"
        )
    console.stdout.print(f"index: {path}")
    console.note(f"next: popos train --dataset {index.name} --resolution 16")


def _checked(name: str) -> str:
    """A dataset name that is a plain file name."""
    if not name or name.startswith((".", "-")) or any(c in name for c in "/\\:\0") or name != name.strip():
        raise UsageError(
            f"--name {name!r}: cannot be used as a dataset's name", "Use letters, digits, - and _."
        )
    return name
