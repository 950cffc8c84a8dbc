"""Faces of a video, frame after frame: who is who, and where each face is now.

A face that is known needs one pass of the network, in a crop around where its landmarks are expected; the
detector searches the whole picture now and then. All waiting is in seconds: neither a video's rate nor frames
that are left out matter.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field, replace
from itertools import combinations, count

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.crop_rule import squares_around, turned_upright
from ..core.geometry import Floats, box_iou
from .aligned import tilt
from .detect import Detection
from .face import Face, Faces, same_face
from .predictor import Predictor
from .smoothing import Smoother

# Seconds between two searches of the picture: while all is well; while there is no face, or one is doubtful
# or lost.
SEARCH_EVERY = 0.5
SEARCH_AGAIN = 0.2
LOST_FOR = 2.0  # seconds in which a face that comes back gets its number back
SURE = 0.25  # seconds before its loss, in which a face that is being hidden may not have been where we saw it
# The mean uncertainty of a face's landmarks over the side of its crop. Of 150 faces, measured with `small`,
# 99 % are below 0.05 (blurred, or 20 pixels wide: 0.08); of 200 squares without a face one stays below 0.08
# as a track that follows its own points.
DOUBTFUL, NO_FACE = 0.07, 0.15
LOWEST_SCORE = 0.5  # mean of the landmarks' scores; says less, but weights may be without a calibration
UNCONFIRMED_FOR = 2.0  # seconds that such weights' faces live without a detector that sees them
# A crop rests while it is off by less than this share of its side: each new crop moves all landmarks a
# little, and one that rests halves the jitter of a still face.
REST = 0.01
# Over the side of the crop: a jump, which a doubtful face must not make, nor one of two tracks on one face
# (it left its own for it).
JUMPED = 0.1
# How far from where it was expected, in units of the crop's side, a face may be found: one that was seen in
# the last frame, and a lost one.
REACH, LOST_REACH = 0.6, 1.5
# Two frames are of different scenes if their grey pictures of SMALL pixels, each less its mean, differ by
# more on average. (Pairs of photos 39 and more; faces that shake as fast as they can 19 and less.)
CUT = 25.0
SMALL = (20, 15)
FAR = 1e6  # the cost of a pair that cannot be


@dataclass
class _Track:
    """One face.

    id: None until it is reported. center (2,), side, tilt: of its crop, without padding. past: the filter's
    states of the last SURE seconds, the oldest first. box, score: the detector's when it last found the
    face; the box relative to the points (`_relative`).
    expected: where the middle of its landmarks should be in this frame; None in its first. found, face: what
    the detector and the network say in this frame; without a face the track is lost. seen: when it had one.
    confirmed: when the detector found it.
    """

    center: Floats
    side: float
    tilt: float = 0.0
    id: int | None = None
    smoother: Smoother = field(default_factory=Smoother)
    past: list[Smoother] = field(default_factory=list)
    box: Floats | None = None
    score: float | None = None
    expected: Floats | None = None
    found: Detection | None = None
    face: Face | None = None
    doubtful: bool = False
    seen: float = -np.inf
    confirmed: float = -np.inf

    def expect(self, time: float, predictor: Predictor) -> None:
        """Move the crop to where the face should be by now, if that is far enough."""
        points = self.smoother.at(time)
        self.found, self.expected = None, points.mean(0)
        self.tilt = turned_upright(self.tilt, tilt(points, predictor.scheme))
        (center,), (side,) = squares_around(
            points[None], self.center[None], np.array([self.side]), predictor.around, np.array([self.tilt])
        )
        distance = float(np.hypot(*(center - self.center)))
        self.center = center + (self.center - center) * min(REST * side / max(distance, 1e-9), 1)
        self.side = float(np.clip(self.side, side * (1 - REST), side * (1 + REST)))

    def look(self) -> Detection:
        """What the network is to look at: one pass in the expected crop; as many as the detector's need where
        that is all we have, or the two are not of one mind."""
        if self.found and (self.face is None or self.doubtful or _overlap(self, self.found) < 0.5):
            self.center, self.side, self.tilt = self.found.center, self.found.side, self.found.tilt
            return self.found
        return Detection(np.zeros(4), self.score, self.center, self.side, passes=1, tilt=self.tilt)

    def jump(self, face: Face) -> float:
        """How far these landmarks are from where they were expected, in units of the crop's side."""
        if self.expected is None:
            return np.inf
        return float(np.hypot(*(face.points.mean(0) - self.expected))) / self.side


class Tracker:
    """Follows the faces of one video, live. smooth: give the filtered landmarks (`smoothing.py`) instead of
    the network's.

    Call it once a frame, in order, from one thread. Numbers (`Face.id`) count from 0 and are not used again;
    a face that is lost and found again near its place within LOST_FOR seconds, without a cut, keeps its own.
    A detector's box in which the network is not sure of a face begins no track, nor does one whose score is
    below the predictor's `min_score`. While there is no track, each search tries another quarter turn, too.
    """

    def __init__(self, predictor: Predictor, smooth: bool = True) -> None:
        self.predictor, self.smooth = predictor, smooth
        self.calibrated = predictor.info.uncertainty is not None
        self.ids, self.quarters = count(), count()
        self.tracks: list[_Track] = []  # the oldest first
        self.time = self.before = self.searched = -np.inf
        self.small = np.zeros((0, 0))

    def __call__(self, image: NDArray[np.uint8], time: float) -> Faces:
        """The faces of the next frame, RGB uint8 (H, W, 3), largest first; time: seconds from the start.

        `box` is the detector's from when it last found the face, and moves with the landmarks in between;
        `score` follows from what the detector said then and from this frame's landmarks. `uncertainty` is the
        network's for this frame, also where the points are filtered.
        """
        self.before, self.time = self.time, max(time, self.time + 1e-3)  # some files repeat a time
        if self._is_cut(image):
            self.tracks, self.searched = [], -np.inf
        self.tracks = [track for track in self.tracks if track.face or self.time - track.seen <= LOST_FOR]
        for track in self.tracks:
            track.expect(self.time, self.predictor)
        if self._must_search():
            self._search(image)
        looked_at = [track for track in self.tracks if track.face or track.found]
        looks = [track.look() for track in looked_at]
        for track, face in zip(looked_at, self.predictor.locate([image] * len(looks), looks), strict=True):
            track.face = face if self._is_face(track, face) else None
        self._part_doubles()
        self._leave_out_the_smallest()
        faces = [self._reported(track, track.face) for track in self.tracks if track.face]
        for track in self.tracks:
            if not track.face and track.past:
                track.smoother, track.past = track.past[0], []
        faces.sort(key=lambda face: -float(face.box[2] * face.box[3]))
        return Faces(faces, self.predictor.scheme)

    def _is_cut(self, image: NDArray[np.uint8]) -> bool:
        """Whether another scene begins with this frame."""
        step = max(min(image.shape[:2]) // 60, 1)  # most pixels are left out: this must take no time
        small = cv2.resize(image[::step, ::step], SMALL, interpolation=cv2.INTER_AREA).mean(-1)
        before, self.small = self.small, small
        if not before.size:
            return False
        change = small - before
        return float(np.abs(change - change.mean()).mean()) > CUT

    def _must_search(self) -> bool:
        well = self.tracks and all(track.face and not track.doubtful for track in self.tracks)
        return self.time - self.searched >= (SEARCH_EVERY if well else SEARCH_AGAIN)

    def _search(self, image: NDArray[np.uint8]) -> None:
        """Let the detector find faces, give them to their tracks and begin new ones."""
        self.searched = self.time
        detections = self.predictor.detect(image)
        if self.predictor.turn and not self.tracks and not detections:
            detections = self.predictor.detect_turned(image, next(self.quarters) % 3 + 1)
        for track, detection in _assigned(self.tracks, detections):
            track.found = detection
        known = [id(track.found) for track in self.tracks]
        new = [detection for detection in detections if id(detection) not in known]
        self.tracks += [_Track(one.center, one.side, one.tilt, found=one) for one in new]

    def _is_face(self, track: _Track, face: Face) -> bool:
        """Whether the network believes in this face and, where it doubts, the detector does."""
        if track.id is None and (face.score or 0) < self.predictor.min_score:
            return False
        error = float(face.uncertainty.mean()) / track.side
        track.doubtful = error > DOUBTFUL
        if track.found:
            track.confirmed = self.time
        elif self.searched == self.time:
            forgotten = not self.calibrated and self.time - track.confirmed > UNCONFIRMED_FOR
            if track.doubtful or forgotten:
                return False
        elif track.doubtful and track.jump(face) > JUMPED:
            return False
        return error <= NO_FACE and float(face.scores.mean()) >= LOWEST_SCORE

    def _part_doubles(self) -> None:
        """Of two tracks on one face, the one that jumped there has lost its own; else the younger goes."""
        for older, younger in combinations(self.tracks, 2):
            if older.face and younger.face and same_face(older.face, younger.face):
                jumped = older.jump(older.face) > younger.jump(younger.face) + JUMPED
                (older if jumped else younger).face = None

    def _leave_out_the_smallest(self) -> None:
        """Tracks beyond `max_faces` end before they are reported."""
        seen = sorted((track for track in self.tracks if track.face), key=lambda track: -track.side)
        surplus = [id(track) for track in seen[self.predictor.max_faces or len(seen) :]]
        self.tracks = [track for track in self.tracks if id(track) not in surplus]

    def _reported(self, track: _Track, face: Face) -> Face:
        """The face as the caller gets it; the track learns from it."""
        if track.id is None:
            track.id = next(self.ids)
        if track.seen < self.before:
            track.smoother = Smoother()
        points = track.smoother(face.points, face.uncertainty, self.time)
        track.past = [past for past in track.past if self.time - past.time <= SURE] + [copy(track.smoother)]
        if track.found:
            track.box, track.score = _relative(track.found.box, points), track.found.score
        assert track.box is not None
        track.seen = self.time
        box = _absolute(track.box, points).astype(np.float32)
        shown = points.astype(np.float32) if self.smooth else face.points
        return replace(face, id=track.id, box=box, points=shown)


def _assigned(tracks: list[_Track], detections: list[Detection]) -> list[tuple[_Track, Detection]]:
    """Which detection is which track's: the pairs whose squares overlap most and lie nearest, in all."""
    if not tracks or not detections:
        return []
    cost = np.empty((len(tracks), len(detections)))
    for row, track in enumerate(tracks):
        reach = REACH if track.face else LOST_REACH
        for column, found in enumerate(detections):
            distance = float(np.hypot(*(track.center - found.center))) / track.side
            near = distance < reach and 0.5 < found.side / track.side < 2
            cost[row, column] = distance + 1 - _overlap(track, found) if near else FAR
    if cost.size == 1:  # the usual case; the import takes 0.3 s
        pairs = [(0, 0)]
    else:
        from scipy.optimize import linear_sum_assignment

        pairs = list(zip(*linear_sum_assignment(cost), strict=True))
    return [(tracks[row], detections[column]) for row, column in pairs if cost[row, column] < FAR]


def _overlap(one: _Track | Detection, other: _Track | Detection) -> float:
    """Intersection over union of their squares."""
    first, second = (np.array([*(s.center - s.side / 2), s.side, s.side]) for s in (one, other))
    return float(box_iou(first, second[None])[0])


def _relative(box: Floats, points: Floats) -> Floats:
    """A box x, y, w, h in the frame of landmarks (K, 2): their middle, and their mean distance from it."""
    middle, radius = _frame(points)
    return np.concatenate([box[:2] - middle, box[2:]]) / radius


def _absolute(box: Floats, points: Floats) -> Floats:
    """The inverse of `_relative`, for the landmarks of another frame."""
    middle, radius = _frame(points)
    return np.concatenate([box[:2] * radius + middle, box[2:] * radius])


def _frame(points: Floats) -> tuple[Floats, float]:
    middle = points.mean(0)
    return middle, float(np.linalg.norm(points - middle, axis=1).mean())
