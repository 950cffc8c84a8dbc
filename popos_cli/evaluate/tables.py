"""Per-face errors as CSV."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..home import replacing
from .evaluated import Evaluated

COLUMNS = (
    "nme_percent", "dataset", "split", "weights", "resolution", "decoder", "image", "source", "group",
    "subsets", "mean_score", "mean_uncertainty_px",
)  # fmt: skip


def write_per_face(path: Path, evaluated: Sequence[Evaluated]) -> None:
    """One row a face and result, the worst first; NME in percent, mean uncertainty in pixels."""
    rows = []
    for one in evaluated:
        index, outcome = one.index, one.outcome
        same = [one.result[key] for key in ("dataset", "split", "weights", "resolution", "decoder")]
        score, uncertainty = outcome.scores.mean(1), outcome.uncertainty.mean(1)
        for n, face in enumerate(outcome.face):
            rows.append(
                (
                    outcome.error[n] * 100, *same, index.image[face], index.source[face],
                    index.group[face], one.subsets_of(face), f"{score[n]:.4f}", f"{uncertainty[n]:.4f}",
                )
            )  # fmt: skip
    rows.sort(key=lambda row: (np.isnan(row[0]), -row[0]))
    with (
        replacing(path) as temporary,
        temporary.open(
            "w",
            newline="",
            encoding="utf-8",
            errors="backslashreplace",  # a picture's name may be no UTF-8
        ) as file,
    ):
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for error, *rest in rows:
            writer.writerow([f"{error:.4f}", *rest])
