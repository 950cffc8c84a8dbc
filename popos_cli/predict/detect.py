"""Face detectors: picture -> boxes, and each one's rule from its box to the network's crop."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.crop_rule import RULES, CropRule
from ..core.geometry import Floats, box_iou
from ..errors import PoposError
from ..weights.catalog import load_catalog
from ..weights.download import find_here


@dataclass(frozen=True)
class Detection:
    """box: (x, y, w, h) in pixel edges. score 0..1 or None. center (2,), side: the square that the box
    promises, in pixel centres, before padding; a detector's is the tight one around 300W's 68 points."""

    box: Floats
    score: float | None
    center: Floats
    side: float

    def of(self, rule: CropRule) -> Detection:
        """The same face with another square, which `rule` makes of this one."""
        center, side = rule.square(self.center, self.side)
        return replace(self, center=center, side=side)


class Detector(Protocol):
    """May be shared by threads, and pickled."""

    name: str

    def __call__(self, image: NDArray[np.uint8]) -> list[Detection]: ...


def search_scale(image: NDArray[np.uint8], size: int) -> float:
    """The factor, at most 1, that a picture is made smaller by before the search, whose cost grows with the
    area: its longer side becomes `size`, or its area that of a 16:9 picture of this width, if that is more.
    """
    height, width = image.shape[:2]
    return float(min(max(size / max(height, width), size * math.sqrt(9 / 16 / (height * width))), 1))


class Haar:
    """OpenCV's frontal-face cascade (Viola and Jones 2001; Lienhart and Maydt 2002).

    Its box is as wide as the face but sits on the eyes. Measured on 765 faces of 250 people: the
    landmarks' square is centred 0.165 box widths below the box's centre (standard deviation
    0.037; sideways 0.00 +- 0.095, by the head's turn) and 0.89 +- 0.084 of its width.
    """

    name = "haar"
    RULE = RULES["haar"]
    SEARCH_SIZE = 1280
    SMALLEST = 30  # pixels of the searched picture; the cascade's own window is 24

    def __init__(self) -> None:
        folder: str = cv2.data.haarcascades  # type: ignore[attr-defined]
        path = Path(folder) / "haarcascade_frontalface_default.xml"
        self.lock = Lock()  # the cascade keeps the picture that it searches
        self.cascade = cv2.CascadeClassifier(str(path))
        if self.cascade.empty():
            raise PoposError(f"{path}: OpenCV's face cascade is missing", "Reinstall opencv-python>=4.10,<5.")

    def __reduce__(self) -> tuple[Any, ...]:
        return Haar, ()

    def __call__(self, image: NDArray[np.uint8]) -> list[Detection]:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        scale = search_scale(image, self.SEARCH_SIZE)
        if min(grey.shape) * scale < self.SMALLEST:  # and OpenCV refuses to make a side of 0 pixels
            return []
        if scale < 1:
            grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        with self.lock:
            found = self.cascade.detectMultiScale(
                grey, scaleFactor=1.1, minNeighbors=3, minSize=(self.SMALLEST, self.SMALLEST)
            )
        boxes = np.asarray(found, dtype=np.float64).reshape(-1, 4) / scale
        return [self._detection(box) for box in without_overlaps(boxes)]

    def _detection(self, box: Floats) -> Detection:
        x, y, width, height = box
        middle = np.array([x + width / 2 - 0.5, y + height / 2 - 0.5])
        return Detection(box, None, *self.RULE.square(middle, float(width)))


def without_overlaps(boxes: Floats, most: float = 0.3) -> Floats:
    """Boxes (M, 4) largest first, without those that overlap a larger one by IoU > `most` or lie
    inside it: a cascade finds mouths and noses within faces."""
    # Of equals the upper left one: the order in which a cascade finds them depends on OpenCV's threads.
    order = np.lexsort((boxes[:, 0], boxes[:, 1], -boxes[:, 2] * boxes[:, 3]))
    kept: list[Floats] = []
    for box in boxes[order]:
        middle = box[:2] + box[2:] / 2
        inside = any(((k[:2] <= middle) & (middle <= k[:2] + k[2:])).all() for k in kept)
        overlaps = bool(kept) and bool((box_iou(box, np.array(kept)) > most).any())
        if not inside and not overlaps:
            kept.append(box)
    return np.array(kept).reshape(-1, 4)


class YuNet:
    """OpenCV's small network for faces (Wu, Peng and Yu 2023), from its ONNX file.

    Its box reaches from the hair line to the chin, about 1.33 times as high as wide; the landmarks'
    square begins at the brows. Measured in units of the box's size sqrt(w * h), on the 765 faces of 250
    people that Haar's rule was measured on: the square is centred 0.158 below the box's centre (standard
    deviation 0.032; sideways 0.00 +- 0.033) and its side is 0.946 +- 0.057. The five points that come
    with the box foretell the square no better (0.026, 0.030 and 0.058 by least squares): not used.
    """

    name = "yunet"
    RULE = RULES["yunet"]
    # Of those 765 faces none scored below 0.84; what else scored 0.75 and more were faces, too.
    SCORE = 0.7
    MOST_OVERLAP = 0.3  # IoU of two faces
    # The longer side is brought down to the first, where 20 pixels of face suffice. It misses one in ten
    # faces of more than 500 pixels, so that a picture where it finds none is searched at the second.
    SEARCH_SIZES = (640, 320)
    MOST_FACES = 5000
    # A side of 32 pixels or less makes one of the network's maps a single pixel wide, and OpenCV reads beyond
    # it: what was in memory is found as faces, another time others.
    SMALLEST = 64

    def __init__(self, model: Path) -> None:
        """Raises PoposError for a file that is no YuNet."""
        self.model = model
        self.lock = Lock()  # the network keeps the size that it was set to
        logging: Any = getattr(cv2.utils, "logging", cv2)  # where OpenCV 4.13 has moved it to
        level = logging.getLogLevel()
        logging.setLogLevel(0)  # OpenCV prints pages about a file that it cannot read
        try:
            self.network = cv2.FaceDetectorYN.create(
                str(model), "", (32, 32), self.SCORE, self.MOST_OVERLAP, self.MOST_FACES
            )
            self.network.detect(np.zeros((32, 32, 3), np.uint8))
        except cv2.error:
            raise PoposError(
                f"{model}: not a YuNet model that OpenCV {cv2.__version__} runs",
                "Download it again (popos download-weights yunet), or use --detector haar.",
            ) from None
        finally:
            logging.setLogLevel(level)

    def __call__(self, image: NDArray[np.uint8]) -> list[Detection]:
        for size in self.SEARCH_SIZES:
            scale = search_scale(image, size)
            if found := yunet_detections(self._search(image, scale), scale):
                break
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return YuNet, (self.model,)

    def _search(self, image: NDArray[np.uint8], scale: float) -> Floats:
        """Rows (M, 15) of the picture made smaller by `scale`, in its pixels."""
        width, height = (max(round(side * scale), 1) for side in image.shape[1::-1])
        small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) if scale < 1 else image
        small = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
        right, below = (max(self.SMALLEST - side, 0) for side in (width, height))
        small = cv2.copyMakeBorder(small, 0, below, 0, right, cv2.BORDER_CONSTANT)
        with self.lock:
            self.network.setInputSize((width + right, height + below))
            _, rows = self.network.detect(small)
        return np.zeros((0, 15)) if rows is None else np.asarray(rows, dtype=np.float64)


def yunet_detections(rows: Floats, scale: float) -> list[Detection]:
    """OpenCV's rows for a picture made smaller by `scale` -> faces of the picture itself, largest first.

    rows (M, 15): box x, y, w, h, then x, y of right eye, left eye, nose tip and the mouth's right and left
    corner, then the score 0..1. Rows that are not finite or have no area are left out.
    """
    good = np.isfinite(rows).all(1) & (rows[:, 2:4] > 0).all(1)
    boxes, scores = rows[good, :4] / scale, np.clip(rows[good, 14], 0, 1)
    sizes = np.sqrt(boxes[:, 2] * boxes[:, 3])
    detections = []
    for n in np.argsort(-sizes, kind="stable"):
        x, y, width, height = boxes[n]
        middle = np.array([x + width / 2 - 0.5, y + height / 2 - 0.5])
        square = YuNet.RULE.square(middle, float(sizes[n]))
        detections.append(Detection(boxes[n], float(scores[n]), *square))
    return detections


DETECTORS = (Haar.name, YuNet.name)


def detectors_here() -> list[Detector]:
    """Every detector that works on this machine."""
    found: list[Detector] = []
    for name in DETECTORS:
        with suppress(PoposError):
            found.append(load_detector(name))
    return found


def load_detector(name: str = "auto") -> Detector:
    """ "haar"; "yunet"; or "auto", which is YuNet where its file is here and else Haar. Asks no network.

    Raises PoposError where "yunet" is not here.
    """
    model = find_here(load_catalog()["yunet"]) if name != "haar" else None
    if model:
        return YuNet(model)
    if name == "yunet":
        raise PoposError(
            "the detector yunet is not here yet",
            "Run: popos download-weights yunet (or use --detector haar).",
        )
    return Haar()
