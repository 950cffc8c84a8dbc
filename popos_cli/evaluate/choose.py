"""Which datasets to evaluate, and with which weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..data.index import Index, prepared_names, read_index
from ..errors import PoposError, UsageError
from ..home import remembered
from ..weights.find import face_weights, find_weights, scheme_mismatch, trained_on
from ..weights.format import read_info
from ..weights.info import WeightsInfo

Resolution = int | Literal["all"] | None
Candidate = tuple[str, Path, WeightsInfo]


@dataclass(frozen=True)
class Job:
    """Weights and the faces to try them on. index: one split. label: the weights' name or run folder."""

    index: Index
    label: str
    path: Path
    info: WeightsInfo

    @property
    def labels(self) -> dict[str, Any]:
        """What tells this job from others in results and failures."""
        return {
            "dataset": self.index.name, "split": str(self.index.split[0]), "weights": self.label,
            "resolution": self.info.resolution,
        }  # fmt: skip


def choose_jobs(
    datasets: Sequence[str], resolution: Resolution, weights: Sequence[str], split: str | None
) -> tuple[list[Job], list[str]]:
    """The jobs of one command, and why other datasets and weights are passed over.

    datasets: none named: every prepared one. resolution None: the first weights that fit, of any; "all": the
    first ones of each resolution, the finest first. weights: all that are named and fit; none named: the
    dataset's own runs, newest first, then downloaded ones, then bundled ones. split None: test, else val.
    Raises PoposError where nothing fits, or something named fits nothing, and UsageError for a split that is
    nowhere.
    """
    chosen = [_named(name, resolution) for name in dict.fromkeys(weights)]
    names = list(dict.fromkeys(datasets)) or prepared_names()
    if not names:
        raise PoposError(
            "no dataset is prepared", "Run: popos prepare-data custom ROOT (see popos prepare-data --help)"
        )
    here = chosen or list(face_weights())
    jobs: list[Job] = []
    passed_over: list[PoposError] = []
    unfit: dict[str, PoposError] = {}
    for name in names:
        try:
            index = read_index(name)
            mismatches = {w: m for w, _, info in chosen if (m := scheme_mismatch(w, info, index))}
            if chosen and len(mismatches) == len(chosen):
                raise next(iter(mismatches.values()))
            faces = faces_of(index, split)
            jobs += [Job(faces, *found) for found in _fitting(index, resolution, here, bool(chosen))]
            unfit |= mismatches
            passed_over += mismatches.values()
        except PoposError as error:
            if datasets:
                raise
            passed_over.append(error)
    if jobs:
        used = {job.label for job in jobs}
        for label in (label for label, _, _ in chosen if label not in used):
            raise unfit[label]
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

    A run fits the dataset that it was trained on; downloaded and bundled weights any of their scheme, but
    those trained on this dataset come first. All that the user named and that have its scheme. Raises
    PoposError where there are none.
    """
    first: dict[int, Candidate] = {}
    runs = set(remembered("runs"))
    if named:
        return [found for found in weights if not scheme_mismatch(found[0], found[2], index)]
    ordered = sorted(
        weights, key=lambda found: found[1].parent not in runs and trained_on(found[2]) != index.name
    )
    for label, path, info in ordered:
        mine = path.parent not in runs or info.training.get("dataset") in (index.name, None)
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
