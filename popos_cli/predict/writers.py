"""What `popos predict` writes of each result: JSON and overlays in a folder, and rows of a CSV file."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, TextIO

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.schemes import Scheme
from ..data.pictures import save_picture
from ..errors import PoposError
from ..home import replacing, write_json
from .csv_rows import csv_header, csv_rows
from .entries import as_unicode, entry, line
from .frames import USUAL_RATE, Frame, Source, check_name
from .names import output_names
from .overlay import draw_faces
from .pipeline import Result
from .sources import PICTURE_OUTPUT, VIDEO_OUTPUT

# H.264, which every browser plays, is not in the OpenCV of pip; its VP9 takes 130 ms a frame of 640 x 480,
# MPEG-4 part 2 takes 3.
CODECS = ("avc1", "mp4v")


class Folder:
    """NAME.json and an overlay of each picture; NAME.jsonl and an annotated MP4 of each video.

    head: the keys of the JSON document beside "images". uncertainty: is drawn, too. Raises PoposError
    where the folder cannot be made.
    """

    def __init__(
        self,
        folder: Path,
        sources: Sequence[Source],
        head: dict[str, Any],
        scheme: Scheme,
        uncertainty: bool = False,
    ) -> None:
        make_folder(folder)
        self.folder, self.head, self.scheme, self.uncertainty = folder, head, scheme, uncertainty
        self.names = output_names(sources, folder)
        self.video: Source | None = None
        self.files = ExitStack()  # of this video

    def write(self, result: Result) -> None:
        """Raises PoposError or OSError where that fails."""
        if self.video is not result.source:
            self.close()
        if not result.frame:
            return
        drawn = draw_faces(result.frame.image, result.faces, self.scheme.edges, self.uncertainty)
        if result.source.moving:
            self._add(result, result.frame, drawn)
            return
        document, overlay = (self._path(result.source, ending) for ending in PICTURE_OUTPUT)
        write_json(document, {"images": [entry(result)], **self.head})
        save_picture(drawn, overlay)

    def _add(self, result: Result, frame: Frame, drawn: NDArray[np.uint8]) -> None:
        if self.video is not result.source:
            self.video = result.source
            lines, overlay = (self._path(result.source, ending) for ending in VIDEO_OUTPUT)
            self.lines = self.files.enter_context(opened(lines))
            self.clip = self.files.enter_context(Clip(overlay, frame))
        self.lines.write(json.dumps(line(result, self.head), ensure_ascii=False, allow_nan=False) + "\n")
        self.lines.flush()
        self.clip.add(drawn, frame.time or 0.0)

    def _path(self, source: Source, ending: str) -> Path:
        name = self.names[source]
        return self.folder / name.with_name(name.name + ending)

    def close(self) -> None:
        """Complete the files of the last video."""
        self.video = None
        self.files.close()


class Clip:
    """An MP4 that is written frame after frame, without sound. It takes its place when it is closed, whatever
    ended it."""

    def __init__(self, path: Path, first: Frame) -> None:
        """first: the frame that gives size, rate and the time of its start."""
        self.rate, self.start = first.rate or USUAL_RATE, first.time or 0.0
        self.size = first.image.shape[1::-1]
        self.count = 0
        self.place = replacing(path)
        temporary = str(self.place.__enter__())
        check_name(Path(temporary).absolute())
        for codec in CODECS:
            code = cv2.VideoWriter.fourcc(*codec)
            self.writer = cv2.VideoWriter(temporary, code, self.rate, self.size)
            if self.writer.isOpened():
                return
        error = PoposError(f"cannot write {path}: OpenCV {cv2.__version__} has no encoder for MP4")
        self.place.__exit__(PoposError, error, None)
        raise error

    def add(self, picture: NDArray[np.uint8], time: float) -> None:
        """RGB uint8 (H, W, 3) at `time` seconds: it is shown as often as keeps the clip as long as the
        source, whose frames may come at any time; pauses become at most a second."""
        if picture.shape[1::-1] != self.size:  # a stream changed its resolution
            picture = cv2.resize(picture, self.size)  # type: ignore[assignment]
        picture = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)  # type: ignore[assignment]
        due = round((time - self.start) * self.rate) + 1 - self.count
        most = max(int(self.rate), 1)
        if due > most:
            self.start, due = self.start + (due - most) / self.rate, most
        for _ in range(due):
            self.writer.write(picture)
            self.count += 1

    def __enter__(self) -> Clip:
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.release()
        self.place.__exit__(None, None, None)


class CsvFile:
    """A row a face, and one with success 0 for a frame without a face; what could not be read has none.

    Raises PoposError where it cannot be written, or there is a file that is no such table.
    """

    def __init__(self, path: Path, scheme: Scheme) -> None:
        self.columns = csv_header(scheme)
        start = ",".join(self.columns[:6])
        if path.is_file() and path.stat().st_size:
            with path.open("rb") as file:
                if not file.readline().startswith(start.encode()):
                    raise PoposError(
                        f"{path} exists and is no table of popos predict", "Choose another file with --csv."
                    )
        self.file = opened(path)
        self.rows = csv.writer(self.file, lineterminator="\n")
        self.rows.writerow(self.columns)

    def write(self, result: Result) -> None:
        if not result.frame:
            return
        source, number, time = as_unicode(result.source.name), result.frame.number, result.frame.time or 0.0
        none = [source, number, 0, time, 0, 0, *[""] * (len(self.columns) - 6)]
        self.rows.writerows(csv_rows(result.faces, source, number, time) or [none])
        self.file.flush()

    def close(self) -> None:
        with suppress(OSError):  # a full disk: `write` has said so
            self.file.close()


def make_folder(folder: Path) -> None:
    """Raises PoposError where it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PoposError(
            f"cannot write {folder}: {error.strerror or error}", "Choose a folder you may write to."
        ) from None


def opened(path: Path) -> TextIO:
    """A new text file, in whose place nothing waits: what is written there is kept whatever happens."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("w", encoding="utf-8", errors="backslashreplace", newline="")
    except OSError as error:
        raise PoposError(
            f"cannot write {path}: {error.strerror or error}", "Choose a place you may write to."
        ) from None
