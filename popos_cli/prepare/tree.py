"""Finding things below a folder that nobody laid out for us."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from ..data.pictures import SUFFIXES

# Levels below a root that are searched: COFW's grey archive alone has six of its own.
DEPTH = 8


@dataclass(frozen=True)
class Tree:
    """Every folder below some roots, listed once: folder -> names of the files in it.

    Symbolic links to folders are followed; each real folder is listed once, as what it is where that
    lies below the root, else as the first link to it. Passed by: hidden folders, and the `._` files that
    macOS leaves beside others in archives and on foreign disks.
    """

    listing: dict[Path, list[str]] = field(default_factory=dict)

    @classmethod
    def below(cls, *roots: Path, depth: int | None = DEPTH) -> Tree:
        """A root may also be a file, which is then all there is. depth: levels that are searched."""
        listing: dict[Path, list[str]] = {}
        seen: set[str] = set()
        for root in roots:
            if root.is_file():
                listing.setdefault(root.parent, []).append(root.name)
                continue
            pending = [root]
            for top in pending:  # links to folders join while it is walked
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

    def files(self, pattern: str) -> Iterator[Path]:
        """Files whose whole name matches a pattern, whatever the case; the shallowest come first."""
        match = re.compile(pattern, re.IGNORECASE).fullmatch
        for folder in sorted(self.listing, key=lambda path: (len(path.parts), path)):
            yield from (folder / name for name in self.listing[folder] if match(name))

    def folders(self, *names: str) -> Iterator[Path]:
        """Folders whose path ends in these names, whatever the case; the shallowest come first."""
        wanted = tuple(name.lower() for name in names)
        for folder in sorted(self.listing, key=lambda path: (len(path.parts), path)):
            if tuple(part.lower() for part in folder.parts[-len(wanted) :]) == wanted:
                yield folder

    def pictures(self, folder: Path) -> Pictures:
        """The pictures in a listed folder and below it."""
        inside = (path for path in self.listing if path.is_relative_to(folder))
        return Pictures(folder, (path / name for path in inside for name in self.listing[path]))


class Pictures:
    """Resolves the names that label files give to pictures below a folder.

    As written; else whatever the case; else without spaces (300W's `image_092 _01.jpg`, which HRNet's
    and mmpose's labels spell without one); else with another known ending.
    """

    def __init__(self, folder: Path, files: Iterable[Path]) -> None:
        self.folder = folder
        pictures = (path for path in files if path.suffix.lower() in SUFFIXES)
        self._exact = {path.relative_to(folder).as_posix(): path for path in pictures}

    @cached_property
    def _near(self) -> list[tuple[Callable[[str], str], dict[str, Path]]]:
        """Each way to read a name and what it then finds, the closest way first."""
        near: list[tuple[Callable[[str], str], dict[str, Path]]] = []
        for looser in (str.lower, _spaceless, _endless):
            found: dict[str, Path] = {}
            for name, path in self._exact.items():
                found.setdefault(looser(name), path)
            near.append((looser, found))
        return near

    def __len__(self) -> int:
        return len(self._exact)

    def find(self, name: str) -> Path | None:
        """The picture that `name`, relative to the folder, means; None where there is none.

        A name that leaves the folder ("../x", an absolute path) means none.
        """
        name = PurePosixPath(name).as_posix()
        if name in self._exact:
            return self._exact[name]
        return next((found[key] for looser, found in self._near if (key := looser(name)) in found), None)


def _spaceless(name: str) -> str:
    return name.lower().replace(" ", "")


def _endless(name: str) -> str:
    stem, ending = posixpath.splitext(_spaceless(name))
    return stem if ending in SUFFIXES else stem + ending
