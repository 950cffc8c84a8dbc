"""Many pictures among several processes: each appends JSON lines to a file of its own, and what one of these
files has already is not done again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..processes.place import Place, own_place
from .entries import as_unicode, line
from .frames import Source
from .pipeline import Result
from .writers import make_folder

PATTERN = "part-*.jsonl"


def own_share(sources: Sequence[Source], folder: Path, weights: str) -> list[Source]:
    """The pictures that this process is to do: of those that no part in `folder` has, every `size`-th.

    What failed is tried again. Raises UsageError for a video, whose frames belong together, and where a part
    has results of other weights.
    """
    if videos := [source.name for source in sources if source.moving]:
        raise UsageError(f"--parts is for pictures, and {videos[0]} is none")
    place, done = own_place(), set()
    for path in sorted(folder.glob(PATTERN)):
        if place.main and not path.name.endswith(_ending(place)):
            _cut_torn_line(path)  # of an earlier run, of another number of processes
        for entry in _whole_lines(path):
            if entry["weights"] != weights:
                raise UsageError(
                    f"--parts {folder}: has results of weights {entry['weights']!r}", "Choose another folder."
                )
            done.add(entry["source"])
    own = sources[place.rank :: place.size]  # the same of every start, whatever the others have done by now
    return [source for source in own if as_unicode(source.name) not in done]


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The entries of a part that have no error, without lines that are torn or being written."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for text in file:
            with suppress(ValueError):
                if "error" not in (entry := json.loads(text)):
                    yield entry


def _ending(place: Place) -> str:
    return f"-of-{place.size:05d}.jsonl"


def _cut_torn_line(path: Path) -> None:
    """Remove what a process that was killed has left of its last line."""
    whole = path.read_bytes().rfind(b"\n") + 1
    if whole < path.stat().st_size:
        os.truncate(path, whole)


class Part:
    """The lines of one process. A line is in the file before the next picture is written."""

    def __init__(self, folder: Path, head: dict[str, Any]) -> None:
        make_folder(folder)
        place = own_place()
        self.head = head
        path = folder / f"part-{place.rank:05d}{_ending(place)}"
        path.touch()
        _cut_torn_line(path)
        self.file = path.open("ab")

    def write(self, result: Result) -> None:
        self.file.write(json.dumps(line(result, self.head)).encode() + b"\n")
        self.file.flush()

    def close(self) -> None:
        self.file.close()


def predict_on_gpus(gpus: int, sources: Sequence[Source], settings: dict[str, Any], folder: Path) -> int:
    """`predict_part` in as many processes, each on a GPU; returns how many pictures are not done after it.

    settings: of `Predictor`. Raises UsageError as `own_share`, and PoposError where there are fewer GPUs.
    """
    from ..core.device import pick_device
    from ..processes.launch import Workers, launch

    pick_device(gpus)
    own_share(sources, folder, settings["weights"])
    launch(Workers(gpus, gpus=True), predict_part, sources, settings, folder)
    return len(own_share(sources, folder, settings["weights"]))


def predict_part(place: Place, sources: Sequence[Source], settings: dict[str, Any], folder: Path) -> None:
    """What each of several processes on a machine's GPUs does."""
    from .predictor import Predictor
    from .run import Outputs, run_prediction

    predictor = Predictor(**settings, device=f"cuda:{place.local_rank}")
    head = {"weights": settings["weights"], "scheme": predictor.scheme.name}
    share = own_share(sources, folder, settings["weights"])
    with closing(run_prediction(predictor, share, Outputs(head, parts=folder))) as results:
        for _ in results:
            pass
