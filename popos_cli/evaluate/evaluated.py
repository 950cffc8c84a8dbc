"""What an evaluation hands to its tables, curves, pictures and report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..core.geometry import Floats
from ..data.index import Index


class Outcome(Protocol):
    """What a decoder did on F faces: rows of the index, NME as fractions, points (F, K, 2) image
    pixels, scores and uncertainty (F, K), the latter in image pixels."""

    @property
    def face(self) -> np.ndarray[Any, np.dtype[np.int64]]: ...
    @property
    def error(self) -> Floats: ...
    @property
    def points(self) -> Floats: ...
    @property
    def scores(self) -> Floats: ...
    @property
    def uncertainty(self) -> Floats: ...


@dataclass(frozen=True)
class Evaluated:
    """One dataset, split, weights and decoder.

    result: as `popos evaluate --json` prints it. index: the faces, which `outcome.face` counts.
    """

    result: dict[str, Any]
    index: Index
    outcome: Outcome

    @property
    def title(self) -> str:
        """ "300w test, R=16, ml" """
        r = self.result
        return f"{r['dataset']} {r['split']}, R={r['resolution']}, {r['decoder']}"

    def subsets_of(self, face: int) -> str:
        """The subsets that the face at this row of the index belongs to, "pose;blur"."""
        return ";".join(np.array(self.index.subsets)[self.index.subset[face]]) if self.index.subsets else ""

    def worst(self, count: int) -> list[int]:
        """Rows of the outcome, the largest error first; faces that cannot be measured are left out."""
        order = np.argsort(-self.outcome.error, kind="stable")  # NaN last
        return [int(n) for n in order[:count] if np.isfinite(self.outcome.error[n])]


def short(weights: str) -> str:
    """Weights' label without the folders before it: "runs/300w-64-1" -> "300w-64-1"."""
    return Path(weights).name
