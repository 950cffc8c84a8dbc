"""Which datasets to evaluate, and with which weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..data.home import remembered
from ..data.index import Index, prepared_names, read_index
from ..errors import PoposError, UsageError
from ..weights.find import face_weights, find_weights, scheme_mismatch, trained_on
from ..weights.format import WeightsInfo, read_info

Resolution = int | Literal["all"] | None
Candidate = tuple[str, Path, WeightsInfo]


@dataclass(frozen=True)
class Job:
    """Weights and the faces to try them on. index: one split. label: the weights' name or run folder."""

    index: Index
    label: str
    path: Path
    info: WeightsInfo


def choose_jobs(
    dataset: str | None, resolution: Resolution, weights: str | None, split: str | None
) -> tuple[list[Job], list[str]]:
    """The jobs of one command, and why other prepared datasets are passed over.

    dataset None: every prepared one. resolution None: the first weights that fit, of any; "all": the
    first ones of each resolution, the finest first. weights None: the dataset's own runs, newest first,
    then downloaded ones, then bundled ones. split None: test, else val. Raises PoposError where nothing
    fits, UsageError for a split that is nowhere.
    """
    chosen = _named(weights, resolution) if weights else None
    names = [dataset] if dataset else prepared_names()
    if not names:
        raise PoposError(
            "no dataset is prepared", "Run: popos prepare-data custom ROOT (see popos prepare-data --help)"
        )
    here = [chosen] if chosen else list(face_weights())
    jobs: list[Job] = []
    passed_over: list[PoposError] = []
    for name in names:
        index = read_index(name)
        try:
            if chosen and (mismatch := scheme_mismatch(chosen[0], chosen[2], index)):
                raise mismatch
            faces = faces_of(index, split)
            jobs += [Job(faces, *found) for found in _fitting(index, resolution, here, bool(chosen))]
        except PoposError as error:
            if dataset:
                raise
            passed_over.append(error)
    if jobs:
        return jobs, [error.message for error in passed_over]
    if len(names) == 1:
        raise passed_over[0]
    if all(isinstance(error, UsageError) for error in passed_over):
        raise UsageError(f"no prepared dataset has a split {split!r}", f"Prepared: {', '.join(names)}.")
    raise _no_weights(resolution, names)


def faces_of(index: Index, split: str | None) -> Index:
    """The faces of a split (None: test, else val).

    Raises UsageError where the dataset has none of the split asked for, PoposError where it has neither
    test nor val, or none of the faces can be measured.
    """
    split = split or next((s for s in ("test", "val") if s in index.splits), None)
    if split is None:
        raise PoposError(
            f"dataset {index.name!r} has neither test nor validation faces", "Name a split: --split train."
        )
    faces = index.of_split(split)
    if not ((faces.normalisers() > 0) & (faces.visible > 0).any(1)).any():
        raise PoposError(
            f"dataset {index.name!r}: no face of split {split} can be measured: the points that its "
            f"{index.scheme.normaliser} distance needs are not labelled, or coincide"
        )
    return faces


def _named(weights: str, resolution: Resolution) -> Candidate:
    path = find_weights(weights)
    info = read_info(path)
    if isinstance(resolution, int) and info.resolution != resolution:
        raise PoposError(
            f"{weights}: has {info.resolution}-pixel heatmaps, not the {resolution} asked for",
            "Leave --resolution out, or name other weights.",
        )
    return weights, path, info


def _fitting(
    index: Index, resolution: Resolution, weights: Iterable[Candidate], named: bool
) -> list[Candidate]:
    """The first weights that fit a dataset, of the resolution, of any (None), or of each ("all").

    A run fits the dataset that it was trained on; downloaded and bundled weights, and those that the user
    named, any of their scheme, but those trained on this dataset come first. Raises PoposError where there
    are none.
    """
    first: dict[int, Candidate] = {}
    runs = set(remembered("runs"))
    ordered = sorted(
        weights, key=lambda found: found[1].parent not in runs and trained_on(found[2]) != index.name
    )
    for label, path, info in ordered:
        mine = named or path.parent not in runs or info.training.get("dataset") in (index.name, None)
        right = resolution in (None, "all", info.resolution)
        if mine and right and not scheme_mismatch(label, info, index):
            first.setdefault(info.resolution, (label, path, info))
    if not first:
        raise _no_weights(resolution, [index.name])
    if resolution == "all":
        return [first[r] for r in sorted(first, reverse=True)]
    return [next(iter(first.values()))]


def _no_weights(resolution: Resolution, names: list[str]) -> PoposError:
    wanted = resolution if isinstance(resolution, int) else None
    at = f" at resolution {wanted}" if wanted else ""
    return PoposError(
        f"no weights{at} fit {', '.join(names)}",
        f"Train some: popos train --dataset {names[0]} --resolution {wanted or 16}, "
        "or see popos download-weights.",
    )
