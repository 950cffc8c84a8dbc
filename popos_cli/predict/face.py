"""What `Predictor` gives: a face's landmarks, and the faces of one picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.geometry import Floats, box_iou
from ..core.schemes import Scheme
from ..errors import PoposError
from ..home import replacing
from .aligned import align
from .csv_rows import csv_header, csv_rows
from .images import as_rgb
from .overlay import draw_faces

SAME_FACE = 0.4  # intersection over union of two faces' landmarks, from which on they are one face


@dataclass(frozen=True, eq=False)
class Face:
    """One face in source pixels (0-based, pixel centres at integers).

    box (4,): x, y, w, h in pixel edges, the detector's or the caller's. score 0..1: the probability that
    there is a face; None: not known. points (K, 2), scores (K,) 0..1, uncertainty (K,): expected RMS error in
    pixels.
    id: the track that it belongs to, in a video; None elsewhere. scheme: what the landmarks are.
    Equal to a face of equal numbers; to look them up by name: face["left eye"] is (k, 2).
    """

    box: NDArray[np.float32]
    score: float | None
    points: NDArray[np.float32]
    scores: NDArray[np.float32]
    uncertainty: NDArray[np.float32]
    id: int | None = None
    scheme: Scheme | None = field(default=None, repr=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Face):
            return NotImplemented
        arrays = ("box", "points", "scores", "uncertainty")
        return (self.score, self.id) == (other.score, other.id) and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in arrays
        )

    def __getitem__(self, group: str) -> NDArray[np.float32]:
        """The points (k, 2) of one of the scheme's groups, in drawing order. Raises KeyError, which names
        the groups."""
        groups = self.scheme.groups if self.scheme else {}
        if group not in groups:
            raise KeyError(f"no group {group!r}; there are: {', '.join(groups) or 'none'}")
        return self.points[list(groups[group])]

    def align(self, image: Any, size: int = 256) -> tuple[NDArray[np.uint8], Floats]:
        """The face cut out of its image (an array, a path, a PIL image), upright, with eyes and mouth in the
        same places of each crop: RGB uint8 (size, size, 3), and the matrix (2, 3) image -> crop."""
        return align(as_rgb(image), self.points, self.scheme or Scheme("?", len(self.points)), size)

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


def same_face(one: Face, other: Face) -> bool:
    """Whether the landmarks of both lie on the same face, be it upside down."""
    first, second = (np.append(f.points.min(0), np.ptp(f.points, axis=0)) for f in (one, other))
    return float(box_iou(first, second[None])[0]) > SAME_FACE


class Faces(list[Face]):
    """The faces of one picture, largest first, with the scheme that their landmarks follow."""

    def __init__(self, faces: Iterable[Face], scheme: Scheme) -> None:
        super().__init__(faces)
        self.scheme = scheme

    def plot(self, image: Any, uncertainty: bool = False) -> NDArray[np.uint8]:
        """A copy of their image (an array, a path, a PIL image), RGB uint8 (H, W, 3), with the faces drawn.
        uncertainty: also a circle of that radius around each landmark."""
        return draw_faces(as_rgb(image), self, self.scheme.edges, uncertainty)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: the faces as `popos predict --json` has them, scheme and groups."""
        groups = {name: list(indices) for name, indices in self.scheme.groups.items()}
        return {"faces": [face.to_dict() for face in self], "scheme": self.scheme.name, "groups": groups}

    def to_csv(self, path: str | Path | None = None) -> str:
        """A table with a row a face, in the columns of `popos predict --csv`; also written to `path`."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([csv_header(self.scheme), *csv_rows(self)])
        if path is not None:
            with replacing(Path(path)) as temporary:
                temporary.write_text(text.getvalue(), encoding="utf-8")
        return text.getvalue()

    def to_supervision(self) -> Any:
        """`supervision.KeyPoints` of N faces: xy (N, K, 2), the landmarks' scores as confidence (N, K), and
        in `data` box (N, 4), x, y, w, h, and uncertainty (N, K). Raises PoposError where supervision is not
        installed."""
        try:
            import supervision  # type: ignore[import-not-found, import-untyped, unused-ignore]
        except ImportError:
            raise PoposError("to_supervision needs supervision", "Run: pip install supervision") from None
        if not self:
            return supervision.KeyPoints.empty()
        data = {name: np.stack([getattr(face, name) for face in self]) for name in ("box", "uncertainty")}
        points, scores = (np.stack([getattr(face, name) for face in self]) for name in ("points", "scores"))
        return supervision.KeyPoints(points, None, scores, data=data)  # the third one's name has changed
