"""popos prepare-data: a raw download -> a validated index."""

from __future__ import annotations

import os
import shlex
from dataclasses import replace
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
    r"Examples:  popos prepare-data 300w /data   |   popos prepare-data wflw /data --cache-crops   |   "
    r"popos prepare-data custom faces/ --scheme 300w --split-by '^(.*)_\d+'   |   "
    "popos prepare-data synthetic /tmp/toy --count 500"
)
BENCHMARKS = ("300w", "wflw", "cofw", "aflw", "coco-face")
VALIDATION = 0.1  # share of the people
BENCHMARK_VALIDATION = 0.05  # of the training pictures: no benchmark has a validation part of its own
LONGEST_NAME = 200  # bytes; file systems take 255, endings and temporary names among them
MOST_NAMED = 10  # bad rows that are named one by one


def prepare_data(
    context: typer.Context,
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
    scheme: Annotated[
        str | None,
        typer.Option(help="custom, synthetic: 300w, wflw, cofw, aflw, or a TOML file.", show_default="300w"),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="What to call the dataset.", show_default="the benchmark's name; else ROOT's folder name"
        ),
    ] = None,
    split_by: Annotated[
        str | None,
        typer.Option(
            help="custom: pattern searched in each image path; group 1 is the person.",
            show_default="each picture alone",
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
    base: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=1,
            help="custom: coordinate of the first pixel's centre in the labels.",
            show_default="1 for .pts, else 0",
        ),
    ] = None,
    normalised: Annotated[
        bool,
        typer.Option("--normalised", help="custom: labels are in 0..1, shares of width and height."),
    ] = False,
    orientation: Annotated[
        str,
        typer.Option(
            help="Pixels that labels refer to where EXIF turns a picture: stored (as in the file) or upright "
            "(as a person sees it; labelme)."
        ),
    ] = "stored",
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Benchmarks: go on with the part that is there.")
    ] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave bad rows and undecodable pictures out.")
    ] = False,
    cache_crops: Annotated[
        bool,
        typer.Option("--cache-crops", help="Also write small face crops, which training then reads."),
    ] = False,
    crop_format: Annotated[
        str, typer.Option(help="jpeg (quality 95) or png (lossless, four times the size).")
    ] = "jpeg",
    force: Annotated[
        bool, typer.Option("--force", help="Replace a dataset of this name that came from another ROOT.")
    ] = False,
    count: Annotated[int, typer.Option(min=2, max=1_000_000, help="synthetic: how many faces.")] = 500,
    json: JSON = False,
) -> None:
    """Check pictures and labels, and write one index under POPOS_HOME.

    Benchmarks are found by the names of their files: the official download (archives or unpacked),
    mmpose's JSON or HRNet's CSV. Pictures stay where they are, unless they lie in an archive or a .mat.
    A bad row (missing or unreadable picture, wrong count, NaN, a face without size) is named with file
    and line, and nothing is written unless --skip-bad.
    """
    one_of(dataset, ("custom", "synthetic", *BENCHMARKS), "dataset")
    one_of(crop_format, ("jpeg", "png"), "--crop-format")
    one_of(orientation, ("stored", "upright"), "--orientation")
    none = val_fraction == 0 and dataset in BENCHMARKS
    if val_fraction is not None and not 0 < val_fraction < 1 and not none:
        raise UsageError(f"--val-fraction {val_fraction}: must lie between 0 and 1")
    if dataset in BENCHMARKS:
        custom = {
            "--scheme": scheme, "--split-by": split_by, "--base": base, "--normalised": normalised or None
        }  # fmt: skip
        for flag, value in custom.items():
            if value is not None:
                raise UsageError(f"{flag} is not for {dataset}, whose labels are known")
    from ..core.schemes import find_scheme
    from ..data.index import index_path, refuse_replacing

    left_out: list[Any] = []
    place = Path(os.path.abspath(root))  # a link keeps its own name
    own = place.stem if root.is_file() else place.name
    label = _checked(name or (own if dataset == "custom" else dataset))
    if not force:  # before the work; and again at the end of it
        refuse_replacing(index_path(label), str(root.resolve()))
    share = VALIDATION if val_fraction is None else val_fraction
    if dataset in BENCHMARKS:
        index, left_out = _import_benchmark(
            dataset, root, label, allow_partial=allow_partial, skip_bad=skip_bad,
            val_fraction=val_fraction, seed=seed, upright=orientation == "upright",
        )  # fmt: skip
    elif dataset == "synthetic":
        from ..prepare.synthetic import prepare_synthetic

        index = prepare_synthetic(root, count, find_scheme(scheme or "300w"), seed or 0, label, share)
    else:
        options = {
            "split_by": split_by, "val_fraction": share, "seed": seed, "base": base, "normalised": normalised,
            "upright": orientation == "upright",
        }  # fmt: skip
        index, left_out = _import_custom(root, find_scheme(scheme or "300w"), label, skip_bad, options)
    index, path, crops = _keep(index, root, _command(context), force, crop_format if cache_crops else None)
    _report(index, path, crops, len(left_out), json)


def _command(context: typer.Context) -> str:
    """The command line that this call is the same as, wherever it is typed."""
    words = ["popos", "prepare-data"]
    for parameter in context.command.params:
        name = str(parameter.name)
        value = context.params.get(name)
        source = context.get_parameter_source(name)
        if name in ("json", "force") or source is None or source.name != "COMMANDLINE":
            continue
        if name in ("root", "scheme") and value is not None and Path(value).exists():
            value = os.path.abspath(value)
        flag = parameter.opts[0]
        words += ([flag] if flag.startswith("-") else []) + ([] if value is True else [str(value)])
    return shlex.join(words)


def _keep(
    index: Index, root: Path, command: str, force: bool = False, crop_format: str | None = None
) -> tuple[Index, Path, Path | None]:
    """Write the index, and crops in a format, to POPOS_HOME: the index as written, its file, the crops."""
    from ..data.index import write_index
    from ..data.stamps import stamped
    from ..home import remember

    notes = {**index.notes, "prepared_from": str(root.resolve()), "command": command}
    index = stamped(replace(index, notes=notes))
    # Crops first: where the disk is full, an earlier index stays as it was.
    crops = _cache_crops(index, crop_format) if crop_format else None
    path = write_index(index, force=force)
    remember("roots", root)
    return index, path, crops


def _import_benchmark(
    dataset: str, root: Path, name: str, *, allow_partial: bool, skip_bad: bool = False,
    val_fraction: float | None = None, seed: int | None = None, upright: bool = False,
) -> tuple[Index, list[Any]]:  # fmt: skip
    """The benchmark's index and what was left out, each named on stderr. Raises PoposError.

    val_fraction None: `BENCHMARK_VALIDATION`.
    """
    from ..prepare.assemble import build_index, check_counts, find_labels, told_missing

    console.note(f"reading {dataset} below {root}")  # COCO-WholeBody has 3 GB of labels
    labels, counts = find_labels(
        dataset, root, lambda archive: console.note(f"unpacking {archive} (this may take minutes)")
    )
    wrong = not all(line.right for line in counts)
    if wrong:
        console.stderr.print(f"{dataset} below {root} ({labels.kind}): expected, found")
        for line in counts:
            expected = "?" if line.expected is None else str(line.expected)
            mark = "" if line.right else "   <-"
            console.stderr.print(f"{'   ' * line.depth + line.name:24}{expected:>8}{line.found:>8}{mark}")
    for remark in labels.remarks:
        console.note(remark)
    _name_bad(labels.bad)
    if not allow_partial:
        check_counts(dataset, root, labels, counts)
    if labels.missing:
        console.note(told_missing(labels))
    with console.progress_bar("checking pictures") as (bar, task):
        index, left_out, odd, turned = build_index(
            dataset, labels, name=name, skip_bad=skip_bad, partial=wrong or bool(labels.missing),
            val_fraction=BENCHMARK_VALIDATION if val_fraction is None else val_fraction, seed=seed or 0,
            upright=upright,
            advance=lambda done, total: bar.update(task, completed=done, total=total),
        )  # fmt: skip
    _name_bad(left_out, "left out: ")
    if turned:
        console.note(turned)
    for bad in odd[:5]:
        console.note(f"warning: {bad}" + (f" ({len(odd)} such pictures)" if len(odd) > 1 else ""))
    return index, [*labels.bad, *left_out]


def _name_bad(rows: list[Any], prefix: str = "") -> None:
    """The first of the bad rows on stderr, and how many more there are."""
    for bad in rows[:MOST_NAMED]:
        console.note(f"{prefix}{bad}")
    if len(rows) > MOST_NAMED:
        console.note(f"{prefix}and {len(rows) - MOST_NAMED} more")


def prepare_remembered(dataset: str) -> bool:
    """Prepare a benchmark from a root that an earlier prepare-data was given, if one holds all of it."""
    from ..home import remembered

    if dataset not in BENCHMARKS:
        return False
    for root in remembered("roots"):
        try:
            index, _ = _import_benchmark(dataset, root, dataset, allow_partial=False)
        except PoposError as error:
            console.note(f"{error.message}. {error.hint or ''}")
            continue
        _keep(index, root, shlex.join(["popos", "prepare-data", dataset, str(root)]))
        console.note(f"prepared {dataset} from {root}: {len(index)} faces")
        return True
    return False


def _cache_crops(index: Index, crop_format: str) -> Path:
    from ..data.crops import cache_crops

    with console.progress_bar("caching crops") as (bar, task):
        return cache_crops(
            index, lossless=crop_format == "png",
            advance=lambda done, total: bar.update(task, completed=done, total=total),
        )  # fmt: skip


def _import_custom(
    root: Path, scheme: Scheme, name: str, skip_bad: bool, options: dict[str, Any]
) -> tuple[Index, list[Any]]:
    """The good faces and the bad rows, the first of which are named on stderr. Raises PoposError."""
    from ..prepare.custom import prepare_custom

    with console.progress_bar("checking pictures") as (bar, task):
        index, bad, remarks = prepare_custom(
            root, scheme, name, **options,
            advance=lambda done, total: bar.update(task, completed=done, total=total),
        )  # fmt: skip
    _name_bad(bad)
    for remark in remarks:
        console.note(remark)
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
            f"Mend them, or leave them out: popos prepare-data custom {root} --skip-bad.",
        )
    return index, bad


def _report(index: Index, path: Path, crops: Path | None, skipped: int, json: bool) -> None:
    from ..inspect.describe import mirror, mirror_remarks

    for line in mirror_remarks(mirror(index), index.scheme):
        console.note(line)
    splits = {split: int((index.split == split).sum()) for split in index.splits}
    outside = index.outside()
    report = {
        "dataset": index.name,
        "index": str(path),
        "scheme": index.scheme.name,
        "faces": len(index),
        "splits": splits,
        "subsets": {subset: int(index.subset[:, n].sum()) for n, subset in enumerate(index.subsets)},
        "groups": len(set(index.group) - {""}),
        "partial": bool(index.notes.get("partial")),
        "skipped": skipped,
        "points_outside": int(outside.sum()),
        "faces_with_points_outside": int(outside.any(1).sum()),
        "crops": None if crops is None else str(crops),
    }
    if json:
        console.print_json(report)
        return
    rows = [_counts(index, split, index.split == split) for split in splits]
    rows += [_counts(index, f"test: {subset}", index.subset[:, n]) for n, subset in enumerate(index.subsets)]
    title = f"{index.name}: {len(index)} faces, scheme {index.scheme.name}"
    console.print_table(title, ["split", "faces", "pictures", "people"], rows)
    if skipped:
        console.stdout.print(f"left out: {skipped} bad rows or pictures")
    if outside.any():
        console.stdout.print(
            f"{report['points_outside']} points of {report['faces_with_points_outside']} faces lie "
            "outside their picture; kept"
        )
    console.stdout.print(f"index: {path}")
    if crops is not None:
        console.stdout.print(f"crops: {crops}")
    console.note(f"next: popos train --dataset {index.name} --resolution 16")


def _counts(index: Index, title: str, rows: Any) -> list[str]:
    """Faces, pictures and people (groups; empty where nobody says who is who) among these rows."""
    people = set(index.group[rows]) - {""}
    return [title, str(int(rows.sum())), str(len(set(index.image[rows]))), str(len(people) or "")]


def _checked(name: str) -> str:
    """A dataset name that is a plain file name."""
    if len(os.fsencode(name)) > LONGEST_NAME:
        raise UsageError(f"--name {name[:20]}...: longer than {LONGEST_NAME} bytes")
    if not name or name.startswith((".", "-")) or any(c in name for c in "/\\:\0") or name != name.strip():
        raise UsageError(
            f"--name {name!r}: cannot be used as a dataset's name", "Use letters, digits, - and _."
        )
    return name
