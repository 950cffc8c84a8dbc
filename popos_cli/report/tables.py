"""Per-face errors as CSV."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from ..core.geometry import Floats
from ..data.home import replacing
from ..data.index import Index


class Outcome(Protocol):
    """What a decoder did: rows of the index, NME as fractions, uncertainty (F, K) image pixels."""

    @property
    def face(self) -> np.ndarray: ...  # type: ignore[type-arg]
    @property
    def error(self) -> Floats: ...
    @property
    def scores(self) -> Floats: ...
    @property
    def uncertainty(self) -> Floats: ...


def write_per_face(path: Path, index: Index, outcomes: Mapping[str, Outcome]) -> None:
    """One row a face and decoder, the worst first; NME in percent, mean uncertainty in pixels."""
    rows = []
    for decoder, outcome in outcomes.items():
        for n, face in enumerate(outcome.face):
            rows.append(
                (
                    outcome.error[n] * 100, decoder, index.image[face], index.source[face],
                    index.group[face], outcome.scores[n].mean(), outcome.uncertainty[n].mean(),
                )
            )  # fmt: skip
    rows.sort(key=lambda row: (np.isnan(row[0]), -row[0]))
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["nme_percent", "decoder", "image", "source", "group", "mean_score", "mean_uncertainty_px"]
        )
        for error, decoder, image, source, group, score, uncertainty in rows:
            writer.writerow(
                [f"{error:.4f}", decoder, image, source, group, f"{score:.4f}", f"{uncertainty:.4f}"]
            )
