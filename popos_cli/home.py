"""POPOS_HOME: where indexes, our own copies of pixels, and the registry of roots and runs lie.

Several processes, on several machines, may share it. Everything is written under a name of its own and
renamed when it is whole, so that no reader meets half a file, locks or not; a lock keeps two processes from
doing the same work, or losing each other's entries.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import platform
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import platformdirs
from filelock import FileLock, Timeout

from .errors import PoposError

T = TypeVar("T")

# Notes for the user that are no failure; the command line prints them on stderr.
_log = logging.getLogger(__name__)
# Stands for a home folder that cannot be reached: nothing is there, and nothing can be written there.
_NOWHERE = Path(os.devnull) / "POPOS_HOME"
# In the names of temporaries: locks of a network disk may hold on one machine alone.
_MACHINE = hashlib.blake2b(platform.node().encode(), digest_size=4).hexdigest()
# .NAME.TOKEN.tmp.SUFFIX; earlier versions had a process id, a decimal number, for the token.
TEMPORARY = re.compile(r"\.(?P<of>.+)\.(?P<token>[0-9a-f]{16}|\d+)\.tmp(\.\w+)?")
_LONGEST = 40  # characters of a name in its temporary's, which must not be too long itself
_DAY = 24 * 3600  # seconds


def home() -> Path:
    """$POPOS_HOME, or the platform's folder for user data. Not created here.

    Where that cannot be reached (another user's, or nobody's) a path where nothing is and nothing can be
    written, so that whatever needs no home still works.
    """
    try:
        path = Path(os.path.expanduser(os.environ.get("POPOS_HOME") or platformdirs.user_data_dir("popos")))
        path.stat()
    except (PermissionError, RuntimeError):  # platformdirs': nobody's home
        return _NOWHERE
    except OSError as error:  # not there: whoever writes says what is wrong
        if error.errno == errno.ENAMETOOLONG:  # which pathlib raises wherever it looks
            return _NOWHERE
    locked_up = path.is_dir() and not os.access(path, os.R_OK | os.X_OK)
    return _NOWHERE if locked_up or str(path).startswith("~") else path


def datasets_folder() -> Path:
    return home() / "datasets"


def extracted_folder(dataset: str) -> Path:
    """Where pixels that lie in archives or label files are unpacked to; not created here."""
    return home() / "extracted" / dataset


def weights_folder() -> Path:
    """Where converted weights that have a name lie, NAME.safetensors; not created here."""
    return home() / "weights"


def _temporary(path: Path) -> Path:
    """A new name beside `path`; no other process, on whatever machine, has it."""
    token = _MACHINE + secrets.token_hex(4)
    return path.with_name(f".{path.name[:_LONGEST]}.{token}.tmp{path.suffix}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write beside `path`; it takes `path`'s place only if the block succeeds.

    The folder is created. Raises PoposError where the place cannot be written.
    """
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _cannot_write(path: Path, error: OSError) -> PoposError:
    if path.is_relative_to(_NOWHERE):
        hint = "Set POPOS_HOME to a folder you may write to."
        return PoposError(f"cannot write {path.name}: popos has no folder for its data here", hint)
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "Free some space there, or choose another place."
    elif path.is_relative_to(home()):
        hint = "Set POPOS_HOME to a folder you may write to."
    else:
        hint = "Choose a folder you may write to."
    return PoposError(f"cannot write {path}: {reason}", hint)


@contextmanager
def new_folder(path: Path, beside: Path | None = None) -> Iterator[Path]:
    """A folder to fill, beside `path` (or `beside`); it gets that name only if the block succeeds.

    Raises FileExistsError where somebody else has made `path` meanwhile, which stays as it is.
    """
    temporary = _temporary(beside or path)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        path.parent.mkdir(exist_ok=True)
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

    Yields whether it is held: where there are no locks, or nothing can be written, the work goes on without,
    and must not depend on it. The system lets go when the process ends, however it ends. Raises PoposError
    where another process still has it after `patience` seconds.
    """
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


def clear_leftovers(folder: Path, held: bool, of: str = "") -> None:
    """Remove the temporaries that killed processes left in `folder`.

    Those of this machine at once where the lock of their target is `held` (of: its file's name, "" where the
    whole folder is the target), all others once they are a day old.
    """
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError:
        return
    for found in filter(None, map(TEMPORARY.fullmatch, names)):
        path = folder / found[0]
        ours = len(found["token"]) == 16 and found["token"].startswith(_MACHINE)
        its = not of or (found["of"] == of and len(of) < _LONGEST)  # a longer name is cut off
        if (held and ours and its) or _old(path):
            _remove(path)


def _old(path: Path) -> bool:
    try:
        return time.time() - path.lstat().st_mtime > _DAY
    except OSError:
        return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


@contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """A new folder for temporary files, removed at the end; those of killed processes go at the start."""
    top = Path(tempfile.gettempdir())
    for old in top.glob(f"{prefix}*"):
        if not (re.fullmatch(r"[0-9a-f]{16}", old.name.removeprefix(prefix)) or _old(old)):
            continue  # an earlier version's, which has no lock
        with suppress(PoposError), locked(old, patience=0) as held:
            if held or _old(old):
                _discard(old)
    folder = top / f"{prefix}{secrets.token_hex(8)}"
    with locked(folder):
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            _discard(folder)


def _discard(folder: Path) -> None:
    """Remove a folder that nobody will use again, and its lock."""
    _remove(folder)
    _remove(folder.with_name(f".{folder.name}.lock"))


def write_json(path: Path, data: Any) -> None:
    with replacing(path) as temporary:
        text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
        # A path whose bytes are not UTF-8 becomes \udcXX, which JSON reads back.
        temporary.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


def read_or_set_aside(path: Path, parse: Callable[[str], T], empty: T, held: bool = False) -> T:
    """What `parse` makes of a small file of ours; `empty` where there is none or it cannot be read.

    One that is broken, or a folder, gets another name, with a note, so that it spoils no command. held:
    whether the caller has the lock of `path` and is about to replace it; then PoposError for one that is
    there but not readable.
    """
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        if isinstance(error, OSError) and not isinstance(error, IsADirectoryError):
            if held and os.path.exists(path):
                raise PoposError(f"cannot read {path}: {error.strerror or error}") from None
            return empty
        if not held:
            try:
                with locked(path):  # another process may be mending it at this moment
                    return read_or_set_aside(path, parse, empty, held=True)
            except PoposError:
                return empty
        aside = path.with_name(f"{path.name}.{time.strftime('%Y%m%d-%H%M%S')}.broken")
        reason = " ".join(str(error).split()) or type(error).__name__
        try:
            os.replace(path, aside)
            _log.warning("%s is broken (%s): set aside as %s", path, reason, aside.name)
        except OSError:
            _log.warning("%s is broken (%s): passed over", path, reason)
        return empty


def _registry(held: bool = False) -> dict[str, list[str]]:
    return read_or_set_aside(home() / "registry.json", _parse_registry, {}, held)


def _parse_registry(text: str) -> dict[str, list[str]]:
    data = json.loads(text)
    if not isinstance(data, dict):
        raise ValueError("not an object")
    for kind, paths in data.items():
        if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
            raise ValueError(f"{kind!r} is not a list of paths")
    return data


def remember(kind: str, path: Path) -> None:
    """Note `path` under "roots" or "runs", newest last. Where that cannot be done a note says so."""
    file, text = home() / "registry.json", str(path.resolve())
    try:
        with locked(file) as held:
            clear_leftovers(file.parent, held, of=file.name)
            registry = _registry(held=True)
            registry[kind] = [p for p in registry.get(kind, []) if p != text] + [text]
            write_json(file, registry)
    except PoposError as error:
        _log.warning("%s is not remembered: %s", path, error.message)


def remembered(kind: str) -> list[Path]:
    """The noted paths that still exist, newest first."""
    return [Path(p) for p in reversed(_registry().get(kind, [])) if _exists(p)]


def _exists(path: str) -> bool:
    try:
        return os.path.exists(path)
    except ValueError:  # a null character
        return False


def refuse_taken(out: Path | None) -> None:
    """Raises PoposError where `new_run_folder` would: before hours of work, not after."""
    if out is None:
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise PoposError(f"{out} exists already", "Choose another folder with --out.")
    if not next(p for p in [out, *out.absolute().parents] if p.exists()).is_dir():
        raise PoposError(f"cannot create {out}: Not a directory", "Choose another place with --out.")


def new_run_folder(out: Path | None, stem: str) -> Path:
    """Create `out`, or ./runs/<stem>-<n> with the first free n. Raises PoposError if it is taken."""
    candidates = iter([out]) if out else (Path("runs") / f"{stem}-{n}" for n in range(1, 100_000))
    for path in candidates:
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            if out and path.is_dir() and not any(path.iterdir()):
                return path
        except OSError as error:
            raise PoposError(
                f"cannot create {path}: {error.strerror or error}", "Choose another place with --out."
            ) from None
    raise PoposError(f"{path} exists already", "Choose another folder with --out.")
