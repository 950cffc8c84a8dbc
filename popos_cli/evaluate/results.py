"""Weights on a dataset -> figures: what `popos evaluate` reports of one dataset, weights and decoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ..core.choices import DetectorName
from ..core.crop_rule import PASSES
from ..core.metrics import summary, uncertainty_quality
from ..core.model import multiply_adds
from ..data.index import Index
from ..data.partial import mark, of_subset, shortfall, trained_shortfall
from ..errors import PoposError
from ..predict.detect import Detection, load_detector
from ..processes.world import ALONE, World
from ..weights.format import read_weights
from ..weights.info import WeightsInfo
from .choose import Job
from .detections import detect_all, squares_of
from .measure import Measured, evaluate_weights
from .published import nearest_published


@dataclass(frozen=True)
class Conditions:
    """How faces are measured.

    decoders: none named: the weights' own. averaging: NME over faces, or pooled over all their labelled
    points. threshold: of failure, fraction of the normaliser; None: the scheme's. boxes: crops around the
    labelled landmarks, or around the faces that `detector` finds.
    """

    decoders: tuple[str, ...] = ()
    averaging: Literal["face", "pooled"] = "face"
    threshold: float | None = None
    boxes: Literal["truth", "detector"] = "truth"
    detector: DetectorName = "auto"
    flip_test: bool = True


@dataclass(frozen=True)
class Detected:
    """The detections in the picture of each face of an index, by the detector of that name."""

    name: str
    found: list[list[Detection]]


@dataclass(frozen=True)
class Evaluated:
    """One dataset, split, weights and decoder.

    result: as `popos evaluate --json` prints it. index: the faces, whose rows `measured.face` names.
    """

    result: dict[str, Any]
    index: Index
    measured: Measured

    @property
    def title(self) -> str:
        """ "300w test, R=16, ml", and whether this split is partial."""
        r = self.result
        parts = f"{r['dataset']} {r['split']}", f"R={r['resolution']}", r["decoder"], mark(r.get("partial"))
        return ", ".join(filter(None, parts))

    def subsets_of(self, face: int) -> str:
        """The subsets that the face at this row of the index belongs to: "pose;blur"."""
        return ";".join(np.array(self.index.subsets)[self.index.subset[face]]) if self.index.subsets else ""

    def worst(self, count: int) -> list[int]:
        """Rows of `measured`, the largest error first, without faces that cannot be measured."""
        order = np.argsort(-self.measured.error, kind="stable")  # NaN last
        return [int(n) for n in order[:count] if np.isfinite(self.measured.error[n])]


def short(weights: str) -> str:
    """The label of weights without the folders before it: "runs/300w-64-1" -> "300w-64-1"."""
    return Path(weights).name


def detect_faces(index: Index, detector: DetectorName, progress: Callable[[int], None]) -> Detected:
    """Run a detector on every face's picture. progress: called with the number of pictures just done."""
    loaded = load_detector(detector)
    return Detected(loaded.name, detect_all(index, loaded, progress))


def evaluate_job(
    job: Job, conditions: Conditions, device: torch.device, workers: int, detected: Detected | None = None,
    progress: Callable[[int], None] | None = None, world: World = ALONE,
) -> list[Evaluated]:  # fmt: skip
    """Every decoder on one job's faces, or on those of them that were `detected`; the network runs once.

    progress: called with the number of faces of each batch. Raises PoposError where a detector finds none of
    the faces, or none can be measured.
    """
    weights = read_weights(job.path)
    flip_test = conditions.flip_test and weights.scheme.mirrors
    index, squares, passes = job.index, None, 1
    if detected:
        rows, squares = squares_of(index, detected.found, job.info.rule_from_300w(detected.name))
        if not len(rows):
            raise PoposError(f"{detected.name} found none of the {len(index)} faces of {index.name!r}")
        index, passes = index.select(rows), PASSES[detected.name]
    decoders = conditions.decoders or (job.info.codec.decoder,)
    measured = evaluate_weights(
        weights, index, decoders, device, flip_test, workers, squares, passes, progress, world
    )  # fmt: skip
    cost = multiply_adds(weights.model)
    evaluated = []
    for name, outcome in measured.items():
        result = build_result(index, job, name, outcome, replace(conditions, flip_test=flip_test))
        result["detector"] = detected.name if detected else None
        result["missed"] = len(job.index) - len(index)
        result["multiply_adds"] = cost
        result["uncertainty"]["calibrated"] = weights.codec.with_decoder(name).calibration is not None
        evaluated.append(Evaluated(result, index, outcome))
    return evaluated


def build_result(
    index: Index, job: Job, decoder: str, measured: Measured, conditions: Conditions
) -> dict[str, Any]:
    """The figures of one decoder, as `popos evaluate --json` has them.

    A subset none of whose faces can be measured is left out; raises PoposError where that is so of all.
    """
    threshold = conditions.threshold or index.scheme.threshold
    partial, trained = shortfall(index, str(index.split[0])), trained_shortfall(job.info.training)
    labelled = (index.visible[measured.face] > 0).sum(1)

    def figures(subset: str | None) -> dict[str, Any] | None:
        chosen = np.ones(len(measured.face), bool)
        if subset is not None:
            chosen = index.subset[measured.face, index.subsets.index(subset)]
        points = labelled[chosen] if conditions.averaging == "pooled" else None
        numbers = summary(measured.error[chosen], threshold, points)
        if numbers is None:
            return None
        published = None
        if conditions.boxes == "truth":  # papers crop around the labels
            faces, nme = int(numbers["faces"]), numbers["nme"]
            published = nearest_published(index, subset, job.info.resolution, decoder, faces, nme)
        if published and trained:
            remarks = published["remark"], f"trained on part of {trained.get('benchmark')}"
            published["remark"] = "; ".join(remark for remark in remarks if remark)
        missing = of_subset(partial, subset) if subset else partial
        return {**numbers, "published": published, "partial": missing}

    whole = figures(None)
    if whole is None:
        raise PoposError(f"dataset {index.name!r}: none of the {len(index)} faces can be measured")
    subsets = {name: figures(name) for name in index.subsets}
    return {
        **job.labels, "decoder": decoder, **whole,
        "normaliser": index.scheme.normaliser, "threshold": threshold, "averaging": conditions.averaging,
        "flip_test": conditions.flip_test, "boxes": conditions.boxes, "detector": None, "missed": 0,
        "remark": seen_in_training(job.info, index), "trained_on_partial": trained,
        "uncertainty": {
            "calibrated": False,
            **uncertainty_quality(measured.points, index.points[measured.face], measured.uncertainty),
        },
        "subsets": {name: numbers for name, numbers in subsets.items() if numbers},
    }  # fmt: skip


def seen_in_training(info: WeightsInfo, index: Index) -> str | None:
    """How the weights know these faces (of one split); None where they are new to them, as far as is known.

    A training chooses its epoch (the one of lowest NME), and calibrates, on the validation faces; where its
    dataset had none, on the test faces.
    """
    training, split = info.training, str(index.split[0])
    benchmark = index.notes.get("benchmark")
    same_benchmark = benchmark is not None and training.get("benchmark") == benchmark
    if training.get("dataset") != index.name and not (same_benchmark and split == "test"):
        return None
    selected_on = training.get("selected_on")
    if split == "train" or (split == "val" and selected_on == "test"):  # not held back then
        return "trained on these faces"
    if split == selected_on and "val_nme" in training:
        return "epoch selected on these faces"
    return None
