"""Pictures -> faces: detect, crop, one batch through the network, decode, and back.

Faces that a detector found get several passes, each with its crop around the points of the pass before. What
then does not look like a face, or is another's double, is left out; a picture without faces is tried turned.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from ..core.choices import MIN_SCORE, SMALLEST_BOX, DetectorName
from ..core.crop_rule import SAME, is_off, squares_around, turned_upright
from ..core.decoded import Decoded, in_image
from ..core.face_score import Fit, face_score, fit_of
from ..core.geometry import Floats, crop_matrix, edges_to_square, rotation, warp
from ..errors import PoposError, PoposWarning
from ..weights.find import find_weights
from .aligned import tilt
from .detect import Detection, load_detector
from .face import Face, Faces, same_face
from .images import as_rgb
from .runtime import load_runtime

if TYPE_CHECKING:
    from .frames import Frame

BATCH = 64  # faces that go through the network at once; more are done in several batches
PICTURES = 32  # of a list that are in memory at once
# The mean uncertainty of a face's landmarks over their side, from which on a picture is tried turned: upright
# faces of 300W have 0.03, those on their head 0.06 and more.
DOUBTFUL = 0.05
LARGEST_BOX = 10  # a box so many times the picture's longer side is a mistake


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
    Haar cascade alone takes one call at a time). It can be pickled for other processes, which
    read an exported model from its file again.

    weights: anything that `find_weights` takes. device: None for a GPU where there is one, else the CPU.
    detector: "haar", "yunet", or "auto", which is YuNet where it is here or can be fetched within three
    seconds. flip_test: average the heatmaps with those of the mirrored crops, twice the time for slightly
    better points. min_score: leave out what is a face with a lower probability (`core/face_score.py`).
    max_faces: of each picture, the largest; at least 1. turn: search pictures in which nothing is found
    turned by 90, 180 and 270 degrees, too. quick_start: load in a third of the time and compute a third
    slower (ONNX Runtime), for a picture or two.
    """

    def __init__(
        self,
        weights: str | Path = "default",
        device: str | None = None,
        detector: DetectorName = "auto",
        flip_test: bool = False,
        min_score: float = MIN_SCORE,
        max_faces: int | None = None,
        quick_start: bool = False,
        turn: bool = True,
    ) -> None:
        if max_faces is not None and max_faces < 1:
            raise ValueError(f"max_faces must be at least 1, or None for all, not {max_faces}")
        self.min_score, self.max_faces, self.turn = min_score, max_faces, turn
        self.runtime = load_runtime(find_weights(weights), device, flip_test, quick_start)
        self.info, self.scheme = self.runtime.info, self.runtime.scheme
        self.detector = load_detector(detector)
        self.detector_name = self.detector.name
        self.rule = self.info.rule_from_300w(self.detector_name)
        self.around = self.info.around_landmarks()
        self.fit: Fit = "uncertainty" if self.info.uncertainty else "none"
        # How many times larger the square around 300W's landmarks is than that around these.
        self.larger = self.around.side / (self.rule or SAME).side
        if flip_test and not self.scheme.mirrors:
            warnings.warn(f"no flip test: {self.scheme.no_mirror}", PoposWarning, stacklevel=2)

    @overload
    def __call__(self, images: list[Any], boxes: Sequence[Floats | None] | None = None) -> list[Faces]: ...
    @overload
    def __call__(self, images: Any, boxes: Floats | None = None) -> Faces: ...
    def __call__(self, images: Any, boxes: Any = None) -> Any:
        """An image -> its faces, largest first; a list of images -> a list of such, their faces in the same
        batches of the network.

        An image is an array, RGB uint8 (H, W, 3), a path, or a PIL image; the last two are turned upright by
        their EXIF orientation. `boxes` (M, 4): tight landmark boxes x, y, w, h in pixel edges instead of the
        detector's, all of them, in the caller's order (for a list of images: a list of such arrays). Raises
        ValueError for another shape or type, and for boxes that cannot be around a face of the image;
        PoposError for a file that cannot be read, and where the network's heatmaps are not finite.
        """
        if not isinstance(images, list | tuple):
            return self._predict([images], [boxes])[0]
        boxes = [None] * len(images) if boxes is None else list(boxes)
        if len(boxes) != len(images):
            raise ValueError(f"{len(images)} images, but boxes for {len(boxes)}")
        faces: list[Faces] = []
        for start in range(0, len(images), PICTURES):
            part = slice(start, start + PICTURES)
            faces += self._predict(images[part], boxes[part])
        return faces

    def stream(
        self,
        source: str | Path | int,
        every: int = 1,
        start: float = 0.0,
        end: float | None = None,
        smooth: bool = True,
    ) -> Iterator[tuple[Frame, Faces]]:
        """Each frame of a video file, camera (0), stream (rtsp://...), folder, glob or picture, as it is
        found, with its faces; those of a video have an `id`.

        every, start, end: of a video every N-th frame between these seconds. smooth: filter its landmarks
        over time. Raises PoposError where the source cannot be read, behind what could be; a picture of
        several that cannot is left out with a PoposWarning. Close the generator to stop a camera.
        """
        from .frames import Span
        from .pipeline import predict_sources
        from .sources import expand

        sources = expand([str(source)], Span(every, start, end))
        with closing(predict_sources(self, sources, smooth=smooth)) as results:
            for result in results:
                if result.error and len(sources) == 1:
                    raise PoposError(result.error)
                if result.error:
                    warnings.warn(result.error, PoposWarning, stacklevel=2)
                elif result.frame:
                    yield result.frame, result.faces

    def detect(self, image: NDArray[np.uint8], boxes: Floats | None = None) -> list[Detection]:
        """What may be faces of RGB `image`, by the detector, or `boxes` (M, 4), each with this network's
        square. Raises ValueError as `__call__`."""
        if boxes is not None:
            return [Detection(b, None, *edges_to_square(b), passes=1) for b in checked_boxes(boxes, image)]
        if self.rule is None:
            warnings.warn(self.info.crop_warning, PoposWarning, stacklevel=4)
        return [detection.of(self.rule or SAME) for detection in self.detector(image)]

    def detect_turned(self, image: NDArray[np.uint8], quarters: int) -> list[Detection]:
        """The same for `image` turned counter-clockwise by so many quarters, 1 to 3; in its own pixels."""
        height, width = image.shape[:2]
        found = self.detect(np.ascontiguousarray(np.rot90(image, quarters)))
        return [detection.turned_back(quarters, width, height) for detection in found]

    def find(
        self,
        pictures: Sequence[NDArray[np.uint8]],
        found: Sequence[list[Detection]],
        given: Sequence[bool],
        threads: int | None = None,
    ) -> list[Faces]:
        """The faces of each picture at what `detect` found there. Where none of it is a face, or the network
        doubts all of them (a detector finds faces that stand on their head, and takes them for upright), the
        picture is searched turned, too; the faces are then those of the turn with the surest one.

        given: for each picture, whether they are the caller's boxes, which are all used. threads: as
        `locate` has them.
        """
        owners = [picture for picture, group in zip(pictures, found, strict=True) for _ in group]
        located = iter(self.locate(owners, [d for group in found for d in group], threads))
        faces = [[next(located) for _ in group] for group in found]
        return [
            Faces(group, self.scheme) if own else self.faces_among(picture, group)
            for picture, group, own in zip(pictures, faces, given, strict=True)
        ]

    def faces_among(self, picture: NDArray[np.uint8], candidates: list[Face]) -> Faces:
        """`find` for what `locate` made of one picture's detections."""
        upright = self._chosen(candidates)
        if not self.turn or any(self.fit == "none" or self.doubt(face) < DOUBTFUL for face in upright):
            return upright
        groups = [upright]
        for quarters in (1, 2, 3):
            detections = self.detect_turned(picture, quarters)
            groups.append(self._chosen(self.locate([picture] * len(detections), detections)))
        return max(groups, key=lambda group: max((face.score or 0 for face in group), default=0))

    def doubt(self, face: Face) -> float:
        """The mean uncertainty of the landmarks, as a share of the side of the square around 300W's."""
        side = float(np.ptp(face.points, axis=0).max()) * self.larger
        return float(face.uncertainty.mean()) / max(side, 1e-6)

    def _chosen(self, faces: list[Face]) -> Faces:
        """What is a face, each once, by its best detection; largest first."""
        kept: list[Face] = []
        for face in sorted(faces, key=lambda face: -(face.score or 0)):
            if (face.score or 0) >= self.min_score and not any(same_face(face, other) for other in kept):
                kept.append(face)
        kept.sort(key=lambda face: -float(face.box[2] * face.box[3]))
        return Faces(kept[: self.max_faces], self.scheme)

    def locate(
        self,
        pictures: Sequence[NDArray[np.uint8]],
        detections: Sequence[Detection],
        threads: int | None = None,
    ) -> list[Face]:
        """The landmarks of N detections, each in the picture of the same number, in as many passes of the
        network as each needs, at most its `passes`; BATCH at a time, on as many threads as the runtime gains
        from, or fewer."""
        threads = threads or self.runtime.threads
        size = min(math.ceil(len(detections) / threads), BATCH) or 1
        starts = range(0, len(detections), size)

        def part(start: int) -> list[Face]:
            return self._locate(pictures[start : start + size], detections[start : start + size])

        if threads == 1 or len(starts) < 2:
            found = [part(start) for start in starts]
        else:
            with ThreadPoolExecutor(threads) as pool:
                found = list(pool.map(part, starts))
        return [face for faces in found for face in faces]

    def _predict(self, images: Sequence[Any], boxes: Sequence[Floats | None]) -> list[Faces]:
        pictures = [as_rgb(image) for image in images]
        found = [self.detect(p, b) for p, b in zip(pictures, boxes, strict=True)]
        return self.find(pictures, found, [own is not None for own in boxes])

    def _locate(self, pictures: Sequence[NDArray[np.uint8]], detections: Sequence[Detection]) -> list[Face]:
        passes = np.array([detection.passes for detection in detections])
        centers = np.array([detection.center for detection in detections])
        sides = np.array([detection.side for detection in detections])
        tilts = np.array([detection.tilt for detection in detections])
        result: list[Any] = [None] * len(detections)
        rows, done = np.arange(len(detections)), 0
        while len(rows):
            done += 1
            last = centers[rows], sides[rows], tilts[rows]
            found = self._pass([pictures[int(row)] for row in rows], *last)
            for n, row in enumerate(rows):
                values = found.points[n], found.scores[n], found.uncertainty[n]
                result[row] = [value.astype(np.float32) for value in values]
            tilts[rows] = [
                turned_upright(float(turn), tilt(points, self.scheme))
                for turn, points in zip(last[2], found.points, strict=True)
            ]
            centers[rows], sides[rows] = squares_around(
                found.points, last[0], last[1], self.around, tilts[rows]
            )
            off = is_off(last[0], last[1], centers[rows], sides[rows])
            crooked = tilts[rows] != last[2]  # in its last crop: that gets one pass more
            rows = rows[(off & (passes[rows] > done)) | (crooked & (passes[rows] >= done))]
        return [self._scored(found, *values) for found, values in zip(detections, result, strict=True)]

    def _scored(self, found: Detection, points: Any, scores: Any, uncertainty: Any) -> Face:
        face = Face(found.box.astype(np.float32), None, points, scores, uncertainty, scheme=self.scheme)
        fit = fit_of(self.fit, self.doubt(face))
        return replace(face, score=face_score(self.detector_name, found.score, self.fit, fit))

    def _pass(
        self, pictures: Sequence[NDArray[np.uint8]], centers: Floats, sides: Floats, tilts: Floats
    ) -> Decoded[NDArray[Any]]:
        """One pass of the network over one square (centers (N, 2), sides (N,), tilts (N,) degrees) of each of
        N pictures: landmarks in the pictures' pixels."""
        size, alignment = self.info.image_size, self.info.codec.alignment
        squares = zip(centers, sides * self.info.crop.padding, tilts, strict=True)
        matrices = np.stack(
            [crop_matrix(center, side, size, alignment, turn) for center, side, turn in squares]
        )
        crops = np.stack([warp(p, m, size) for p, m in zip(pictures, matrices, strict=True)])
        # The labels' offset lies in the frame of upright faces.
        offsets = np.stack([np.array(self.info.label_offset) @ rotation(turn) for turn in tilts])
        return in_image(self.runtime(crops), matrices, offsets)
