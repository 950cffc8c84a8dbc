"""Weights that are elsewhere -> a verified file here.

A file is compared with its hash whenever it is asked for: the catalog's, else the one that
POPOS_HOME/pins.json has kept since the first download, when it was compared with what the Hub told and found
to be weights.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ..errors import PoposError, UsageError
from ..home import home, locked, read_or_set_aside, write_json
from . import hub, urls
from .catalog import Entry
from .network import offline, switched_off
from .urls import Progress

URLS = ("https://", "http://")
Check = Callable[[Path], object]  # raises PoposError where a new file is not what it should be


def fetch(
    source: Entry | str,
    no_network: bool = False,
    progress: Progress | None = None,
    check: Check = lambda path: None,
) -> Path:
    """The verified file of an entry, of hf://owner/repo/file[@revision] or of an https address.

    It is downloaded where it is not here: from the Hub into its client's cache, else below
    POPOS_HOME/downloads. A new file that does not pass `check` is removed, and its hash not pinned.
    Raises PoposError, UsageError for an address of no known kind.
    """
    entry = as_entry(source)
    found = find_here(entry)
    if found and (entry.local or _expected(entry)):
        return found
    if entry.source is None:
        raise PoposError(f"{entry.name}: cannot be downloaded by a program", entry.manual)
    if entry.local:
        raise _damaged(entry, entry.local) if entry.local.exists() else _missing(entry)
    no_network = no_network or offline()
    if found:
        return _vouched(entry, found, no_network, check)
    if no_network:
        changed = find_here(entry, verify=False)
        raise _damaged(entry, changed) if changed else switched_off(entry.source)
    if entry.source.startswith("hf://"):
        return _from_hub(entry, check)
    target = _target(entry.source)

    def accept(part: Path) -> None:
        sha256 = _verify(entry, part)
        _apply(check, entry, part)
        _pin(entry, sha256)

    urls.download(entry.source, target, accept, bool(_expected(entry)), entry.size, progress)
    return target


def _vouched(entry: Entry, found: Path, no_network: bool, check: Check) -> Path:
    """A file that is here, but whose hash we do not know: another program brought it, or its pin was
    deleted. It becomes what the Hub has now, and stays what it is where the Hub cannot be asked."""
    try:
        if entry.source and entry.source.startswith("hf://") and not no_network:
            return _from_hub(entry, check)
    except PoposError:
        if not found.exists():
            raise
    _apply(check, entry, found)
    with suppress(PoposError):  # a place that cannot be written is no reason to refuse what is here
        _pin(entry, hub.sha256(found))
    return found


def _apply(check: Check, entry: Entry, path: Path) -> None:
    """Refuse a new file by its source: nothing stays at its path."""
    try:
        check(path)
    except PoposError as error:
        message = error.message.replace(str(path), str(entry.source))
        raise PoposError(message, "Check the address, or try again later: nothing was kept.") from None


def as_entry(source: Entry | str) -> Entry:
    """A bare address as an entry of which nothing more is known. Raises UsageError."""
    if isinstance(source, Entry):
        return source
    try:
        parts = urlsplit(source)
        file = hub.parse_address(source).file if parts.scheme == "hf" else parts.path
        known = parts.scheme == "hf" or bool(source.startswith(URLS) and parts.hostname)
    except ValueError:
        known = False
    if not known:
        raise UsageError(f"{source}: neither hf://owner/repo/file nor an https address")
    form = "popos" if file.endswith(".safetensors") else "mmpose"
    return Entry(name=source, kind="face", what=source, licence="not stated", source=source, format=form)


def find_here(entry: Entry, verify: bool = True) -> Path | None:
    """The file of an entry if it is here, without asking the network. A damaged one is removed.

    verify=False leaves its hash alone: enough to tell what is here, not to use it.
    """
    if entry.source is None:
        return None
    if entry.local:
        path: Path | None = entry.local
    elif entry.source.startswith("hf://"):
        path = hub.cached(hub.parse_address(entry.source, entry.revision))
    else:
        path = _target(entry.source)
    if path is None or not os.path.isfile(path):  # which takes any name
        return None
    if not verify or (entry.local and not entry.sha256):
        return path
    expected, found = _expected(entry), hub.sha256(path)
    right = found.startswith(expected)
    if entry.local:
        return path if right else None
    if not right or not expected:
        # Another program may have brought the Hub's newer file; where that one is whole it stays.
        of_hub = entry.source.startswith("hf://")
        if not (hub.has_hash(path, hub.stored_hash(path) or "") if of_hub else right):
            hub.forget(path)
    if not right or not path.exists():
        return None
    return path


def file_name(address: str) -> str:
    """The last part of an address, as a file may be called."""
    last = unquote(urlsplit(address).path.rpartition("/")[2])
    return re.sub(r"[^\w.+-]", "_", last).strip(".") or "file"


def short_hash(address: str) -> str:
    """Tells files of one name at two addresses apart."""
    return hashlib.sha256(address.encode()).hexdigest()[:8]


def _target(url: str) -> Path:
    """Where the file of an address lies: under its own name, in a folder for the address."""
    return home() / "downloads" / short_hash(url) / file_name(url)


def _from_hub(entry: Entry, check: Check) -> Path:
    address = hub.parse_address(entry.source or "", entry.revision)
    expected = _expected(entry)

    def accept(told: str, size: int | None) -> None:
        if entry.size and size and size > entry.size:
            raise urls.too_long(address, size, entry.size)
        if expected and len(told) == 64 and not told.startswith(expected):
            raise _wrong(entry, expected, told)

    path, told = hub.download(address, accept)
    try:
        if not hub.has_hash(path, told):
            raise _wrong(entry, told, hub.sha256(path))
        found = _verify(entry, path)
        _apply(check, entry, path)
    except PoposError:
        hub.forget(path)
        raise
    with suppress(PoposError):  # a POPOS_HOME that cannot be written is no reason to refuse the file
        _pin(entry, found)
    return path


def _verify(entry: Entry, path: Path) -> str:
    """Compare a new file with what is known of it; returns its hash. Raises PoposError."""
    expected, found = _expected(entry), hub.sha256(path)
    if expected and not found.startswith(expected):
        raise _wrong(entry, expected, found)
    return found


def _wrong(entry: Entry, expected: str, found: str) -> PoposError:
    """What a hash other than the expected one means; `expected` may be the first digits."""
    if entry.sha256 is None and _pins().get(_key(entry)) == expected:
        return PoposError(
            f"{entry.source}: it has changed since its first download: SHA-256 {found[:16]}..., "
            f"not {expected[:16]}...",
            f"If you trust the new one, delete its line in {home() / 'pins.json'} and try again.",
        )
    return PoposError(
        f"{entry.source}: wrong file: its hash begins {found[:16]}, not {expected[:16]}",
        "It was damaged on its way or replaced at its source, and is not used. Try again later.",
    )


def _damaged(entry: Entry, path: Path) -> PoposError:
    return _wrong(entry, _expected(entry), hub.sha256(path))


def _missing(entry: Entry) -> PoposError:
    return PoposError(f"{entry.name}: {entry.local} is missing", "Reinstall popos-cli, or mend the catalog.")


def _key(entry: Entry) -> str:
    return f"{entry.source}@{entry.revision}" if entry.revision else str(entry.source)


def _expected(entry: Entry) -> str:
    """The SHA-256 that a file must have, or its first digits; "" where nothing is known yet."""
    known = entry.sha256 or ""
    pinned = _pins().get(_key(entry), "")
    return pinned if pinned.startswith(known) else known


def pinned_sources() -> list[str]:
    """Everything that was ever downloaded, as hf:// and https addresses."""
    return list(_pins())


def _pins(held: bool = False) -> dict[str, str]:
    return read_or_set_aside(home() / "pins.json", _parse_pins, {}, held)


def _parse_pins(text: str) -> dict[str, str]:
    pins = json.loads(text)
    if not isinstance(pins, dict) or not all(isinstance(value, str) for value in pins.values()):
        raise ValueError("not a list of hashes")
    return pins


def _pin(entry: Entry, found: str) -> None:
    path = home() / "pins.json"
    if _pins().get(_key(entry)) != found:
        with locked(path):
            write_json(path, {**_pins(held=True), _key(entry): found})
