"""What each benchmark's file declares: its faces in the papers, its archives, and how its labels are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ..core.schemes import Scheme
from .archives import Archive
from .labels import Labels
from .tree import Tree


@dataclass(frozen=True)
class Benchmark:
    """splits: split -> faces, None where the number is published nowhere. subsets: of the split "test".

    archives: those of the download, and when each is no longer needed. wanted: what is looked for and where
    to get it, for a user who has none of it. read_raw: the labels of the official download below a folder,
    None where there are none; raises PoposError. parts: split -> folder of the raw download -> faces.
    optional: splits that are a download of their own and may be absent as a whole.
    """

    name: str
    scheme: Scheme
    splits: Mapping[str, int | None]
    archives: Sequence[Archive]
    wanted: str
    read_raw: Callable[[Tree], Labels | None]
    subsets: Mapping[str, int] = field(default_factory=dict)
    parts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    optional: frozenset[str] = frozenset()
