"""What `popos predict` reads, one frame after another: a picture, a video file, a camera, a stream."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, ClassVar

import cv2

from ..data.containers import cut_short
from ..data.pictures import Picture, read_head, read_image
from ..errors import PoposError

TIMEOUT = 10_000  # milliseconds to open a stream, and then for each frame
MOST_MISSING = 1000  # frames in a row that cannot be decoded: there are no more, whatever the header says
USUAL_RATE = 30.0  # frames per second, where a source does not say

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Frame:
    """One picture of a source.

    source: its name, as results have it. number: from 0, in the whole video; a picture's is 0. time: seconds
    from the start of the whole video, or since a camera was opened; None for a picture. image: RGB uint8
    (H, W, 3), upright. rate: frames per second of those that are read, None for a picture. live: of a source
    that does not wait, so that it is worth nothing once the next one is here.
    """

    source: str
    number: int
    time: float | None
    image: Picture
    rate: float | None = None
    live: bool = False


@dataclass(frozen=True)
class Span:
    """Which frames of a video: the first one at or after `start` and every `every`-th from there, before
    `end` (seconds)."""

    every: int = 1
    start: float = 0.0
    end: float | None = None

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"every must be at least 1, not {self.every}")
        if self.start < 0 or (self.end is not None and self.end <= self.start):
            raise ValueError(f"from {self.start:g} to {self.end} seconds there is no frame")


@dataclass(frozen=True)
class PictureFile:
    """place: what its outputs are called, without ending, below their folder."""

    path: Path
    place: PurePath
    moving: ClassVar = False
    is_file: ClassVar = True

    @property
    def name(self) -> str:
        return str(self.path)

    def frames(self) -> Generator[Frame, None, None]:
        """The one frame. Raises PoposError as `read_image`."""
        yield Frame(self.name, 0, None, read_image(self.path, upright=True))

    def length(self) -> int:
        return 1


@dataclass(frozen=True)
class Video:
    """A video file (origin: its path), a camera (its number) or a stream (its address)."""

    name: str
    origin: Path | int | str
    place: PurePath
    span: Span = Span()
    moving: ClassVar = True

    @property
    def is_file(self) -> bool:
        return isinstance(self.origin, Path)

    def length(self) -> int | None:
        """About how many frames `frames` gives, by the file's header; None where nobody knows."""
        if not self.is_file:
            return None
        try:
            capture = self._open()
        except PoposError:
            return 1
        rate, count = _rate(capture), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        capture.release()
        last = min(count / rate, self.span.end or float("inf"))
        return max(round((last - self.span.start) * rate / self.span.every), 1) if count > 0 else None

    def frames(self) -> Generator[Frame, None, None]:
        """The frames of the span. Raises PoposError where it cannot be opened, and behind the last frame
        where the file is torn or damaged, so that nothing of it is lost."""
        capture = self._open()
        try:
            yield from self._frames(capture)
        finally:
            capture.release()

    def _open(self) -> Any:
        """OpenCV's reader. The waiting for streams is limited."""
        if isinstance(self.origin, int):
            capture = cv2.VideoCapture(self.origin)
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # what waits there is old when it is read
            wrong = PoposError(f"camera {self.name} cannot be opened", "Is it there, and free?")
        elif isinstance(self.origin, str):
            limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, TIMEOUT, cv2.CAP_PROP_READ_TIMEOUT_MSEC, TIMEOUT]
            capture = cv2.VideoCapture(self.origin, cv2.CAP_FFMPEG, limits)
            wrong = PoposError(f"{self.name}: no video comes from this address", "Does ffplay play it?")
        else:
            read_head(self.origin)
            check_name(self.origin.absolute())
            # Absolute: FFmpeg would take what stands before a colon for a protocol.
            capture = cv2.VideoCapture(str(self.origin.absolute()), cv2.CAP_FFMPEG)
            wrong = PoposError(
                f"{self.name}: not a video that OpenCV {cv2.__version__} can read, or a torn one",
                "Copy or download it again, or convert it: ffmpeg -i IN -c:v libx264 OUT.mp4",
            )
        if not capture.isOpened():
            raise wrong
        return capture

    def _frames(self, capture: Any) -> Generator[Frame, None, None]:
        """Every frame is decoded, also before the start: a frame number that is computed from a time is wrong
        in videos of varying rate."""
        rate, count = _rate(capture), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        live = not self.is_file and count <= 0
        began, at, last = time.monotonic(), -1 / rate, -1  # of the last frame: seconds and number
        first, given, damaged, missing = None, 0, 0, 0
        for number in itertools.count():
            if not capture.grab():
                missing += 1
                if not self.is_file or number + 1 >= count or missing == MOST_MISSING:
                    break
                continue  # a damaged frame: those behind it may be whole
            damaged, missing = damaged + missing, 0
            # The times of live streams may jump, and some files have none.
            now = time.monotonic() - began if live else capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            at, last = now if now > at else at + (number - last) / rate, number
            if self.span.end is not None and at >= self.span.end - 1e-6:
                break
            if at < self.span.start - 1e-6:
                continue
            first = number if first is None else first
            if (number - first) % self.span.every == 0:
                given += 1
                _, image = capture.retrieve()
                cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
                yield Frame(self.name, number, round(at, 6), image, rate / self.span.every, live)
        self._check(last, at, given, damaged, missing, count)

    def _check(self, last: int, at: float, given: int, damaged: int, missing: int, count: float) -> None:
        """Raises PoposError where not every frame could be read. last: number of the last one read, which is
        at `at` seconds; missing: how many should have come behind it."""
        if last < 0:
            raise PoposError(f"{self.name}: no frame of this video can be decoded")
        if isinstance(self.origin, Path):
            if missing > 1 and cut_short(self.origin):
                raise PoposError(
                    f"{self.name}: the video is truncated: it ends after {last + 1} of {count:.0f} frames",
                    "Copy or download it again.",
                )
            if damaged:
                raise PoposError(f"{self.name}: {damaged} of its frames are damaged and were left out")
            if missing > 1:  # so do videos that a phone has trimmed
                _log.warning("%s ends after %d frames; its header says %.0f", self.name, last + 1, count)
        elif missing:
            _log.warning("%s ended after %d frames, %.1f seconds", self.name, last + 1, at)
        if not given:
            raise PoposError(
                f"{self.name}: no frame at or after {self.span.start:g} s: it ends at {at:.2f} s"
            )


Source = PictureFile | Video


def check_name(path: Path) -> None:
    """Raises PoposError for a video's path with bytes that are no UTF-8, at which OpenCV ends the process."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise PoposError(
            f"{path}: OpenCV cannot open videos whose path is not valid UTF-8", "Rename it."
        ) from None


def _rate(capture: Any) -> float:
    """Frames per second. Browsers' recordings say 1000, which is the unit of their times."""
    rate = capture.get(cv2.CAP_PROP_FPS)
    return rate if 0 < rate < 1000 else USUAL_RATE
