"""What `Predictor` gives: a face's landmarks, and the faces of one picture."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.schemes import Scheme


@dataclass(frozen=True)
class Face:
    """One face in source pixels (0-based, pixel centres at integers).

    box (4,): x, y, w, h in pixel edges, the detector's or the caller's. score: the detector's,
    0..1 or None. points (K, 2), scores (K,) 0..1, uncertainty (K,): expected RMS error in pixels.
    id: the track that it belongs to, in a video; None elsewhere. groups: landmarks by name.
    """

    box: NDArray[np.float32]
    score: float | None
    points: NDArray[np.float32]
    scores: NDArray[np.float32]
    uncertainty: NDArray[np.float32]
    id: int | None = None
    groups: dict[str, tuple[int, ...]] = field(default_factory=dict, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, rounded to 1/1000 pixel."""

        def rounded(values: NDArray[np.float32]) -> Any:
            return np.round(values.astype(np.float64), 3).tolist()

        plain = {
            "box": rounded(self.box),
            "score": None if self.score is None else round(float(self.score), 4),
            "landmarks": rounded(self.points),
            "scores": rounded(self.scores),
            "uncertainty": rounded(self.uncertainty),
        }
        return plain if self.id is None else plain | {"id": self.id}


class Faces(list[Face]):
    """The faces of one picture, largest first, with the scheme that their landmarks follow."""

    def __init__(self, faces: Iterable[Face], scheme: Scheme) -> None:
        super().__init__(faces)
        self.scheme = scheme
