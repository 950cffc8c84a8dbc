"""Face detectors: picture -> boxes, and the square around the landmarks that each box promises."""

from __future__ import annotations

import functools
import logging
import math
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.choices import DetectorName
from ..core.crop_rule import PASSES, RULES, CropRule, turned_upright
from ..core.geometry import Floats, box_iou, edges_to_square
from ..errors import PoposError, UsageError
from ..weights.catalog import load_catalog
from ..weights.download import fetch_soon, find_here
from .aligned import tilt_of_five

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Detection:
    """box: (x, y, w, h) in pixel edges. score: what the detector says of it (`core/face_score.py`); None: it
    is a caller's. center (2,), side: the square that the box promises, in pixel centres, before padding; a
    detector's is the tight one around 300W's 68 points. passes: of the network, each with a crop around the
    points of the pass before. tilt: degrees by which the picture is turned for the face to stand upright in
    that square, counter-clockwise as seen on the screen."""

    box: Floats
    score: float | None
    center: Floats
    side: float
    passes: int
    tilt: float = 0.0

    @classmethod
    def from_box(
        cls, box: Floats, score: float | None, rule: CropRule, passes: int, tilt: float = 0.0
    ) -> Detection:
        """A detector's box with the square that `rule` makes of it, in units of its size sqrt(w * h)."""
        middle, _ = edges_to_square(box)
        return cls(box, score, *rule.square(middle, math.sqrt(box[2] * box[3]), tilt), passes, tilt)

    def of(self, rule: CropRule) -> Detection:
        """The same face with another square, which `rule` makes of this one."""
        center, side = rule.square(self.center, self.side, self.tilt)
        return replace(self, center=center, side=side)

    def turned_back(self, quarters: int, width: int, height: int) -> Detection:
        """The same face in the picture of this size, which had been turned counter-clockwise by so many
        quarters when the detector searched it (`np.rot90`)."""
        (x, y, w, h), (right, down) = self.box, self.center
        box, center = {
            1: ((width - y - h, x, h, w), (width - 1 - down, right)),
            2: ((width - x - w, height - y - h, w, h), (width - 1 - right, height - 1 - down)),
            3: ((y, height - x - w, h, w), (down, height - 1 - right)),
        }[quarters]
        tilt = self.tilt + 90.0 * quarters
        return replace(self, box=np.array(box), center=np.array(center), tilt=tilt)


def search_scale(image: NDArray[np.uint8], size: int) -> float:
    """The factor, at most 1, by which a picture is shrunk before the search, whose cost grows with the area:
    its longer side becomes `size`, or its area that of a 16:9 picture of this width, if that is more."""
    height, width = image.shape[:2]
    return float(min(max(size / max(height, width), size * math.sqrt(9 / 16 / (height * width))), 1))


class Haar:
    """OpenCV's frontal-face cascade (Viola and Jones 2001; Lienhart and Maydt 2002).

    Its box is as wide as the face but centred on the eyes. On 765 faces of 250 people the square around
    300W's 68 points is centred 0.165 box widths below it (standard deviation 0.037; sideways 0.095, because
    of turned heads), and its side is 0.89 (0.084) of the width: `RULE`.
    """

    name: DetectorName = "haar"
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
        if min(grey.shape) * scale < self.SMALLEST:  # OpenCV cannot make a side of 0 pixels
            return []
        if scale < 1:
            grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        with self.lock:
            found, windows = self.cascade.detectMultiScale2(
                grey, scaleFactor=1.1, minNeighbors=3, minSize=(self.SMALLEST, self.SMALLEST)
            )
        boxes = np.asarray(found, dtype=np.float64).reshape(-1, 4) / scale
        return [
            Detection.from_box(boxes[n], float(windows[n]), self.RULE, PASSES["haar"])
            for n in without_overlaps(boxes)
        ]


def without_overlaps(boxes: Floats, most: float = 0.3) -> list[int]:
    """Which of boxes (M, 4) are kept, largest first: not those that overlap a larger one by IoU > `most` or
    whose centre lies inside it, since a cascade finds mouths and noses within faces."""
    # Of equal ones the upper left first: in which order a cascade finds them depends on OpenCV's threads.
    order = np.lexsort((boxes[:, 0], boxes[:, 1], -boxes[:, 2] * boxes[:, 3]))
    kept: list[int] = []
    for n in order:
        box, larger = boxes[n], boxes[kept]
        middle = box[:2] + box[2:] / 2
        inside = ((larger[:, :2] <= middle) & (middle <= larger[:, :2] + larger[:, 2:])).all(1)
        if not (inside | (box_iou(box, larger) > most)).any():
            kept.append(int(n))
    return kept


class YuNet:
    """OpenCV's small network for faces (Wu, Peng and Yu 2023), from its ONNX file, in ONNX Runtime: twice as
    fast on a CPU as OpenCV's own `FaceDetectorYN`, whose steps these are.

    Its box reaches from the hair line to the chin. On the faces by which Haar's rule was measured the square
    around 300W's 68 points is centred 0.158 of the box's size sqrt(w h) below it (standard deviation 0.032;
    sideways 0.033), and its side is 0.946 (0.057) of that: `RULE`. The five points that come with a box
    predict the square no better (0.026, 0.030 and 0.058); they tell the tilt.
    """

    name: DetectorName = "yunet"
    RULE = RULES["yunet"]
    SCORE = 0.5  # of 765 measured faces none scored below 0.84; of small and hidden ones some do
    MOST_OVERLAP = 0.3  # IoU of two faces
    # The file is for 640 x 640 pixels. Its input's last two dimensions as ONNX stores them, and of any size:
    # as long, so that nothing else in the file changes. (Importing onnx for this takes 0.1 s.)
    ANY_SIZE = (b"\x0a\x03\x08\x80\x05" * 2, b"\x0a\x03\x12\x01H\x0a\x03\x12\x01W")
    STRIDES = (8, 16, 32)  # pixels of the searched picture between two cells of the network's maps
    # At the first size 20 pixels of face suffice, but one in ten faces of more than 500 pixels is missed: a
    # picture without a face of this share of its longer side is searched at the second, for faces of at
    # least so many pixels there (the smaller ones that it finds are rarely new, and often none).
    SEARCH_SIZES = (640, 320)
    LARGE, LEAST = 0.25, 48

    def __init__(self, model: Path) -> None:
        """Raises PoposError for a file that is no YuNet."""
        import onnxruntime

        self.model = model
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 4
        try:
            network = model.read_bytes().replace(*self.ANY_SIZE)
            self.session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
            self._search(np.zeros((32, 32, 3), np.uint8), 1.0)
        except Exception:  # of protobuf, ONNX or ONNX Runtime, which have no common base
            raise PoposError(
                f"{model}: not a YuNet model that ONNX Runtime {onnxruntime.__version__} runs",
                "Download it again (popos download-weights yunet), or use --detector haar.",
            ) from None

    def __reduce__(self) -> tuple[Any, ...]:
        return YuNet, (self.model,)

    def __call__(self, image: NDArray[np.uint8]) -> list[Detection]:
        first, second = (search_scale(image, size) for size in self.SEARCH_SIZES)
        boxes, scores, five = self._search(image, first)
        if len(boxes) and boxes[:, 2:].max() >= self.LARGE * max(image.shape):
            return yunet_detections(boxes, scores, five)
        more = self._search(image, second)
        large = more[0][:, 2:].max(1) * second >= self.LEAST
        both = (np.concatenate([a, b[large]]) for a, b in zip((boxes, scores, five), more, strict=True))
        return yunet_detections(*self._without_overlaps(*both))

    def _search(self, image: NDArray[np.uint8], scale: float) -> tuple[Floats, Floats, Floats]:
        """Boxes (M, 4), x, y, w, h, scores (M,) and five points (M, 5, 2) that are found in the picture
        shrunk by `scale`, in pixels of the picture itself."""
        width, height = (max(round(side * scale), 1) for side in image.shape[1::-1])
        small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) if scale < 1 else image
        right, below = -width % self.STRIDES[-1], -height % self.STRIDES[-1]
        small = cv2.copyMakeBorder(small, 0, below, 0, right, cv2.BORDER_CONSTANT)
        pixels = np.stack(cv2.split(small)[::-1])[None].astype(np.float32)  # (1, 3, H, W) BGR, 0..255
        boxes, scores, five = [], [], []
        wanted = [f"{name}_{stride}" for stride in self.STRIDES for name in ("cls", "obj", "bbox", "kps")]
        maps = [values[0] for values in self.session.run(wanted, {"input": pixels})]  # (cells, 1, 4 or 10)
        for n, stride in enumerate(self.STRIDES):
            faceness, there, box, points = maps[4 * n : 4 * n + 4]
            score = np.sqrt(faceness[:, 0].clip(0, 1) * there[:, 0].clip(0, 1))
            cells = np.flatnonzero(score >= self.SCORE)
            row, column = np.divmod(cells, (width + right) // stride)
            extent = np.exp(box[cells, 2:]) * stride
            corner = np.stack([column, row], axis=1)
            center = (corner + box[cells, :2]) * stride
            boxes.append(np.concatenate([center - extent / 2, extent], axis=1))
            scores.append(score[cells])
            five.append((corner[:, None] + points[cells].reshape(-1, 5, 2)) * stride)
        found = np.concatenate(boxes).astype(float) / scale, np.concatenate(scores)
        return self._without_overlaps(*found, np.concatenate(five) / scale)

    def _without_overlaps(self, boxes: Floats, scores: Floats, five: Floats) -> tuple[Floats, Floats, Floats]:
        kept = cv2.dnn.NMSBoxes(boxes.tolist(), scores.tolist(), self.SCORE, self.MOST_OVERLAP)
        rows = np.asarray(kept, dtype=int).reshape(-1)
        return boxes[rows], scores[rows], five[rows]


def yunet_detections(boxes: Floats, scores: Floats, five: Floats) -> list[Detection]:
    """Boxes (M, 4), scores (M,) and five points (M, 5, 2) -> faces, largest first. Boxes that are not finite
    or have no area are left out."""
    good = np.isfinite(boxes).all(1) & (boxes[:, 2:] > 0).all(1) & np.isfinite(five).all((1, 2))
    boxes, scores, five = boxes[good], np.clip(scores[good], 0, 1), five[good]
    order = np.argsort(-boxes[:, 2] * boxes[:, 3], kind="stable")
    tilts = [turned_upright(0.0, tilt_of_five(points)) for points in five]
    rule, passes = YuNet.RULE, PASSES["yunet"]
    return [Detection.from_box(boxes[n], float(scores[n]), rule, passes, tilts[n]) for n in order]


# Both take RGB uint8 (H, W, 3) and give the largest face first. Threads may share one; it can be pickled.
Detector = Haar | YuNet


def detectors_here() -> list[Detector]:
    """Every detector that works on this machine."""
    found: list[Detector] = [Haar()]
    if model := find_here(load_catalog()["yunet"]):
        with suppress(PoposError):
            found.append(YuNet(model))
    return found


def load_detector(name: DetectorName = "auto") -> Detector:
    """A detector; "auto" is YuNet where it is here or can be fetched at once, else Haar, with a note.
    PoposError where "yunet" cannot be had."""
    if name not in get_args(DetectorName):
        raise UsageError(f"unknown detector {name!r}", f"One of: {', '.join(get_args(DetectorName))}.")
    if name == "haar":
        return Haar()
    entry = load_catalog()["yunet"]
    if model := find_here(entry) or fetch_soon(entry):
        return YuNet(model)
    if name == "yunet":
        raise PoposError(
            "the detector yunet is not here yet",
            "Run: popos download-weights yunet (or use --detector haar).",
        )
    _note_once("faces are found by haar; yunet finds more: popos download-weights yunet")
    return Haar()


@functools.cache  # a program may make many predictors
def _note_once(message: str) -> None:
    _log.warning("%s", message)
