"""Detectors on labelled faces: which detection is the face, and where its square lies."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.crop_rule import RULES, SAME, CropRule, median_rule
from ..core.geometry import Floats, box_iou, tight_square
from ..data.index import Index
from ..errors import PoposError
from ..predict.detect import Detection, Detector, detectors_here
from ..progress import Bar
from ..weights.info import CropInfo, WeightsInfo

# A detection is of a face where its box overlaps the square around the face's 68 points by this much.
FOUND_IOU = 0.3
# Faces that a rule is measured on: enough for a median, and seconds.
FACES = 100
LEAST_FACES = 10


def detect_all(
    index: Index, detector: Detector, progress: Callable[[int], None] | None = None
) -> list[list[Detection]]:
    """All detections in the picture of each face. progress: called with 1 after each picture."""
    found = []
    for face in range(len(index)):
        found.append(detector(index.read_rgb(face)))
        if progress:
            progress(1)
    return found


def squares_of(
    index: Index, found: list[list[Detection]], rule: CropRule | None
) -> tuple[NDArray[np.int64], tuple[Floats, Floats]]:
    """The faces that were found, and the squares to crop around their detections.

    rule: from the 300w square to the weights' own; None where it is not known: detections are then matched to
    faces by the rule that holds for most of them, but cropped as `predict` would, by the 300w square. Returns
    rows (M,), and the squares' centres (M, 2) and sides (M,).
    """
    back = (rule or _measured(index, found, least=1) or SAME).inverse()
    rows, squares = [], []
    for face, detections in enumerate(found):
        center, side = back.square(index.center[face], float(index.side[face]))
        around = np.array([*(center + 0.5 - side / 2), side, side])
        overlaps = box_iou(around, np.array([d.box for d in detections]).reshape(-1, 4))
        if len(detections) and overlaps.max() >= FOUND_IOU:
            best = detections[int(overlaps.argmax())]
            rows.append(face)
            squares.append((rule or SAME).square(best.center, best.side))
    centers = np.array([center for center, _ in squares]).reshape(-1, 2)
    return np.array(rows, dtype=np.int64), (centers, np.array([side for _, side in squares]))


def measure_crop(
    index: Index, padding: float, detectors: Iterable[Detector], progress: Callable[[int], None] | None = None
) -> CropInfo:
    """The crop of weights that were trained on this index's squares: the rule for each detector that finds
    enough of up to `FACES` faces, and the rule from the landmarks. progress: called with 1 after each
    picture.
    """
    chosen = index.select(np.linspace(0, len(index) - 1, min(len(index), FACES)).astype(np.int64))
    rules = {}
    for detector in detectors if len(chosen) >= LEAST_FACES else ():
        try:
            measured = _measured(chosen, detect_all(chosen, detector, progress))
        except (PoposError, cv2.error):  # an unreadable picture: `predict` then goes by the scheme
            continue
        if measured:
            rules[detector.name] = RULES[detector.name].then(measured)
    return CropInfo(padding=padding, landmarks=_about_landmarks(index), detectors=rules)


def measured_crop(index: Index, info: WeightsInfo, note: Callable[[str], None], bar: Bar) -> CropInfo:
    """`measure_crop` of this dataset's training faces by the detectors that are here, shown and noted."""
    faces = index.of_split("train" if "train" in index.splits else index.splits[0])
    detectors = detectors_here()
    total = min(len(faces), FACES) * len(detectors)
    with bar("finding faces, for the way from box to crop", total) as advance:
        crop = measure_crop(faces, info.crop.padding, detectors, advance)
    if crop.detectors:
        note(f"measured from box to crop, for predict: {', '.join(crop.detectors)}")
    else:
        note("from box to crop: not measured, since detectors find too few of the training faces")
    return crop


def _measured(index: Index, found: list[list[Detection]], least: int = LEAST_FACES) -> CropRule | None:
    """The rule from a detector's 300w square to the index's square; None where it finds fewer than `least`
    of the faces, or no rule holds for half of them."""
    pairs = [
        ((index.center[face], float(index.side[face])), (near.center, near.side))
        for face, detections in enumerate(found)
        if (near := _nearest(detections, index.center[face]))
    ]
    return median_rule(*zip(*pairs, strict=True)) if len(pairs) >= least else None


def _nearest(detections: list[Detection], center: Floats) -> Detection | None:
    """The detection whose face has `center` in it, within 0.6 sides of its middle: the square of a scheme of
    few points may be a third of the face's size away from the face's own centre."""

    def distance(detection: Detection) -> float:
        return float(np.linalg.norm(detection.center - center)) / detection.side

    near = min(detections, key=distance, default=None)
    return near if near and distance(near) < 0.6 else None


def _about_landmarks(index: Index) -> CropRule:
    """The rule from the tight square of the landmarks to the index's square."""
    whole = np.flatnonzero((index.visible > 0).all(1) & (index.side > 0))
    tight = [tight_square(index.points[face]) for face in whole]
    own = [(index.center[face], float(index.side[face])) for face in whole]
    usable = [pair for pair in zip(own, tight, strict=True) if pair[1][1] > 0]
    return (median_rule(*zip(*usable, strict=True)) if usable else None) or SAME
