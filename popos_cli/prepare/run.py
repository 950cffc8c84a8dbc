"""What `popos prepare-data` does: labels and pictures below ROOT -> a checked index in POPOS_HOME."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ..core.choices import IMPORTERS
from ..core.schemes import find_scheme
from ..data.crops import cache_crops
from ..data.index import Index, index_path, load_index, stamped, write_index
from ..errors import PoposError, UsageError, did_you_mean
from ..home import remember, remembered
from ..progress import Counter
from .assemble import assemble
from .benchmarks import BENCHMARKS, find_benchmark
from .custom import find_own
from .labels import listed
from .options import PrepareOptions
from .parsing import shown
from .splits import hold_back_people, hold_back_photos
from .synthetic import prepare_synthetic

VALIDATION = 0.1  # share of the people (groups)
BENCHMARK_VALIDATION = 0.05  # of the training pictures: no benchmark has a validation part of its own
LONGEST_NAME = 200  # bytes; file systems take 255, endings and temporary names among them

Say = Callable[[str], None]  # shows a line to the user


@dataclass(frozen=True)
class Prepared:
    """The index as written and its file; the folder of cached crops, if any; how much was left out."""

    index: Index
    path: Path
    crops: Path | None
    skipped: int


def prepare_dataset(
    dataset: str, root: Path, options: PrepareOptions, say: Say, counter: Counter
) -> Prepared:
    """Prepare one of `IMPORTERS` from ROOT, write its index, and remember ROOT.

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
        index, skipped = _import(dataset, root, name, options, say, counter)
    notes = {**index.notes, "prepared_from": origin, "command": options.command(dataset, root)}
    index = stamped(replace(index, notes=notes))
    crops = None
    if options.cache_crops:  # before the index: where the disk is full, an earlier one stays as it was
        with counter("caching crops") as advance:
            crops = cache_crops(index, lossless=options.crop_format == "png", advance=advance)
    path = write_index(index)
    remember("roots", root)
    return Prepared(index, path, crops, skipped)


def prepare_remembered(dataset: str, say: Say, counter: Counter) -> bool:
    """Prepare a benchmark from the ROOT of an earlier prepare-data, if one of them holds all of it."""
    for root in remembered("roots") if dataset in BENCHMARKS else []:
        try:
            prepared = prepare_dataset(dataset, root, PrepareOptions(), say, counter)
        except PoposError as error:
            say(f"{error.message}. {error.hint or ''}")
            continue
        say(f"prepared {dataset} from {root}: {len(prepared.index)} faces")
        return True
    return False


def _check_options(dataset: str, options: PrepareOptions) -> None:
    """Raises UsageError."""
    if dataset not in IMPORTERS:
        hint = f"{did_you_mean(dataset, IMPORTERS)}Known: {', '.join(IMPORTERS)}."
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


def _import(
    dataset: str, root: Path, name: str, options: PrepareOptions, say: Say, counter: Counter
) -> tuple[Index, int]:
    """The index of the good faces, and how many labels were left out. Raises PoposError."""
    own = dataset == "custom"
    if own:
        source = find_own(root, find_scheme(options.scheme or "300w"), options)
    else:
        source = find_benchmark(dataset, root, options.allow_partial, say)
    with counter("checking pictures") as advance:
        found = assemble(name, source, options.orientation, advance)
    for line in (*listed(found.bad), *listed(found.left_out), *found.remarks):
        say(line)
    index, bad = found.index, found.bad
    if bad and not options.skip_bad:
        total = len(bad) + len(found.left_out) + (len(index) if index else 0)
        raise PoposError(
            f"{root}: {len(bad)} of {total} rows are bad (first: {bad[0]}); nothing was written",
            f"Mend them, or leave them out: popos prepare-data {dataset} {root}"
            f"{' --allow-partial' if options.allow_partial else ''} --skip-bad.",
        )
    if index is None:
        first = f", first: {bad[0]}" if bad else ""
        raise PoposError(
            f"{root}: too few usable faces ({len(bad)} bad rows{first}); nothing was written",
            "Training needs faces of two people (groups) at least.",
        )
    share = options.val_fraction
    if own:
        index = hold_back_people(index, share or VALIDATION, options.seed)
    else:  # the last photos by name would be no sample: a benchmark's names go by source and event
        index = hold_back_photos(index, BENCHMARK_VALIDATION if share is None else share, options.seed or 0)
    return index, len(bad) + len(found.left_out)
