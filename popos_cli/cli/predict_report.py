"""What the terminal sees of `popos predict`: JSON, or a line a picture or video; progress, a summary."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from ..errors import INTERRUPTED, PoposError
from . import console

if TYPE_CHECKING:
    from ..predict.face import Face
    from ..predict.frames import Source
    from ..predict.pipeline import Result
    from ..predict.run import Outputs


class Report:
    """verbose: every landmark is printed. quiet: stdout is for JSON."""

    def __init__(self, sources: Sequence[Source], outputs: Outputs, verbose: bool, quiet: bool) -> None:
        self.sources, self.outputs, self.verbose, self.quiet = sources, outputs, verbose, quiet
        self.pictures = self.frames = self.faces = self.errors = 0
        self.video: Source | None = None
        self.with_faces = self.before = 0  # frames of this video with a face; frames before it
        self.began = time.monotonic()

    def show(self, results: Generator[Result, None, None], as_json: bool, as_lines: bool) -> int:
        """Print the results as they are found, as one JSON document or as JSON lines where that is asked for;
        returns the exit code. Ctrl-C keeps what is done."""
        from ..predict.entries import entry, line

        document = console.JsonList("images") if as_json and not as_lines else None
        interruption = None
        try:
            with one_interrupt(), closing(results), self.progress():
                for result in results:
                    self.add(result)
                    if document:
                        document.add(entry(result))
                    elif as_lines:
                        console.print_json(line(result, self.outputs.head))
        except KeyboardInterrupt:
            interruption = PoposError("interrupted", "What was done until then is kept.")
        if document:
            error = {"message": interruption.message, "hint": interruption.hint} if interruption else None
            document.end(self.outputs.head | ({"error": error} if error else {}))
        self.summarise()
        if interruption:
            console.fail(interruption, as_json=False)
            raise SystemExit(INTERRUPTED)  # the app would report a typer.Exit of this code again
        return int(self.errors > 0)

    @contextmanager
    def progress(self) -> Iterator[None]:
        """A progress bar while the block runs, for more than one picture or frame; none beside JSON on the
        same terminal."""
        self.advance: Callable[[int], None] | None = None
        lengths = [s.length() for s in self.sources] if console.stderr.is_terminal else [1]
        total = None if None in lengths else sum(filter(None, lengths))
        if total == 1 or (self.quiet and console.stdout.is_terminal):
            yield
        else:
            with console.progress_bar("predicting") as (bar, task):
                bar.update(task, total=total)
                self.advance = lambda done: bar.update(task, completed=done, extra=f"{self.rate(done):.1f}/s")
                yield
        self._end_video()

    def add(self, result: Result) -> None:
        if result.source is not self.video:
            self._end_video()
            if result.source.moving:
                self.video, self.before, self.with_faces = result.source, self.frames, 0
        if result.frame and result.source.moving:
            self.frames += 1
            self.with_faces += bool(result.faces)
        elif result.frame:
            self.pictures += 1
        self.faces += len(result.faces)
        if result.error:
            self.errors += 1
            console.note(f"error: {result.error}")
        elif not self.quiet and (self.verbose or not result.source.moving):
            self._print(result)
        if self.advance:
            self.advance(self.pictures + self.frames)

    def rate(self, done: int) -> float:
        return done / (time.monotonic() - self.began)

    def _print(self, result: Result) -> None:
        name, frame = result.source.name, result.frame
        if frame and frame.time is not None:
            name = f"{name} frame {frame.number} ({frame.time:.2f} s)"
        console.line(f"{name}: {_count(len(result.faces), 'face') if result.faces else 'no face found'}")
        if self.verbose:
            for number, face in enumerate(result.faces, start=1):
                _print_face(number, face, result.faces.scheme.groups)

    def _end_video(self) -> None:
        count = self.frames - self.before
        if self.video and count and not self.quiet:
            console.line(f"{self.video.name}: {_count(count, 'frame')}, faces in {self.with_faces}")
        self.video = None

    def summarise(self) -> None:
        """One line of how many and how long, and where the files are; beside JSON only on a terminal."""
        done = self.pictures + self.frames
        if self.quiet and not console.stderr.is_terminal:
            return
        if done + self.errors > 1:
            seconds = time.monotonic() - self.began
            parts = [_count(n, what) for n, what in ((self.pictures, "picture"), (self.frames, "frame")) if n]
            parts += [_count(self.faces, "face"), *[_count(self.errors, "error")] * bool(self.errors)]
            console.note(f"{', '.join(parts)} in {seconds:.1f} s ({self.rate(done):.1f} per second)")
        if self.outputs.folder and done:
            console.note(f"overlays and JSON: {self.outputs.folder}")


@contextmanager
def one_interrupt() -> Iterator[None]:
    """Within the block only the first Ctrl-C counts: a second one must not hinder completing the files."""

    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # else it is ignored, or the caller's own
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _print_face(number: int, face: Face, groups: dict[str, tuple[int, ...]]) -> None:
    x, y, w, h = face.box
    name = number if face.id is None else face.id
    console.line(f"  face {name}: box {x:.0f},{y:.0f},{w:.0f},{h:.0f}  mean score {face.scores.mean():.2f}")
    for group, indices in groups.items():
        points = " ".join(f"{px:.1f},{py:.1f}" for px, py in face.points[list(indices)])
        console.line(f"    {group + ':':<13} {points}")
