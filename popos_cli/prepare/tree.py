"""Finding things below a folder that nobody laid out for us."""

from __future__ import annotations

import os
import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ..data.pictures import SUFFIXES

# Levels below a root that are searched: COFW's grey archive alone has six of its own.
DEPTH = 8


@dataclass(frozen=True)
class Tree:
    """Every folder below a root, listed once: folder -> names of the files in it.

    Links to folders are followed; a folder that lies below the root itself is listed under its own path,
    another one under that of the first link to it. Skipped: hidden folders, and the `._` files that macOS
    leaves in archives and on foreign disks.
    """

    listing: dict[Path, list[str]] = field(default_factory=dict)

    @classmethod
    def below(cls, root: Path, depth: int | None = DEPTH) -> Tree:
        """The root may also be a file, which is then all there is. depth: levels that are searched."""
        if root.is_file():
            return cls({root.parent: [root.name]})
        listing: dict[Path, list[str]] = {}
        seen: set[str] = set()
        pending = [root]
        for top in pending:  # grows by the links to folders
            for folder, folders, files in os.walk(top):
                path, real = Path(folder), os.path.realpath(folder)
                if real in seen:
                    folders.clear()
                    continue
                seen.add(real)
                listing[path] = sorted(name for name in files if not name.startswith("._"))
                deep = depth is not None and len(path.parts) - len(root.parts) >= depth
                folders[:] = [] if deep else sorted(f for f in folders if not f.startswith("."))
                pending += [path / f for f in folders if (path / f).is_symlink()]
        return cls(listing)

    @property
    def root(self) -> Path:
        return next(iter(self.listing))

    def files(self, pattern: str) -> Iterator[Path]:
        """Files whose whole name matches a pattern, case ignored; the shallowest come first."""
        match = re.compile(pattern, re.IGNORECASE).fullmatch
        for folder in sorted(self.listing, key=_depth):
            yield from (folder / name for name in self.listing[folder] if match(name))

    def folders(self, *names: str) -> Iterator[Path]:
        """Folders whose path ends in these names, case ignored; the shallowest come first."""
        wanted = tuple(name.lower() for name in names)
        for folder in sorted(self.listing, key=_depth):
            if tuple(part.lower() for part in folder.parts[-len(wanted) :]) == wanted:
                yield folder

    def folders_like(self, pattern: str, below: Path | None = None) -> Iterator[Path]:
        """Folders whose path (or what of it lies below a folder) ends in names that match a pattern, case
        ignored; the shallowest come first."""
        match = re.compile(rf"(?:.*/)?(?:{pattern})", re.IGNORECASE).fullmatch
        for folder in sorted(self.listing, key=_depth):
            inside = below is None or folder.is_relative_to(below)
            if inside and match((folder.relative_to(below) if below else folder).as_posix()):
                yield folder

    def pictures(self, folder: Path) -> Pictures:
        """The pictures in a listed folder and below it."""
        inside = (path for path in self.listing if path.is_relative_to(folder))
        return Pictures(folder, (path / name for path in inside for name in self.listing[path]))


def _depth(path: Path) -> tuple[int, Path]:
    return len(path.parts), path


class Pictures:
    """Finds the pictures below a folder by the names that label files give them.

    As written; else with case ignored; else without spaces (300W's `image_092 _01.jpg`, which HRNet's
    and mmpose's labels spell without one); else with another known ending.
    """

    def __init__(self, folder: Path, files: Iterable[Path]) -> None:
        self.folder = folder
        self._names: dict[str, list[str]] = defaultdict(list)  # loosest spelling -> names
        for path in files:
            if path.suffix.lower() in SUFFIXES:
                name = path.relative_to(folder).as_posix()
                self._names[_loosest(name)].append(name)

    def __len__(self) -> int:
        return sum(map(len, self._names.values()))

    def find(self, name: str) -> Path | None:
        """The picture of that name, relative to the folder; None where there is none, and for a name that
        leaves the folder ("../x", an absolute path)."""
        name = PurePosixPath(name).as_posix()
        spellings = (str, str.lower, _without_spaces)
        near = self._names.get(_loosest(name), ())
        best = min(near, key=lambda n: [spell(n) != spell(name) for spell in spellings], default=None)
        return None if best is None else self.folder / best

    def place(self, name: str) -> Path:
        """As `find`, or where the picture should be: below the folder, whatever the name."""
        return self.find(name) or self.folder / name.replace("..", "__").lstrip("/")


def _without_spaces(name: str) -> str:
    return name.lower().replace(" ", "")


def _loosest(name: str) -> str:
    stem, ending = posixpath.splitext(_without_spaces(name))
    return stem if ending in SUFFIXES else stem + ending


def find_pictures(tree: Tree, names: Iterable[str], likely: Sequence[Path]) -> Pictures:
    """The pictures below the folder that has most of `names`: one of `likely` or any in the tree.

    Of equals the earlier of `likely` wins, then the shallowest; the first of `likely` where no folder has
    any of them.
    """
    wanted: dict[str, set[tuple[str, ...]]] = defaultdict(set)  # file -> the folders before it in a name
    for name in names:
        *folders, file = PurePosixPath(_loosest(name)).parts or ("",)
        wanted[file].add(tuple(folders))
    scores: Counter[Path] = Counter()
    for folder, files in tree.listing.items():
        parts = tuple(map(_without_spaces, folder.parts))
        for above in (above for file in files for above in wanted.get(_loosest(file), ())):
            if parts[len(parts) - len(above) :] == above:
                scores[folder.parents[len(above) - 1] if above else folder] += 1
    candidates = (*likely, *sorted(scores, key=_depth))
    return tree.pictures(max(candidates, key=lambda folder: scores[folder]))


def places(
    tree: Tree, names: Sequence[str], likely: Sequence[Path], group: Callable[[str], str] = lambda name: ""
) -> list[Path]:
    """The picture of each name, or where it should be. The names of one group lie below one folder."""
    groups: dict[str, set[str]] = defaultdict(set)
    for name in names:
        groups[group(name)].add(name)
    pictures = {key: find_pictures(tree, own, likely) for key, own in groups.items()}
    return [pictures[group(name)].place(name) for name in names]
