"""Sources -> the faces of each of their frames: pictures in batches, one on each core from the file to the
faces; videos frame after frame, read ahead of the network in a thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
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
# Pictures that a thread reads and searches before their faces go through the network together: sixteen faces
# take 0.6 of the time of sixteen times one, eight take 0.67. 4 MB of JPEG are about 12 megapixels.
BATCH, BYTES = 16, 4e6
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
            yield from _pictures(predictor, list(group), boxes, whole_image)


@dataclass
class _Found:
    """A picture that was read and searched; error: or why not."""

    source: Source
    frame: Frame | None = None
    detections: list[Detection] = field(default_factory=list)
    given: bool = False  # the detections are the caller's boxes
    error: str | None = None


def _read(predictor: Predictor, source: Source, boxes: Sequence[Box], whole_image: bool) -> _Found:
    from .predictor import whole_image_box

    found = _Found(source)
    try:
        (frame,) = source.frames()
        given = np.array(boxes) if boxes else None
        if whole_image:
            given = whole_image_box(frame.image, predictor.info.crop.padding)
        found.frame, found.given = frame, given is not None
        found.detections = predictor.detect(frame.image, given)
    except ValueError as error:  # boxes that are not in this picture
        found.error = f"{source.name}: {error}"
    except Exception as error:
        found.error = failure(source, error)
    return found


def _pictures(
    predictor: Predictor, sources: Sequence[Source], boxes: Sequence[Box], whole_image: bool
) -> Iterator[Result]:
    """A batch of pictures on every core, from the file to the faces. Two at least: where the network computes
    elsewhere, or on all cores, the other one reads."""
    batches = list(_batches(sources))
    workers = max(predictor.runtime.threads, 2)
    spread = None if len(batches) == 1 else 1

    def work(batch: list[Source]) -> list[Result]:
        found = [_read(predictor, source, boxes, whole_image) for source in batch]
        return list(_located(predictor, found, spread))

    pool = ThreadPoolExecutor(workers)
    waiting: deque[Future[list[Result]]] = deque()
    try:
        for batch in batches:
            waiting.append(pool.submit(work, batch))
            if len(waiting) > workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _batches(sources: Sequence[Source]) -> Iterator[list[Source]]:
    """Pictures that are in memory together: BATCH of them, or as many as their files have BYTES."""
    batch: list[Source] = []
    size = 0
    for source in sources:
        own = 0
        with suppress(OSError):  # reading it will say what is wrong
            own = Path(source.name).stat().st_size
        if batch and (len(batch) == BATCH or size + own > BYTES):
            yield batch
            batch, size = [], 0
        batch.append(source)
        size += own
    if batch:
        yield batch


def _located(predictor: Predictor, batch: list[_Found], threads: int | None) -> Iterator[Result]:
    read = [(one, one.frame.image) for one in batch if one.frame and not one.error]
    given = [one.given for one, _ in read]
    try:
        detections = [one.detections for one, _ in read]
        faces = iter(predictor.find([image for _, image in read], detections, given, threads))
    except Exception as error:
        if len(batch) > 1:  # one of them is at fault, or together they are too many
            for one in batch:
                yield from _located(predictor, [one], threads)
            return
        batch[0].detections, batch[0].error, faces = [], failure(batch[0].source, error), iter(())
    for one in batch:
        own = Faces([], predictor.scheme) if one.error or not one.frame else next(faces)
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
