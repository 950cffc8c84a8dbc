"""Faces of a video, frame after frame: who is who, and where each face is now."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .face import Faces
from .predictor import Predictor


class Tracker:
    """Follows the faces of one video. smooth: filter each landmark over time."""

    def __init__(self, predictor: Predictor, smooth: bool = True) -> None:
        self.predictor, self.smooth = predictor, smooth

    def __call__(self, image: NDArray[np.uint8], time: float) -> Faces:
        """The faces of the next frame, RGB uint8 (H, W, 3); time: seconds from the start."""
        faces: Faces = self.predictor(image)
        return faces
