"""Published figures (published.toml) beside ours."""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from importlib import resources
from math import log2
from typing import Any

from ..data.index import Index
from ..data.partial import shortfall
from ..prepare.benchmarks import BENCHMARKS

# The decoders that continue KeyPosS: its figures are those to compare them with.
MULTILATERATION = ("gauss-newton", "popos", "ml")


@dataclass(frozen=True)
class PublishedFigure:
    """nme in percent. subset: "full" for the whole of split test, "private" for 300W's split.
    decoder: the one of ours that reads heatmaps by the same rule, None where there is none."""

    benchmark: str
    subset: str
    method: str
    resolution: int
    nme: float
    citation: str
    decoder: str | None = None


@functools.cache
def published_figures() -> tuple[PublishedFigure, ...]:
    """All of published.toml, in its order."""
    text = resources.files(__package__).joinpath("published.toml").read_text(encoding="utf-8")
    data = tomllib.loads(text)
    return tuple(PublishedFigure(citation=data["citation"][row.pop("source")], **row) for row in data["row"])


def published_by_resolution(benchmark: str) -> list[PublishedFigure]:
    """The figures of papers that compare resolutions: on that benchmark, or on WFLW where there are none."""
    whole = [row for row in published_figures() if row.subset == "full" and row.decoder]
    papers = {row.citation for row in whole if row.resolution < 64}
    rows = [row for row in whole if row.citation in papers]
    if all(row.benchmark != benchmark for row in rows):
        benchmark = "wflw"
    return [row for row in rows if row.benchmark == benchmark]


def nearest(benchmark: str, subset: str, resolution: int, decoder: str) -> PublishedFigure | None:
    """The published figure to compare a result with, None where nothing of that subset is published.

    Among those of the nearest resolution (in octaves) the one of the same decoder, for our own
    multilateration decoders KeyPosS, else the best.
    """
    same = [row for row in published_figures() if (row.benchmark, row.subset) == (benchmark, subset)]
    if not same:
        return None
    octaves = [abs(log2(row.resolution / resolution)) for row in same]
    near = [row for row, distance in zip(same, octaves, strict=True) if distance == min(octaves)]
    wanted = "keyposs" if decoder in MULTILATERATION else decoder
    alike = [row for row in near if row.decoder == wanted]
    return min(alike or near, key=lambda row: row.nme)


def nearest_published(
    index: Index, subset: str | None, resolution: int, decoder: str, faces: int, nme: float
) -> dict[str, Any] | None:
    """The nearest published figure as evaluate's JSON has it, with ours minus theirs in percentage points.

    `index` holds the faces of one split; subset None: all of them. None where the data or the split are not
    an official benchmark's, or nothing is published. "remark" says why the two cannot be compared, None
    where they can: the faces must be those of the papers, all of them.
    """
    benchmark, split = str(index.notes.get("benchmark")), str(index.split[0])
    name = {"test": subset or "full", "private": "private"}.get(split)
    row = nearest(benchmark, name, resolution, decoder) if benchmark in BENCHMARKS and name else None
    if row is None:
        return None
    protocol = BENCHMARKS[row.benchmark]
    expected = protocol.subsets.get(subset) if subset else protocol.splits[split]
    remark = None
    if expected is None and split not in index.notes.get("whole", ()):
        remark = "not known to be all of the data: not comparable"
    elif expected is not None and faces != expected:
        partial = "partial, " if shortfall(index, split) else ""
        remark = f"{partial}{faces} of {expected} faces: not comparable"
    return {
        "nme": row.nme, "method": row.method, "resolution": row.resolution, "decoder": row.decoder,
        "citation": row.citation, "difference": nme - row.nme, "remark": remark,
    }  # fmt: skip
