"""Weights on a dataset -> figures: what `popos evaluate` reports of one dataset, weights and decoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from ..core.choices import DetectorName
from ..core.crop_rule import PASSES
from ..core.geometry import Floats
from ..core.metrics import bootstrap_intervals, nme_per_face, summary, uncertainty_quality
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

Part = tuple[str, str]  # kind and name
WHOLE: Part = ("whole", "")


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
    numbers = figures_of_parts(errors_of_parts(index, measured), threshold, conditions.averaging == "pooled")

    def figures(subset: str | None) -> dict[str, Any] | None:
        found = numbers[("subset", subset) if subset else WHOLE]
        if found is None:
            return None
        published = None
        if conditions.boxes == "truth":  # papers crop around the labels
            faces, nme = int(found["faces"]), found["nme"]
            published = nearest_published(index, subset, job.info.resolution, decoder, faces, nme)
        if published and trained:
            remarks = published["remark"], f"trained on part of {trained.get('benchmark')}"
            published["remark"] = "; ".join(remark for remark in remarks if remark)
        missing = of_subset(partial, subset) if subset else partial
        return {**found, "published": published, "partial": missing}

    whole = figures(None)
    if whole is None:
        raise PoposError(f"dataset {index.name!r}: none of the {len(index)} faces can be measured")
    subsets = {name: figures(name) for name in index.subsets}
    groups = {name: numbers["group", name] for name in index.scheme.groups}
    return {
        **job.labels, "decoder": decoder, **whole,
        "normaliser": index.scheme.normaliser, "threshold": threshold, "averaging": conditions.averaging,
        "flip_test": conditions.flip_test, "boxes": conditions.boxes, "detector": None, "missed": 0,
        "remark": seen_in_training(job.info, index), "trained_on_partial": trained,
        "uncertainty": {
            "calibrated": False,
            **uncertainty_quality(measured.points, index.points[measured.face], measured.uncertainty),
        },
        "subsets": {name: found for name, found in subsets.items() if found},
        "groups": {
            name: {key: found[key] for key in ("faces", "nme", "nme_interval")}
            for name, found in groups.items() if found
        },
    }  # fmt: skip


def errors_of_parts(index: Index, measured: Measured) -> dict[Part, tuple[Floats, Floats]]:
    """NME (F,), a fraction, and number of labelled points (F,) of each measured face: of the whole, of every
    subset (NaN for other faces), and of every group of landmarks (NaN where none of it is labelled)."""
    face, labelled = measured.face, index.visible[measured.face] > 0
    parts: dict[Part, tuple[Floats, Floats]] = {WHOLE: (measured.error, labelled.sum(1).astype(float))}
    for n, name in enumerate(index.subsets):
        inside = np.where(index.subset[face, n], measured.error, np.nan)
        parts["subset", name] = inside, parts[WHOLE][1]
    truth, normalisers = index.points[face], index.normalisers()[face]
    for name, landmarks in index.scheme.groups.items():
        of_group = list(landmarks)
        error = nme_per_face(measured.points[:, of_group], truth[:, of_group], normalisers)
        parts["group", name] = error, labelled[:, of_group].sum(1).astype(float)
    return parts


def figures_of_parts(
    parts: dict[Part, tuple[Floats, Floats]], threshold: float, pooled: bool
) -> dict[Part, dict[str, Any] | None]:
    """`summary` of each part that `errors_of_parts` gives, and the 95 % confidence interval of its NME, None
    for fewer than two faces. pooled: the NME over all points."""
    errors = np.stack([error for error, _ in parts.values()], 1)
    labelled = np.stack([count for _, count in parts.values()], 1)
    intervals = bootstrap_intervals(errors, labelled if pooled else np.ones_like(errors)) * 100
    figures: dict[Part, dict[str, Any] | None] = {}
    for n, part in enumerate(parts):
        found = summary(errors[:, n], threshold, labelled[:, n] if pooled else None)
        interval = intervals[n].tolist() if np.isfinite(intervals[n]).all() else None
        figures[part] = found and {**found, "nme_interval": interval}
    return figures


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
