"""What `popos prepare-data` does: labels and pictures below ROOT -> a checked index in POPOS_HOME."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from ..core.schemes import find_scheme
from ..data.crops import cache_crops
from ..data.index import Index, index_path, load_index, write_index
from ..data.stamps import stamped
from ..data.threads import Advance
from ..errors import PoposError, UsageError, did_you_mean
from ..home import remember, remembered
from .assemble import build_index, check_counts, describe_missing, find_labels
from .custom import VALIDATION, prepare_custom
from .labels import Bad
from .options import PrepareOptions
from .parsing import shown
from .protocol import BENCHMARKS
from .synthetic import prepare_synthetic

DATASETS = ("custom", "synthetic", *BENCHMARKS)
BENCHMARK_VALIDATION = 0.05  # of the training pictures: no benchmark has a validation part of its own
LONGEST_NAME = 200  # bytes; file systems take 255, endings and temporary names among them
MOST_NAMED = 10  # bad rows that are named one by one

Say = Callable[[str], None]  # shows a line to the user
Progress = Callable[[str], AbstractContextManager[Advance]]  # shows how far a step is, by its description


@dataclass(frozen=True)
class Prepared:
    """The index as written and its file; the folder of cached crops, if any; how much was left out."""

    index: Index
    path: Path
    crops: Path | None
    skipped: int


def prepare_dataset(
    dataset: str, root: Path, options: PrepareOptions, say: Say, progress: Progress
) -> Prepared:
    """Prepare one of `DATASETS` from ROOT, write its index, and remember ROOT.

    `say` is given remarks and the first bad rows. Raises UsageError for options that do not fit, PoposError
    for everything else; then an earlier index stays as it was.
    """
    _check_options(dataset, options)
    name = _dataset_name(dataset, root, options.name)
    origin = str(root.resolve())
    if not options.force:
        _refuse_replacing(name, origin)
    if dataset == "synthetic":
        scheme, share = find_scheme(options.scheme or "300w"), options.val_fraction or VALIDATION
        index, skipped = prepare_synthetic(root, options.count, scheme, options.seed or 0, name, share), 0
    else:
        importer = _import_own if dataset == "custom" else _import_benchmark
        index, skipped = importer(dataset, root, name, options, say, progress)
    notes = {**index.notes, "prepared_from": origin, "command": options.command(dataset, root)}
    index = stamped(replace(index, notes=notes))
    crops = None
    if options.cache_crops:  # before the index: where the disk is full, an earlier one stays as it was
        with progress("caching crops") as advance:
            crops = cache_crops(index, lossless=options.crop_format == "png", advance=advance)
    path = write_index(index)
    remember("roots", root)
    return Prepared(index, path, crops, skipped)


def prepare_remembered(dataset: str, say: Say, progress: Progress) -> bool:
    """Prepare a benchmark from the ROOT of an earlier prepare-data, if one of them holds all of it."""
    for root in remembered("roots") if dataset in BENCHMARKS else []:
        try:
            prepared = prepare_dataset(dataset, root, PrepareOptions(), say, progress)
        except PoposError as error:
            say(f"{error.message}. {error.hint or ''}")
            continue
        say(f"prepared {dataset} from {root}: {len(prepared.index)} faces")
        return True
    return False


def _check_options(dataset: str, options: PrepareOptions) -> None:
    """Raises UsageError."""
    if dataset not in DATASETS:
        hint = f"{did_you_mean(dataset, DATASETS)}Known: {', '.join(DATASETS)}."
        raise UsageError(f"unknown dataset {dataset!r}", hint)
    share = options.val_fraction
    if share is not None and not 0 < share < 1 and not (share == 0 and dataset in BENCHMARKS):
        raise UsageError(f"--val-fraction {share}: must lie between 0 and 1")
    for flag in ("scheme", "split_by", "base", "normalised") if dataset in BENCHMARKS else ():
        if getattr(options, flag) is not getattr(PrepareOptions, flag):
            raise UsageError(f"--{flag.replace('_', '-')} is not for {dataset}, whose labels are known")


def _dataset_name(dataset: str, root: Path, given: str | None) -> str:
    """--name, else the benchmark's name, else that of ROOT. Raises UsageError where it is no file name."""
    place = Path(os.path.abspath(root))  # a link keeps its own name
    own = place.stem if root.is_file() else place.name
    name = given or (own if dataset == "custom" else dataset)
    plain = re.fullmatch(r"(?![.-])[^/\\:\0]+", name) and name == name.strip()
    if not plain or len(os.fsencode(name)) > LONGEST_NAME:
        hint = f"Use letters, digits, - and _, at most {LONGEST_NAME} of them."
        raise UsageError(f"--name {shown(name)}: cannot be used as a dataset's name", hint)
    return name


def _refuse_replacing(name: str, origin: str) -> None:
    """Raises PoposError where a readable index of this name was prepared from another ROOT."""
    try:
        earlier = load_index(index_path(name)).notes.get("prepared_from", origin)
    except PoposError:  # none, or broken
        return
    if earlier != origin:
        raise PoposError(
            f"dataset {name!r} is there already, prepared from {earlier}, not from {origin}",
            "Give this one another name with --name, or replace that one with --force.",
        )


def _import_own(
    dataset: str, root: Path, name: str, options: PrepareOptions, say: Say, progress: Progress
) -> tuple[Index, int]:
    """The index of the good faces, and how many bad rows were left out. Raises PoposError."""
    scheme = find_scheme(options.scheme or "300w")
    with progress("checking pictures") as advance:
        index, bad, remarks = prepare_custom(root, scheme, name, options, advance)
    _name_bad(bad, say)
    for remark in remarks:
        say(remark)
    if index is None:
        first = f", first: {bad[0]}" if bad else ""
        raise PoposError(
            f"{root}: too few usable faces ({len(bad)} bad rows{first}); nothing was written",
            "Training needs faces of two people (groups) at least.",
        )
    if bad and not options.skip_bad:
        raise PoposError(
            f"{root}: {len(bad)} of {len(bad) + len(index)} rows are bad (first: {bad[0]}); "
            "nothing was written",
            f"Mend them, or leave them out: popos prepare-data custom {root} --skip-bad.",
        )
    return index, len(bad)


def _import_benchmark(
    dataset: str, root: Path, name: str, options: PrepareOptions, say: Say, progress: Progress
) -> tuple[Index, int]:
    """The benchmark's index and how many faces and pictures were left out. Raises PoposError."""
    say(f"reading {dataset} below {root}")  # COCO-WholeBody has 3 GB of labels
    labels, counts = find_labels(
        dataset, root, lambda archive: say(f"unpacking {archive} (this may take minutes)")
    )
    wrong = not all(line.right for line in counts)
    if wrong:
        say(f"{dataset} below {root} ({labels.kind}): expected, found")
        for line in counts:
            expected = "?" if line.expected is None else str(line.expected)
            mark = "" if line.right else "   <-"
            say(f"{'   ' * line.depth + line.name:24}{expected:>8}{line.found:>8}{mark}")
    for remark in labels.remarks:
        say(remark)
    _name_bad(labels.bad, say)
    if not options.allow_partial:
        check_counts(dataset, root, labels, counts)
    if labels.missing:
        say(describe_missing(labels))
    share = BENCHMARK_VALIDATION if options.val_fraction is None else options.val_fraction
    with progress("checking pictures") as advance:
        index, left_out, remarks = build_index(
            dataset, labels, name=name, skip_bad=options.skip_bad, partial=wrong or bool(labels.missing),
            val_fraction=share, seed=options.seed or 0, upright=options.orientation == "upright",
            advance=advance,
        )  # fmt: skip
    _name_bad(left_out, say, "left out: ")
    for remark in remarks:
        say(remark)
    return index, len(labels.bad) + len(left_out)


def _name_bad(rows: Sequence[Bad], say: Say, prefix: str = "") -> None:
    """The first of the bad rows, and how many more there are."""
    for bad in rows[:MOST_NAMED]:
        say(f"{prefix}{bad}")
    if len(rows) > MOST_NAMED:
        say(f"{prefix}and {len(rows) - MOST_NAMED} more")
