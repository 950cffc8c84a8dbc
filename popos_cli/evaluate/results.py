"""Weights on a dataset -> figures: what `popos evaluate` reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from ..core.metrics import summary, uncertainty_quality
from ..data.index import Index
from ..errors import PoposError
from ..predict.detect import Detection, load_detector
from ..processes.world import ALONE, World
from ..weights.format import WeightsInfo, read_weights
from .choose import Job
from .detections import detect_all, squares_of
from .evaluated import Evaluated
from .measure import Measured, evaluate_weights
from .published import beside


@dataclass(frozen=True)
class Conditions:
    """How faces are measured.

    averaging: NME over faces, or pooled over all their labelled points. threshold: of failure, fraction of
    the normaliser; None: the scheme's. boxes: crops around the labelled landmarks, or around the faces that
    the detector finds.
    """

    averaging: Literal["face", "pooled"] = "face"
    threshold: float | None = None
    boxes: Literal["truth", "detector"] = "truth"
    flip_test: bool = True


@dataclass(frozen=True)
class Detected:
    """What the detector `name` finds in the picture of each face of an index."""

    name: str
    found: list[list[Detection]]


def detect_faces(index: Index, detector: str, progress: Callable[[], None] | None = None) -> Detected:
    """detector: as `load_detector` takes it. `progress` is told each picture."""
    looking = load_detector(detector)
    return Detected(looking.name, detect_all(index, looking, progress))


def evaluate_job(
    job: Job, decoders: list[str], conditions: Conditions, device: torch.device, workers: int,
    detected: Detected | None = None, progress: Callable[[int], None] | None = None, world: World = ALONE,
) -> list[Evaluated]:  # fmt: skip
    """Every decoder (none named: the weights' own) on one job's faces, or on those `detected` of them.

    The network runs once for all. `progress` is told the number of faces of each batch. Raises PoposError
    where a detector finds none of the faces.
    """
    weights = read_weights(job.path)
    conditions = replace(conditions, flip_test=conditions.flip_test and weights.scheme.mirrors)
    index, squares = job.index, None
    if detected:
        rows, squares = squares_of(index, detected.found, job.info.rule_from_300w(detected.name))
        if not len(rows):
            raise PoposError(f"{detected.name} found none of the {len(index)} faces of {index.name!r}")
        index = index.select(rows)
    measured = evaluate_weights(
        weights, index, decoders or [job.info.codec.decoder], device, conditions.flip_test, workers,
        squares, progress, world,
    )  # fmt: skip
    calibrated = {name: weights.codec.with_decoder(name).calibration is not None for name in measured}
    return [
        build_result(index, job, name, calibrated[name], outcome, conditions, detected)
        for name, outcome in measured.items()
    ]


def known_faces(info: WeightsInfo, index: Index) -> str | None:
    """What keeps the faces of one split from being new to the weights, None where nothing is known to.

    A training chooses its epoch (the one of lowest NME), and calibrates, on the validation faces; where its
    dataset had none, on the test faces.
    """
    training, split = info.training, str(index.split[0])
    benchmark = index.notes.get("benchmark")
    same_benchmark = benchmark is not None and training.get("benchmark") == benchmark
    if training.get("dataset") != index.name and not (same_benchmark and split == "test"):
        return None
    selected_on = training.get("selected_on")
    if split == "train" or (split == "val" and selected_on == "test"):  # these were not held back then
        return "trained on these faces"
    if split == selected_on and "val_nme" in training:
        return "epoch selected on these faces"
    return None


def build_result(
    index: Index, job: Job, decoder: str, calibrated: bool, outcome: Measured, conditions: Conditions,
    detected: Detected | None = None,
) -> Evaluated:  # fmt: skip
    """The figures of one decoder, as `popos evaluate --json` has them.

    A subset none of whose faces can be measured is left out; raises PoposError where that is so of all.
    """
    limit = conditions.threshold or index.scheme.threshold
    resolution = job.info.resolution
    pooled = conditions.averaging == "pooled"
    labelled = (index.visible[outcome.face] > 0).sum(1)

    def figures(subset: str | None) -> dict[str, Any] | None:
        chosen = np.ones(len(outcome.face), bool)
        if subset is not None:
            chosen = index.subset[outcome.face, index.subsets.index(subset)]
        numbers = summary(outcome.error[chosen], limit, labelled[chosen] if pooled else None)
        if numbers is None:
            return None
        row = None
        if conditions.boxes == "truth":  # what the papers crop around
            row = beside(index, subset, resolution, decoder, int(numbers["faces"]), numbers["nme"])
        return {**numbers, "published": row}

    whole = figures(None)
    if whole is None:
        raise PoposError(f"dataset {index.name!r}: none of the {len(index)} faces can be measured")
    subsets = {name: figures(name) for name in index.subsets}
    result = {
        "dataset": index.name, "split": str(index.split[0]), "weights": job.label,
        "resolution": resolution, "decoder": decoder, **whole,
        "normaliser": index.scheme.normaliser, "threshold": limit, "averaging": conditions.averaging,
        "flip_test": conditions.flip_test, "boxes": conditions.boxes,
        "detector": detected.name if detected else None,
        "missed": len(job.index) - len(index),
        "remark": known_faces(job.info, index),
        "uncertainty": {
            "calibrated": calibrated,
            **uncertainty_quality(outcome.points, index.points[outcome.face], outcome.uncertainty),
        },
        "subsets": {name: numbers for name, numbers in subsets.items() if numbers},
    }  # fmt: skip
    return Evaluated(result, index, outcome)
