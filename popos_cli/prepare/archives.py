"""The archives of a download, each unpacked once below POPOS_HOME.

An archive is not trusted: nothing is written outside its folder, links and special files are skipped, and
number and size of its entries are bounded. The folder that it lies in is only read.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import IO

from ..errors import PoposError
from ..home import clear_leftovers, locked, new_folder
from .tree import Tree

MOST_ENTRIES = 1_000_000
# Photos hardly shrink and label files about tenfold; what claims more than this is a bomb.
MOST_GROWTH, SLACK = 50, 64 << 20  # times the archive's size, and bytes on top
_FORMAT = 1  # of what is unpacked; with another one everything is unpacked anew
_PATIENCE = 6 * 3600  # seconds that another process may take to unpack, for example COCO on a slow disk
_AGAIN = "Download it again from its official place."
# RuntimeError: it needs a password, or is compressed by an unknown method.
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, ValueError, RuntimeError)


@dataclass(frozen=True)
class Archive:
    """pattern: regular expression of an archive's whole name, case ignored; the parts of a split one have
    .001, .002, ... behind it. present: whether the tree already holds the content."""

    pattern: str
    present: Callable[[Tree], bool]


def unpack_missing(
    archives: Sequence[Archive], tree: Tree, target: Path, announce: Callable[[str], None]
) -> Tree:
    """The tree, extended by the content of those archives in it whose content it lacks.

    An archive is unpacked to `target`/KEY/NAME, NAME without its ending: afw.zip may or may not have a folder
    afw/ inside. `announce` is called with its name before the work. Raises PoposError.
    """
    for archive in archives:
        first = next(tree.files(rf"(?:{archive.pattern})(?:\.\d{{3}})?"), None)
        if first and not archive.present(tree):
            folder = _unpacked(first, target, announce)
            tree = Tree({**tree.listing, **Tree.below(folder).listing})
    return tree


def _unpacked(first: Path, target: Path, announce: Callable[[str], None]) -> Path:
    """The folder of an archive's content. first: its file, or any part of a split one."""
    split = re.fullmatch(r"\.\d{3}", first.suffix) is not None
    path = first.with_suffix("") if split else first
    is_part = re.compile(rf"{re.escape(path.name)}\.\d{{3}}", re.IGNORECASE).fullmatch
    parts = sorted(p for p in path.parent.iterdir() if is_part(p.name)) if split else [path]
    for number, part in enumerate(parts if split else (), start=1):
        if int(part.suffix[1:]) != number:
            missing = f"{path}.{number:03d}"
            raise PoposError(f"{missing}: this part of the split archive is missing", _AGAIN)
    name = re.sub(r"(\.tar)?\.\w+$", "", path.name)

    def unpack(folder: Path) -> None:
        announce(path.name)
        with tempfile.TemporaryFile(dir=folder) if split else path.open("rb") as source:
            for part in parts if split else ():
                with part.open("rb") as file:
                    shutil.copyfileobj(file, source)
            _unpack(f"{path} ({len(parts)} parts)" if split else str(path), source, folder / name)

    return extract_once(parts, target, unpack) / name


def extract_once(sources: Sequence[Path], target: Path, extract: Callable[[Path], None]) -> Path:
    """The folder `target`/KEY with what `extract` writes into it, whole or not at all.

    KEY is a hash of names, sizes and times of the source files: other files of these names get another
    folder, so that the pictures of an earlier index stay. What is there already is used as it is, and of
    several processes one works while the others wait. Raises PoposError.
    """
    try:
        files = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in sources]
        folder = target / hashlib.sha256(repr((_FORMAT, files)).encode()).hexdigest()[:8]
        if folder.exists():
            return folder
        with locked(target, _PATIENCE) as held:
            clear_leftovers(target, held)
            if not folder.exists():
                with suppress(FileExistsError), new_folder(folder) as temporary:
                    extract(temporary)
    except OSError as error:
        raise PoposError(
            f"cannot unpack {sources[0]} to {target}: {error.strerror or error}",
            "Set POPOS_HOME to a folder on a disk with enough room that you may write to.",
        ) from error
    return folder


def _unpack(label: str, source: IO[bytes], folder: Path) -> None:
    """Write the files of a zip, a tar or a tar.gz; its first bytes say which it is, not its name.

    label: the archive in messages. Raises PoposError, and OSError where the disk does not take a file.
    """
    room = source.seek(0, 2) * MOST_GROWTH + SLACK
    source.seek(0)
    head = source.read(512)
    source.seek(0)
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype", b"<html")):
        what = "is an HTML page, not an archive: the download form or a login page was saved"
        raise PoposError(f"{label} {what}", "Download it again in a browser.")
    entries = _zip_entries(source) if head.startswith(b"PK") else _tar_entries(source, head)
    try:
        for number, (name, size, content) in enumerate(entries, start=1):
            room -= size
            if number > MOST_ENTRIES or room < 0:
                most = f"more than {MOST_ENTRIES} entries, or {MOST_GROWTH} times its size when unpacked"
                raise PoposError(f"{label}: {most}; nothing was unpacked", _AGAIN)
            inside = PureWindowsPath(name)  # on every system: some Windows tools write backslashes
            if inside.anchor or ".." in inside.parts:
                leaves = f"its entry {name!r} would leave the folder that it is unpacked to"
                raise PoposError(f"{label}: {leaves}; nothing was unpacked", _AGAIN)
            if content:
                file = folder / inside.as_posix()
                file.parent.mkdir(parents=True, exist_ok=True)
                with file.open("wb") as written:
                    shutil.copyfileobj(content, written, 1 << 20)
                    if written.tell() != size:
                        raise EOFError(f"{name!r} has {written.tell()} bytes instead of {size}")
    except (*_BROKEN, OSError) as error:
        # gzip has OSErrors of its own for bad bytes; only the system's have a number.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = " ".join(str(error).split())
        raise PoposError(f"{label}: the archive is broken or cut short: {reason}", _AGAIN) from error


_Entry = tuple[str, int, IO[bytes] | None]  # name, bytes when unpacked, content of a file


def _zip_entries(source: IO[bytes]) -> Iterator[_Entry]:
    """zipfile checks each entry's CRC. Of a link it gives the path that it points to, as any file's bytes."""
    with zipfile.ZipFile(source) as archive:
        for entry in archive.infolist():
            with archive.open(entry) as content:
                yield entry.filename, entry.file_size, None if entry.is_dir() else content


def _tar_entries(source: IO[bytes], head: bytes) -> Iterator[_Entry]:
    """In one pass; only regular files have content here, no links and no devices."""
    stream = gzip.GzipFile(fileobj=source) if head.startswith(b"\x1f\x8b") else source
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            yield member.name, member.size, archive.extractfile(member) if member.isreg() else None
    while stream.read(1 << 20):  # to the end, where gzip has its checksum
        pass
