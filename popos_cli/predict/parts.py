"""Many pictures among several processes: each appends JSON lines to a file of its own, and what one of these
files has already is not done again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..processes.place import Place, own_place
from .entries import as_unicode, line
from .frames import Source
from .pipeline import Result
from .writers import make_folder

PATTERN = "part-*.jsonl"


def own_share(sources: Sequence[Source], folder: Path) -> list[Source]:
    """The pictures that this process is to do: of those that no part in `folder` has, every `size`-th.

    What failed is tried again. Raises UsageError for a video: its frames belong together.
    """
    if videos := [source.name for source in sources if source.moving]:
        raise UsageError(f"--parts is for pictures, and {videos[0]} is none")
    done = {entry["source"] for path in folder.glob(PATTERN) for entry in _whole_lines(path)}
    place = own_place()
    own = sources[place.rank :: place.size]  # the same of every start, whatever the others have done by now
    return [source for source in own if as_unicode(source.name) not in done]


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The entries of a part that have no error, without a line that is torn or being written."""
    with path.open(encoding="utf-8") as file:
        for text in file:
            if text.endswith("\n") and "error" not in (entry := json.loads(text)):
                yield entry


class Part:
    """The lines of one process. A line is in the file before the next picture is written."""

    def __init__(self, folder: Path, head: dict[str, Any]) -> None:
        make_folder(folder)
        place = own_place()
        self.head = head
        path = folder / f"part-{place.rank:05d}-of-{place.size:05d}.jsonl"
        self.file = path.open("ab")
        whole = path.read_bytes().rfind(b"\n") + 1
        self.file.truncate(whole)  # a killed process left a torn line

    def write(self, result: Result) -> None:
        self.file.write(json.dumps(line(result, self.head)).encode() + b"\n")
        self.file.flush()

    def close(self) -> None:
        self.file.close()


def predict_part(place: Place, sources: Sequence[Source], options: dict[str, Any], folder: Path) -> int:
    """What each of several processes on a machine's GPUs does. options: of `Predictor`. Returns the number of
    errors."""
    from .predictor import Predictor
    from .run import Outputs, run_prediction

    predictor = Predictor(**options, device=f"cuda:{place.local_rank}")
    head = {"weights": options["weights"], "scheme": predictor.scheme.name}
    with closing(
        run_prediction(predictor, own_share(sources, folder), Outputs(head, parts=folder))
    ) as results:
        return sum(result.error is not None for result in results)
