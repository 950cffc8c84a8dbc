"""Pictures -> faces: detect, crop, one batch through the network, decode, and back.

Faces that a detector found get several passes, each with its crop around the points of the pass before.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.choices import SMALLEST_BOX, DetectorName
from ..core.codec import Decoded
from ..core.crop_rule import SAME
from ..core.device import pick_inference_device
from ..core.geometry import Floats, crop_matrix, edges_to_square, warp
from ..core.inference import (
    PASSES,
    decode_to_image,
    mirror_index,
    predict_heatmaps,
    squares_around,
    to_model_input,
)
from ..errors import PoposError, PoposWarning
from ..weights.find import find_weights
from ..weights.format import read_weights
from .detect import Detection, load_detector

BATCH = 64  # faces that go through the network at once; more are done in several batches
LARGEST_BOX = 10  # a box so many times the picture's longer side is a mistake


@dataclass(frozen=True)
class Face:
    """One face in source pixels (0-based, pixel centres at integers).

    box (4,): x, y, w, h in pixel edges, the detector's or the caller's. score: the detector's,
    0..1 or None. points (K, 2), scores (K,) 0..1, uncertainty (K,): expected RMS error in pixels.
    """

    box: NDArray[np.float32]
    score: float | None
    points: NDArray[np.float32]
    scores: NDArray[np.float32]
    uncertainty: NDArray[np.float32]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, rounded to 1/1000 pixel."""

        def rounded(values: NDArray[np.float32]) -> Any:
            return np.round(values.astype(np.float64), 3).tolist()

        return {
            "box": rounded(self.box),
            "score": None if self.score is None else round(float(self.score), 4),
            "landmarks": rounded(self.points),
            "scores": rounded(self.scores),
            "uncertainty": rounded(self.uncertainty),
        }


def whole_image_box(image: NDArray[np.uint8], padding: float) -> Floats:
    """The tight box (1, 4) whose padded crop is the whole picture, for pictures of one face."""
    height, width = image.shape[:2]
    side = max(height, width) / padding
    return np.array([[(width - side) / 2, (height - side) / 2, side, side]])


def checked_boxes(boxes: Any, image: NDArray[np.uint8]) -> Floats:
    """A caller's boxes as (M, 4) float64. Raises ValueError for other shapes, and for boxes that cannot be
    around a face of this image, naming the first of them."""
    try:
        given = np.asarray(boxes, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError("boxes must be numbers, of shape (M, 4): x, y, w, h of each face") from None
    if given.shape == (0,):
        return given.reshape(0, 4)
    if given.ndim != 2 or given.shape[1] != 4:
        raise ValueError(f"boxes must be of shape (M, 4), x, y, w, h of each face, not {given.shape}")
    size = np.array(image.shape[1::-1])  # width, height
    low, extent = given[:, :2], given[:, 2:]
    inside = (low < size).all(1) & (low + extent > 0).all(1)
    sane = (extent.max(1) > SMALLEST_BOX) & (extent.max(1) <= LARGEST_BOX * size.max())
    good = np.isfinite(given).all(1) & (extent > 0).all(1) & inside & sane
    if not good.all():
        row = int(np.argmin(good))
        values = ", ".join(f"{value:g}" for value in given[row])
        raise ValueError(
            f"box {row + 1} ({values}) is around no face: it must have a finite place and a positive size, "
            f"in pixels and not in 0..1, overlap the picture of {size[0]} x {size[1]} pixels, and be at most "
            f"{LARGEST_BOX} times as large"
        )
    return given


class Predictor:
    """Finds faces and their landmarks.

    Safe to share between threads: results are bit-identical to those of calls one after another (the
    detector alone takes one call at a time). It can be pickled, weights included, for other processes.

    weights: anything that `find_weights` takes. device: None for a GPU where there is one, else the CPU.
    detector: "haar", "yunet", or "auto", which is YuNet where it has been downloaded. flip_test: average the
    heatmaps with those of the mirrored crops, twice the time for slightly better points.
    """

    def __init__(
        self,
        weights: str = "default",
        device: str | None = None,
        detector: DetectorName = "auto",
        flip_test: bool = False,
    ) -> None:
        self.device = pick_inference_device(device)
        self.path = find_weights(weights)
        read = read_weights(self.path)
        self.model, self.codec, self.info, self.scheme = read.model, read.codec, read.info, read.scheme
        self.model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.detector = load_detector(detector)
        self.rule = self.info.rule_from_300w(self.detector.name)
        self.around = self.info.around_landmarks()
        self.flip_index = mirror_index(self.scheme, flip_test, self.device)
        if flip_test and not self.scheme.mirrors:
            warnings.warn(f"no flip test: {self.scheme.no_mirror}", PoposWarning, stacklevel=2)

    @overload
    def __call__(self, images: NDArray[np.uint8], boxes: Floats | None = None) -> list[Face]: ...
    @overload
    def __call__(
        self, images: Sequence[NDArray[np.uint8]], boxes: Sequence[Floats | None] | None = None
    ) -> list[list[Face]]: ...
    def __call__(self, images: Any, boxes: Any = None) -> Any:
        """RGB uint8 (H, W, 3), or a list of such -> faces, largest first, or a list of lists.

        `boxes` (M, 4): tight landmark boxes x, y, w, h in pixel edges instead of the detector's, in the
        caller's order (for a list of images: a list of such arrays). Raises ValueError for another shape or
        type, and for boxes that cannot be around a face of the image; PoposError where the network's heatmaps
        are not finite.
        """
        if isinstance(images, np.ndarray) or not isinstance(images, Sequence):
            return self._predict([images], [boxes])[0]
        boxes = [None] * len(images) if boxes is None else list(boxes)
        if len(boxes) != len(images):
            raise ValueError(f"{len(images)} images, but boxes for {len(boxes)}")
        return self._predict(list(images), boxes)

    def _detections(self, image: NDArray[np.uint8], boxes: Floats | None) -> list[Detection]:
        if not isinstance(image, np.ndarray):
            raise ValueError(f"an image must be an array, RGB uint8 (H, W, 3), not {type(image).__name__}")
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ValueError(f"an image must be RGB uint8 (H, W, 3), not {image.dtype} {image.shape}")
        if boxes is not None:
            return [Detection(b, None, *edges_to_square(b)) for b in checked_boxes(boxes, image)]
        if self.rule is None:
            warnings.warn(self.info.crop_warning, PoposWarning, stacklevel=4)
        return [detection.of(self.rule or SAME) for detection in self.detector(image)]

    def _predict(self, images: list[NDArray[np.uint8]], boxes: list[Floats | None]) -> list[list[Face]]:
        found = [self._detections(i, b) for i, b in zip(images, boxes, strict=True)]
        flat = [(n, detection) for n, group in enumerate(found) for detection in group]
        faces: list[list[Face]] = [[] for _ in images]
        for start in range(0, len(flat), BATCH):
            part = flat[start : start + BATCH]
            pictures = [images[n] for n, _ in part]
            centers = np.array([d.center for _, d in part])
            sides = np.array([d.side for _, d in part])
            detected = np.array([boxes[n] is None for n, _ in part])
            for _ in range(PASSES - 1 if detected.any() else 0):
                points = self._pass(pictures, centers, sides, None).points
                new_centers, new_sides = squares_around(points, centers, sides, self.around)
                centers = np.where(detected[:, None], new_centers, centers)
                sides = np.where(detected, new_sides, sides)
            decoded = self._pass(pictures, centers, sides, self.flip_index)
            for row, (n, d) in enumerate(part):
                values = (decoded.points[row], decoded.scores[row], decoded.uncertainty[row])
                arrays = (v.astype(np.float32) for v in values)
                faces[n].append(Face(d.box.astype(np.float32), d.score, *arrays))
        return faces

    def _pass(
        self, pictures: list[NDArray[np.uint8]], centers: Floats, sides: Floats, flip_index: Tensor | None
    ) -> Decoded[NDArray[Any]]:
        """One pass of the network over one square (centers (N, 2), sides (N,)) of each of N pictures:
        landmarks in the pictures' pixels."""
        size, alignment, padding = self.codec.image_width, self.codec.alignment, self.info.crop.padding
        squares = zip(centers, sides * padding, strict=True)
        matrices = np.stack([crop_matrix(center, side, size, alignment) for center, side in squares])
        crops = np.stack([warp(p, m, size) for p, m in zip(pictures, matrices, strict=True)])
        batch = to_model_input(torch.from_numpy(crops).permute(0, 3, 1, 2), self.device)
        heatmaps = predict_heatmaps(self.model, batch, flip_index, alignment)
        if not heatmaps.isfinite().all():
            raise PoposError(f"{self.path}: these weights give heatmaps that are not finite")
        return decode_to_image(self.codec, heatmaps, matrices, self.info.label_offset)
