"""POPOS_HOME (indexes, copies of pixels, converted weights, the registry of roots and runs), and writing
files and run folders safely.

Several processes and machines may share it. Every file is written under a temporary name and renamed once it
is complete, so that no reader meets half a file, with locks or without. Locks only keep two processes from
doing the same work, or from losing each other's entries.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import platform
import re
import secrets
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import platformdirs

from .errors import PoposError

T = TypeVar("T")

# Notes for the user that are no failure; the command line prints them on stderr.
_log = logging.getLogger(__name__)
# Stands for a home folder that cannot be reached: nothing is there, and nothing can be written there.
_UNREACHABLE = Path(os.devnull) / "unreachable POPOS_HOME"
# In the names of temporaries: locks on a network disk may hold within one machine only.
_MACHINE = f"{zlib.crc32(platform.node().encode()):08x}"
TEMPORARY = re.compile(r"\..+\.(?P<token>[0-9a-f]+)\.tmp(\.\w+)?")
_DAY = 24 * 3600  # seconds


def home() -> Path:
    """$POPOS_HOME, or the platform's folder for user data. Not created here.

    If that cannot be reached (it is another user's, or this user has no home folder), returns a path that
    does not exist and cannot be written, so that whatever needs no home still works.
    """
    try:
        path = Path(os.environ.get("POPOS_HOME") or platformdirs.user_data_dir("popos")).expanduser()
        path.stat()
    except (FileNotFoundError, NotADirectoryError):  # who writes there creates it, or says what is wrong
        return path
    except (OSError, RuntimeError):  # RuntimeError: pathlib finds no home folder for "~"
        return _UNREACHABLE
    locked_up = path.is_dir() and not os.access(path, os.R_OK | os.X_OK)
    return _UNREACHABLE if locked_up else path


def datasets_folder() -> Path:
    return home() / "datasets"


def extracted_folder(dataset: str) -> Path:
    """Where pixels that lie in archives or label files are unpacked to; not created here."""
    return home() / "extracted" / dataset


def weights_folder() -> Path:
    """Where converted weights that have a name lie, NAME.safetensors; not created here."""
    return home() / "weights"


def _temporary(path: Path) -> Path:
    """A new name beside `path`, .NAME.TOKEN.tmp.SUFFIX, that no other process on any machine uses."""
    token = _MACHINE + secrets.token_hex(4)
    return path.with_name(f".{path.name[:40]}.{token}.tmp{path.suffix}")  # names have at most 255 bytes


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to write, beside `path`; it replaces `path` only if the block succeeds.

    The folder is created. Raises PoposError where the place cannot be written.
    """
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        hint = "Free some space there, or choose a folder you may write to (--out, POPOS_HOME)."
        raise PoposError(f"cannot write {path}: {error.strerror or error}", hint) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder to fill, beside `path`; it gets the name `path` only if the block succeeds.

    Raises FileExistsError where another process has made `path` meanwhile, which stays as it is.
    """
    temporary = _temporary(path)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        try:
            temporary.rename(path)
        except OSError as error:
            if path.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def locked(path: Path, patience: float = 10.0) -> Iterator[bool]:
    """Hold the lock of `path`, a file or folder that several processes may write at once.

    Yields whether it is held: on a disk without locks, or one that cannot be written, the work goes on
    without it, and must not depend on it. The system releases it when the process ends, however it ends.
    Raises PoposError where another process still holds it after `patience` seconds.
    """
    from filelock import FileLock, Timeout  # only to write: predict starts sooner without

    file = path.with_name(f".{path.name}.lock")
    lock = FileLock(file, timeout=patience)
    held = False
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        held = True
    except Timeout:
        raise PoposError(
            f"another process is writing {path}",
            f"Wait until it has ended. If there is none, remove {file} and try again.",
        ) from None
    except (OSError, NotImplementedError):
        pass
    try:
        yield held
    finally:
        if held:
            lock.release()


def clear_leftovers(folder: Path, held: bool = False) -> None:
    """Remove the temporaries that killed processes left in `folder`, once they are a day old.

    held: the caller has the lock that every writer of the folder takes; then those of this machine, which no
    living process can be writing, are removed at once.
    """
    with suppress(OSError):  # the folder is not there, or cannot be read
        for path in folder.iterdir():
            found = TEMPORARY.fullmatch(path.name)
            with suppress(OSError):  # another process was quicker
                if found and (
                    (held and found["token"].startswith(_MACHINE))
                    or time.time() - path.lstat().st_mtime > _DAY
                ):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """A new folder in the system's temporary one, removed at the end."""
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def write_json(path: Path, data: Any) -> None:
    with replacing(path) as temporary:
        text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
        # A path whose bytes are not UTF-8 becomes \udcXX, which JSON reads back.
        temporary.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


def read_or_set_aside(path: Path, parse: Callable[[str], T], empty: T, held: bool = False) -> T:
    """Parse a small file of ours; `empty` if there is none or it cannot be read.

    One for which `parse` raises ValueError is renamed to *.broken, with a note, and so is a folder in its
    place. held: the caller has the lock of `path` and is about to replace it; then a file that is there but
    cannot be read raises PoposError.
    """
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, IsADirectoryError) as error:
        reason = " ".join(str(error).split())
    except OSError as error:
        if held and os.path.exists(path):
            raise PoposError(f"cannot read {path}: {error.strerror or error}") from None
        return empty
    if not held:
        with locked(path):  # another process may have replaced it by now
            return read_or_set_aside(path, parse, empty, held=True)
    aside = path.with_name(f"{path.name}.{time.strftime('%Y%m%d-%H%M%S')}.broken")
    try:
        os.replace(path, aside)
        _log.warning("%s is broken (%s): set aside as %s", path, reason, aside.name)
    except OSError:
        _log.warning("%s is broken (%s): ignored", path, reason)
    return empty


def _registry(held: bool = False) -> dict[str, list[str]]:
    return read_or_set_aside(home() / "registry.json", _parse_registry, {}, held)


def _parse_registry(text: str) -> dict[str, list[str]]:
    registry = json.loads(text)
    if not isinstance(registry, dict):
        raise ValueError("not an object")
    for kind, paths in registry.items():
        if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
            raise ValueError(f"{kind!r} is not a list of paths")
    return registry


def remember(kind: str, path: Path) -> None:
    """Note `path` under "roots" or "runs", newest last. Where that cannot be done a note says so."""
    file, text = home() / "registry.json", str(path.resolve())
    try:
        with locked(file):
            clear_leftovers(file.parent)
            registry = _registry(held=True)
            registry[kind] = [p for p in registry.get(kind, []) if p != text] + [text]
            write_json(file, registry)
    except PoposError as error:
        _log.warning("%s is not remembered: %s", path, error.message)


def remembered(kind: str) -> list[Path]:
    """The noted paths that still exist, newest first."""
    return [Path(p) for p in reversed(_registry().get(kind, [])) if os.path.exists(p)]


def refuse_taken(out: Path | None) -> None:
    """Raises PoposError if `new_run_folder` would: called early, before hours of work."""
    if out is None:
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise PoposError(f"{out} exists already", "Choose another folder with --out.")
    if not next(p for p in [out, *out.absolute().parents] if p.exists()).is_dir():
        raise PoposError(f"cannot create {out}: Not a directory", "Choose another place with --out.")


def new_run_folder(out: Path | None, stem: str) -> Path:
    """Create `out`, or ./runs/<stem>-<n> with the first free n. Raises PoposError if it is taken."""
    refuse_taken(out)
    number = 1
    while True:
        path = out or Path("runs") / f"{stem}-{number}"
        try:
            path.mkdir(parents=True, exist_ok=out is not None)
            return path
        except FileExistsError:
            if out:
                raise PoposError(f"{out} exists already", "Choose another folder with --out.") from None
            number += 1
        except OSError as error:
            raise PoposError(
                f"cannot create {path}: {error.strerror or error}", "Choose another place with --out."
            ) from None
