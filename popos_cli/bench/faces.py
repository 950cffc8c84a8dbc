"""Which faces `popos predict` finds in photos with known face boxes, what it invents, and whether a face's
score is the probability that it says. Fits the numbers behind that score anew (`core/face_score.py`)."""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from ..core.face_score import Coefficients, Fit, evidence, fit_coefficients, fit_of, probability
from ..core.geometry import Floats, box_iou
from ..data.pictures import read_image
from ..errors import PoposError
from ..predict.detect import detectors_here
from ..predict.predictor import Predictor
from ..progress import Bar

FOUND = 0.3  # intersection over union of a face's box and a labelled one, from which on it is found
SIZES = (20, 40, 80)  # pixels: the shorter side of the labelled boxes that a recall is over
FOLDS = 10  # of photos: a reliability is that of coefficients fitted on the others
BINS = 10
Flags = NDArray[np.bool_]


@dataclass
class _Seen:
    """rows: photo, evidence, fits (uncertainty, none) and label of one detector's candidates. faces, found:
    counts of labelled faces of at least each size, and of those found; false: of faces that are none."""

    rows: list[list[float]] = field(default_factory=list)
    faces: Floats = field(default_factory=lambda: np.zeros(len(SIZES)))
    found: Floats = field(default_factory=lambda: np.zeros(len(SIZES)))
    false: int = 0


def read_boxes(root: Path) -> list[tuple[Path, Floats, Flags]]:
    """ROOT/boxes.csv, `image,x,y,w,h[,invalid]`, pixel edges -> each picture of ROOT/images with its boxes
    (M, 4) and which of them are invalid (M,), too unclear to count. Raises PoposError."""
    boxes = defaultdict(list)
    try:
        with (root / "boxes.csv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                numbers = [float(row[key]) for key in "xywh"]
                boxes[row["image"]].append([*numbers, float(row.get("invalid") or 0)])
    except OSError as error:
        raise PoposError(f"{root / 'boxes.csv'}: {(error.strerror or str(error)).lower()}") from None
    except (KeyError, TypeError, ValueError) as error:
        hint = "Its columns are image,x,y,w,h and, if some are too unclear to count, invalid."
        raise PoposError(f"{root / 'boxes.csv'}: not a table of face boxes: {error!r}", hint) from None
    table = {name: np.array(rows) for name, rows in sorted(boxes.items())}
    return [(root / "images" / name, rows[:, :4], rows[:, 4] > 0) for name, rows in table.items()]


def bench_faces(root: Path, weights: str, min_score: float, bar: Bar) -> dict[str, Any]:
    """detectors: for each one that is here its photos, labelled faces and their recall by least size, and
    false faces a photo, all by `Predictor`; and the reliability of its candidates' scores, cross-validated by
    photo. coefficients: of all of them, fitted anew. Raises PoposError."""
    photos, detectors = read_boxes(root), detectors_here()
    seen = {}
    with bar("faces", len(photos) * len(detectors)) as advance:
        for detector in detectors:
            predictor = Predictor(weights, "cpu", detector.name, min_score=min_score)
            seen[detector.name] = _Seen()
            for number, (path, boxes, invalid) in enumerate(photos):
                _look(predictor, seen[detector.name], number, path, boxes, invalid)
                advance(1)
    coefficients: dict[tuple[str, Fit], Coefficients] = {}
    tables = {name: np.array(one.rows).reshape(-1, 5) for name, one in seen.items()}
    everything = np.concatenate(list(tables.values()))
    everything[:, 1] = 0  # what the detectors say is not known of a caller's box
    for source, rows in (*tables.items(), ("box", everything)):
        for column, kind in enumerate(get_args(Fit), start=2):
            coefficients[source, kind] = fit_coefficients(rows[:, 1], rows[:, column], rows[:, 4])
    results = [
        {
            "detector": name,
            "photos": len(photos),
            "faces": {str(size): int(n) for size, n in zip(SIZES, one.faces, strict=True)},
            "recall": {str(s): n / max(m, 1) for s, n, m in zip(SIZES, one.found, one.faces, strict=True)},
            "false": one.false / len(photos),
            "reliability": _reliability(tables[name], predictor.fit),
        }
        for name, one in seen.items()
    ]
    return {
        "weights": weights,
        "min_score": min_score,
        "detectors": results,
        "coefficients": [
            {"box": source, "fit": kind, "values": [round(value, 2) for value in values]}
            for (source, kind), values in coefficients.items()
        ],
    }


def _look(predictor: Predictor, seen: _Seen, number: int, path: Path, boxes: Floats, invalid: Flags) -> None:
    """Count the faces of one picture, and note its candidates."""
    image = read_image(path, upright=True)
    detections = predictor.detect(image)
    candidates = predictor.locate([image] * len(detections), detections)
    for detection, face in zip(detections, candidates, strict=True):
        overlap = box_iou(detection.box, boxes) >= FOUND
        if overlap.any() and not (overlap & ~invalid).any():
            continue
        fits = [fit_of(kind, predictor.doubt(face)) for kind in get_args(Fit)]
        assert detection.score is not None
        says = evidence(predictor.detector.name, detection.score)
        seen.rows.append([number, says, *fits, float(overlap.any())])
    faces = predictor.faces_among(image, candidates)
    found = np.array([box_iou(face.box, boxes) >= FOUND for face in faces]).reshape(-1, len(boxes))
    seen.false += int((~found.any(1)).sum())
    for n, size in enumerate(SIZES):
        counted = (boxes[:, 2:].min(1) >= size) & ~invalid
        seen.faces[n] += counted.sum()
        seen.found[n] += (found.any(0) & counted).sum()


def _reliability(rows: Floats, kind: Fit) -> list[dict[str, float]]:
    """For each tenth of the scores: how many candidates, their mean score, and the share that are faces."""
    column = 2 + get_args(Fit).index(kind)
    score = np.zeros(len(rows))
    fold = rows[:, 0] % FOLDS
    for n in range(FOLDS):
        others, own = rows[fold != n], rows[fold == n]
        fitted = fit_coefficients(others[:, 1], others[:, column], others[:, 4])
        score[fold == n] = probability(fitted, own[:, 1], own[:, column])
    bins = np.minimum((score * BINS).astype(int), BINS - 1)
    return [
        {
            "from": n / BINS,
            "candidates": int((bins == n).sum()),
            "score": float(score[bins == n].mean()),
            "faces": float(rows[bins == n, 4].mean()),
        }
        for n in range(BINS)
        if (bins == n).any()
    ]
