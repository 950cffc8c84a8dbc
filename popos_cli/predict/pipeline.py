"""Sources -> the faces of each of their frames: reading and the detector work ahead of the network in a
thread, and the faces of all pictures that wait by then go through the network together."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from ..errors import PoposError, debugging, explained
from .ahead import ahead
from .detect import Detection
from .face import Faces
from .frames import Frame, Source, Video
from .tracks import Tracker

if TYPE_CHECKING:
    from .predictor import Predictor

Box = tuple[float, float, float, float]
# Pixels of pictures that wait, and go through the network, together: 100 MB, twice. A small one counts as
# LEAST, so that they are 16 at most.
ROOM, LEAST = 32e6, 2e6
FRAMES_AHEAD = 2


@dataclass(frozen=True)
class Result:
    """The faces of a frame; or what went wrong with it, or with writing it: error. frame: None where it could
    not be read; number is then the frame that is missing. crop_size: of the aligned crops whose matrices its
    JSON has, pixels."""

    source: Source
    frame: Frame | None
    faces: Faces
    error: str | None = None
    number: int = 0
    crop_size: int | None = None


def predict_sources(
    predictor: Predictor,
    sources: Sequence[Source],
    boxes: Sequence[Box] = (),
    whole_image: bool = False,
    smooth: bool = True,
) -> Generator[Result, None, None]:
    """The faces of every frame, in order, as they are found. The same as one by one, but for the last bits of
    floats, whose sums depend on how many go through the network together.

    Whatever goes wrong with one picture is its result's error (with POPOS_DEBUG=1 what may be a bug is
    raised), and the others are still done; of a video the frames before it are kept. boxes, whole_image: the
    faces of each picture, instead of the detector's. smooth: filter the landmarks of videos over time.
    """
    for moving, group in groupby(sources, key=lambda source: source.moving):
        if moving:
            for source in group:
                if isinstance(source, Video):
                    yield from _video(predictor, source, smooth)
        else:
            yield from _pictures(predictor, (_read(predictor, s, boxes, whole_image) for s in group))


@dataclass
class _Found:
    """A picture that was read and searched; error: or why not."""

    source: Source
    frame: Frame | None = None
    detections: list[Detection] = field(default_factory=list)
    error: str | None = None

    @property
    def weight(self) -> float:
        return max(self.frame.image.size / 3, LEAST) if self.frame else LEAST


def _read(predictor: Predictor, source: Source, boxes: Sequence[Box], whole_image: bool) -> _Found:
    from .predictor import whole_image_box

    found = _Found(source)
    try:
        (frame,) = source.frames()
        given = np.array(boxes) if boxes else None
        if whole_image:
            given = whole_image_box(frame.image, predictor.info.crop.padding)
        found.frame = frame
        found.detections = predictor.detect(frame.image, given)
    except ValueError as error:  # boxes that are not in this picture
        found.error = f"{source.name}: {error}"
    except Exception as error:
        found.error = failure(source, error)
    return found


def _pictures(predictor: Predictor, found: Generator[_Found, None, None]) -> Iterator[Result]:
    with closing(ahead(found, ROOM, lambda one: one.weight)) as waiting:
        for batch in waiting:
            yield from _located(predictor, batch)


def _located(predictor: Predictor, batch: list[_Found]) -> Iterator[Result]:
    pairs = [(one.frame.image, d) for one in batch if one.frame for d in one.detections]
    try:
        faces = iter(predictor.locate([image for image, _ in pairs], [d for _, d in pairs]))
    except Exception as error:
        if len(batch) > 1:  # one of them is at fault, or together they are too many
            for one in batch:
                yield from _located(predictor, [one])
            return
        batch[0].detections, batch[0].error, faces = [], failure(batch[0].source, error), iter(())
    for one in batch:
        own = Faces([next(faces) for _ in one.detections], predictor.scheme)
        yield Result(one.source, one.frame, own, one.error)


def _video(predictor: Predictor, video: Video, smooth: bool) -> Iterator[Result]:
    tracker = Tracker(predictor, smooth)
    number = 0
    frames = ahead(video.frames(), FRAMES_AHEAD, replaces=lambda frame: frame.live)
    with closing(frames):
        try:
            for waiting in frames:
                for frame in waiting:
                    number = frame.number
                    yield Result(video, frame, tracker(frame.image, frame.time or 0.0))
                    number += 1
        except Exception as error:
            yield Result(video, None, Faces([], predictor.scheme), failure(video, error), number)


def failure(source: Source, error: Exception) -> str:
    """What is said of it. With POPOS_DEBUG=1 raises what may be a bug."""
    message = explained(error).message
    if isinstance(error, PoposError):
        return message
    if debugging():
        raise error
    return f"{source.name}: {message} (POPOS_DEBUG=1 shows the full report)"
