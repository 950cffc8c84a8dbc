"""What comes out of one archive, which is a stranger's and not trusted.

Zip and tar, the latter plain or packed by gzip, bzip2 or xz, told apart by their first bytes. Only
pictures and label files are written, only below the folder, no more than announced, never as links.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import posixpath
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

from ..data.pictures import SUFFIXES
from ..errors import PoposError

MOST_ENTRIES = 1_000_000
# Photos hardly shrink and label files about tenfold; what promises more than this is a bomb.
MOST_GROWTH, SLACK = 50, 64 << 20
ELSEWHERE = (
    "Set POPOS_HOME to a folder on a disk with enough room that you may write to, "
    "or unpack the archive yourself where it lies."
)
_WANTED = SUFFIXES | {".pts", ".txt", ".mat", ".json", ".csv"}
_AGAIN = "Download it again from its official place."
_BROKEN = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error,
    EOFError, ValueError, NotImplementedError, RecursionError,
)  # fmt: skip
# Headers of any length, for long names and other fields.
_LONG = (
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)  # fmt: skip
# First bytes -> opener of what a tar may be packed in.
_PACKERS: dict[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open,
}  # fmt: skip


def unpack(label: str, source: IO[bytes], folder: Path) -> None:
    """Write the wanted entries of an archive, open as `source`, below an empty folder.

    label: what errors call it. Raises PoposError for one that is broken, no archive, not to be trusted or too
    big for the disk, OSError where a file cannot be read or written; what was written till then stays.
    """
    size = source.seek(0, io.SEEK_END)
    source.seek(0)
    head = source.read(1024)
    source.seek(0)
    _check_head(label, head)
    bounds = _Bounds(label, size * MOST_GROWTH + SLACK, shutil.disk_usage(folder).free)
    try:
        if head.startswith(b"PK"):
            _unzip(source, folder, bounds)
        else:
            opener = next((opener for magic, opener in _PACKERS.items() if head.startswith(magic)), None)
            _untar(opener(source) if opener else source, folder, bounds)
    except (*_BROKEN, OSError) as error:
        # gzip and bz2 have OSErrors of their own for bad bytes; only the system's have a number.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = " ".join(str(error).split())
        raise PoposError(f"{label}: the archive is broken or cut short: {reason}", _AGAIN) from error


def _check_head(label: str, head: bytes) -> None:
    """Raises PoposError where the first bytes of a file are no archive's."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not head:
        raise PoposError(f"{label}: the file is empty", _AGAIN)
    if text.startswith((b"<!doctype", b"<html")):
        raise PoposError(
            f"{label} is an HTML page, not an archive: the download form or a login page was saved",
            "Download it again in a browser.",
        )
    if not head.startswith((b"PK", *_PACKERS)) and head[257:262] != b"ustar":
        raise PoposError(f"{label}: neither a zip nor a tar archive", _AGAIN)


@dataclass
class _Bounds:
    """What an archive may still do. limit, free, size: bytes when unpacked, left on the disk, used."""

    label: str
    limit: int
    free: int
    size: int = field(default=0, init=False)
    entries: int = field(default=0, init=False)

    def place(self, name: str, folder: Path) -> Path | None:
        """Where the entry of that name goes; None where nobody needs it. Raises PoposError for one that
        would leave the folder, and for too many."""
        self.entries += 1
        if self.entries > MOST_ENTRIES:
            raise self.refusal(f"it has more than {MOST_ENTRIES} entries")
        parts = _parts(name)
        if parts is None:
            raise self.refusal(f"its entry {name!r} would leave the folder that it is unpacked to")
        # Hidden ones are macOS' or a version control's; a name that does not print is no picture's.
        odd = any(part.startswith(".") or part == "__MACOSX" for part in parts) or not name.isprintable()
        wanted = parts and not odd and posixpath.splitext(parts[-1])[1].lower() in _WANTED
        return folder.joinpath(*parts) if wanted else None

    def take(self, size: int) -> None:
        """Claim room for a file; raises PoposError where it has none."""
        self.size += size
        self.check(self.size)
        if self.size > self.free:
            raise PoposError(
                f"{self.label}: at least {self.size / 1e6:.0f} MB when unpacked, "
                f"but only {self.free / 1e6:.0f} MB are free; nothing was unpacked",
                ELSEWHERE,
            )

    def check(self, size: int) -> None:
        if size > self.limit:
            raise self.refusal(f"it would unpack to more than {MOST_GROWTH} times its size")

    def refusal(self, why: str) -> PoposError:
        return PoposError(f"{self.label}: {why}; nothing was unpacked", _AGAIN)


def _parts(name: str) -> tuple[str, ...] | None:
    """The folders and the name that an entry's name means below a folder, None where it leaves that.

    Backslashes, which some Windows tools write, separate like slashes.
    """
    name = name.replace("\\", "/")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    leaves = name.startswith("/") or any(part == ".." or re.match("[A-Za-z]:", part) for part in parts)
    return None if leaves else parts


def _unzip(source: IO[bytes], folder: Path, bounds: _Bounds) -> None:
    """Of two entries of one name the last counts; symbolic links are passed by."""
    with zipfile.ZipFile(source) as archive:
        chosen: dict[Path, zipfile.ZipInfo] = {}
        for entry in archive.infolist():
            path = bounds.place(entry.filename, folder)
            if path and not entry.is_dir() and not stat.S_ISLNK(entry.external_attr >> 16):
                chosen[path] = entry
        for entry in chosen.values():
            if entry.flag_bits & 1:
                raise PoposError(
                    f"{bounds.label}: the archive is encrypted: {entry.filename!r} needs a password",
                    "Unpack it yourself, with its password, in the same folder.",
                )
            # zipfile unpacks bzip2 and LZMA without a bound on memory.
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise PoposError(
                    f"{bounds.label}: packed by a method that is not read here ({entry.compress_type})",
                    "Unpack it yourself (7-Zip) in the same folder.",
                )
            bounds.take(entry.file_size)
        for path, entry in chosen.items():
            with archive.open(entry) as data:
                _write(data, path, entry.file_size)


def _untar(source: IO[bytes], folder: Path, bounds: _Bounds) -> None:
    """In one pass, so the bounds are checked on the way. Links inside the archive become copies; devices
    and links that point out of it are refused, as tarfile's data filter does."""
    links: list[tuple[Path, Path]] = []
    stream = io.BufferedReader(_Bounded(source, bounds), 1 << 16)
    with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Header, bufsize=1 << 16) as archive:
        for member in archive:
            path = bounds.place(member.name, folder)
            if member.issym() or member.islnk():
                aim = _aim(member)
                if aim is None:
                    raise bounds.refusal(
                        f"its entry {member.name!r} is a link out of it, {member.linkname!r}"
                    )
                if path:
                    links.append((path, folder.joinpath(*aim)))
            elif member.isreg():
                data = archive.extractfile(member) if path else None
                if path and data:
                    bounds.take(member.size)
                    _write(data, path, member.size)
            elif not member.isdir():
                raise bounds.refusal(f"its entry {member.name!r} is a device or another special file")
    while stream.read(1 << 20):  # to the end, where gzip has its checksum
        pass
    for path, original in links:
        if original.is_file() and original != path:
            bounds.take(original.stat().st_size)
            with original.open("rb") as data:
                _write(data, path, original.stat().st_size)


def _aim(link: tarfile.TarInfo) -> tuple[str, ...] | None:
    """What a link means below the folder, None where it leaves that; a hard link counts from the top."""
    start = posixpath.dirname(link.name) if link.issym() else ""
    return _parts(posixpath.normpath(posixpath.join(start, link.linkname.replace("\\", "/"))))


class _Header(tarfile.TarInfo):
    """tarfile takes whatever follows the first header and is none for the end; only zeros are."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if buf == bytes(tarfile.BLOCKSIZE):
                raise
            raise tarfile.ReadError(str(error)) from None
        if header.type in _LONG and header.size > 1 << 20:  # tarfile reads it as a whole
            raise tarfile.ReadError(f"a header of {header.size} bytes")
        return header


class _Bounded(io.RawIOBase):
    """A tar's stream. Whatever comes out of it counts: entries that are skipped and headers, too."""

    def __init__(self, stream: IO[bytes], bounds: _Bounds) -> None:
        self._stream, self._bounds, self._given = stream, bounds, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        self._given += len(data)
        self._bounds.check(self._given)
        return len(data)


def _write(data: IO[bytes], path: Path, size: int) -> None:
    """Copy an entry; zipfile and tarfile give no more of it than announced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        shutil.copyfileobj(data, file, 1 << 20)
        if file.tell() != size:
            raise EOFError(f"{path.name!r} has {file.tell()} bytes instead of {size}")
