"""Archives of a download, unpacked below POPOS_HOME once: which there are, and where they go."""

from __future__ import annotations

import hashlib
import io
import os
import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from ..errors import PoposError
from ..home import clear_leftovers, locked, new_folder
from .tree import Tree
from .unpacking import ELSEWHERE, unpack

_FORMAT = 1  # of what is unpacked; with another one an archive is unpacked anew
_PATIENCE = 6 * 3600  # seconds that another process may take to unpack, COCO on a slow disk for one


@dataclass(frozen=True)
class Archive:
    """pattern: regular expression of an archive's whole name, whatever the case; the parts of a split
    one have .001, .002, ... behind it. present: whether its content already lies unpacked in the tree."""

    pattern: str
    present: Callable[[Tree], bool]


def unpack_missing(
    archives: Sequence[Archive], tree: Tree, target: Path, told: Callable[[str], None] | None = None
) -> Tree:
    """The tree, and in it what those archives hold that lie in it and whose content does not.

    An archive is unpacked to `target`/a hash of its name, size and time/its name without the ending
    (afw.zip may or may not have a folder afw/ of its own), whole or not at all, and used again; another
    archive of that name gets another folder, so that the pictures of an earlier index stay as they are.
    Each archive in turn sees what the ones before it gave. `told` is given an archive's name
    before the work. Raises PoposError for one that is broken, no archive at all, not to be trusted, or
    too big for the disk.
    """
    for archive in archives:
        parts = [] if archive.present(tree) else _find(archive.pattern, tree)
        if parts:
            folder = _unpacked(parts, target, told)
            tree = Tree({**tree.listing, **Tree.below(folder).listing})
    return tree


def _find(pattern: str, tree: Tree) -> list[Path]:
    """The shallowest archive of that name: its file, or its parts in order; [] where there is none.

    Raises PoposError naming a part that is missing between others.
    """
    path = next(tree.files(rf"(?:{pattern})(?:\.\d{{3}})?"), None)
    if path is None:
        return []
    if not _is_part(path):
        return [path]
    is_part = re.compile(rf"{re.escape(path.stem)}\.(\d{{3}})", re.IGNORECASE).fullmatch
    # From the disk: a tree of a single file does not have the others.
    matches = map(is_part, os.listdir(path.parent))
    parts = {int(match[1]): path.with_name(match[0]) for match in matches if match}
    for number in range(1, max(parts)):
        if number not in parts:
            raise PoposError(
                f"{path.with_suffix(f'.{number:03d}')}: this part of the split archive is missing",
                f"Put all parts of {path.stem} into one folder.",
            )
    return [parts[number] for number in sorted(parts)]


def _is_part(path: Path) -> bool:
    return bool(re.fullmatch(r"\.\d{3}", path.suffix))


def _unpacked(parts: Sequence[Path], target: Path, told: Callable[[str], None] | None) -> Path:
    """The folder of an archive that was unpacked now or earlier; raises PoposError."""
    path = parts[0].with_suffix("") if _is_part(parts[0]) else parts[0]
    label = str(path) if path == parts[0] else f"{path} (parts {parts[0].suffix} to {parts[-1].suffix})"
    name = re.sub(r"(\.tar)?\.\w+$", "", path.name)
    try:
        stats = [(part.name, part.stat()) for part in parts]
        files = [(part, stat.st_size, stat.st_mtime_ns) for part, stat in stats]
        home = target / hashlib.sha256(repr((_FORMAT, files)).encode()).hexdigest()[:8]
        folder = home / name
        if folder.exists():  # it got its name once it was whole
            return folder
        if told:
            told(path.name)
        with locked(target, _PATIENCE) as held:
            if folder.exists():  # another process was quicker
                return folder
            clear_leftovers(target, held)
            with (
                suppress(FileExistsError),
                io.BufferedReader(_Joined(parts), 1 << 16) as source,
                new_folder(folder, beside=target / name) as temporary,
            ):
                unpack(label, source, temporary)
    except OSError as error:
        reason = error.strerror or str(error)
        raise PoposError(f"cannot unpack {label} to {target}: {reason}", ELSEWHERE) from error
    return folder


class _Joined(io.RawIOBase):
    """The parts of a split file as one file, for reading."""

    def __init__(self, parts: Sequence[Path]) -> None:
        self._at = 0
        self._starts = [0, *accumulate(part.stat().st_size for part in parts)]
        self._files: list[io.FileIO] = []
        try:
            for part in parts:
                self._files.append(part.open("rb", buffering=0))
        except OSError:
            self.close()
            raise

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        at = (0, self._at, self._starts[-1])[whence] + offset
        if at < 0:
            raise OSError("seeking before the start")
        self._at = at
        return at

    def readinto(self, buffer: Any) -> int:
        part = bisect_right(self._starts, self._at) - 1
        if part == len(self._files):
            return 0
        file = self._files[part]
        file.seek(self._at - self._starts[part])
        count = file.readinto(buffer) or 0
        self._at += count
        return count

    def close(self) -> None:
        for file in self._files:
            file.close()
        super().close()
