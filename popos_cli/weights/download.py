"""Weights that are elsewhere -> a verified file here: from the Hub by huggingface-hub, else by pooch.

A file is compared with its SHA-256 whenever it is asked for: the catalog's, else the one that was pinned at
its first download, when it was found to be weights and, on the Hub, to have the Hub's SHA-256.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from ..errors import PoposError, explained
from ..home import home, locked, read_or_set_aside, write_json
from ..text import printable
from . import hub
from .catalog import URLS, Entry
from .info import LINKED, SOURCE

TIMEOUT = 20  # seconds without a byte
RETRIES = 2  # after a first try that failed
PIECE = 1 << 18  # bytes
PATIENCE, RETRY = 3, 24 * 3600  # seconds: for what a command can do without, and until it asks again
OFF_DISK = ConnectionError, TimeoutError  # of the OSErrors

_log = logging.getLogger(__name__)
_asked: set[str] = set()  # by `fetch_soon` in this process
Check = Callable[[Path], object]  # raises PoposError for a new file that is not what it should be


def fetch(entry: Entry, no_network: bool = False, check: Check = lambda path: None) -> Path:
    """The verified file of a catalog entry, downloaded where it is not here.

    It goes into the Hub client's cache, or below POPOS_HOME/downloads. A new file that has another hash than
    the known one, or does not pass `check`, is removed and its hash not pinned. Raises PoposError.
    """
    if entry.source is None:
        raise PoposError(f"{entry.name}: cannot be downloaded by a program", entry.manual)
    path = find_here(entry)
    if path and (entry.local or _expected(entry)):
        return path
    if entry.local:
        raise PoposError(
            f"{entry.local}: missing, or not what the catalog's SHA-256 says",
            "Reinstall popos-cli, or correct your catalog.",
        )
    accept = partial(_accept, entry, check)
    # Here all the same: no hash of it is known, or another program brought a newer file into the Hub's cache.
    if path := place_of(entry):
        accept(path)
        return path
    if no_network or hub.offline():
        raise PoposError(
            f"{entry.source}: not here, and downloads are switched off (--offline or HF_HUB_OFFLINE)",
            "Download it once with them on, or copy the file here and name its path.",
        )
    return _from_hub(entry, accept) if entry.on_hub else _from_url(entry, accept)


def fetch_soon(entry: Entry) -> Path | None:
    """The verified file of a catalog entry where it can be had within PATIENCE seconds, else None, with a
    note either way. After a failure nothing is asked for a day, nor again in this process."""
    failed = home() / "downloads" / f"{entry.name}.failed"
    if hub.offline() or not entry.source or entry.address in _asked or _age(failed) < RETRY:
        return None
    _asked.add(entry.address)
    outcome: list[Path | PoposError] = []

    def work() -> None:
        try:
            outcome.append(fetch(entry))
        except Exception as error:
            outcome.append(explained(error))

    thread = threading.Thread(target=work, name="fetch", daemon=True)
    thread.start()
    thread.join(PATIENCE)
    found = outcome[0] if outcome else None
    if isinstance(found, Path):
        _log.warning("fetched %s from %s", entry.name, entry.source)
        return found
    _log.warning("%s", found.message if found else f"{entry.source}: did not come within {PATIENCE} seconds")
    with suppress(OSError):
        failed.parent.mkdir(parents=True, exist_ok=True)
        failed.touch()
    return None


def _age(path: Path) -> float:
    """Seconds since it was written; infinite where it is not there."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return float("inf")


def place_of(entry: Entry) -> Path | None:
    """Where the file of an entry lies, if it is here. Its hash is not looked at: not enough to use it."""
    if entry.source is None:
        return None
    path: Path | None = entry.local or entry.downloaded
    if entry.on_hub:
        path = hub.cached(*hub.parse_address(entry.source, entry.revision))
    return path if path and os.path.isfile(path) else None  # which takes any name


def find_here(entry: Entry) -> Path | None:
    """The verified file of an entry if it is here; no network is asked. A damaged download is removed."""
    path = place_of(entry)
    if path is None or (entry.local and not entry.sha256):
        return path
    found = sha256(path)
    right, whole = found.startswith(_expected(entry)), found == (hub.stored_sha256(path) or found)
    # Another program may have brought the Hub's newer file: that one stays, if it is whole.
    if not (right and whole) and not entry.local and not (entry.on_hub and whole):
        _remove(path)
    return path if right and whole else None


def sha256(path: Path) -> str:
    """64 hexadecimal digits. Raises PoposError for a file that cannot be read."""
    try:
        facts = path.stat()
        return _sha256(path, facts.st_size, facts.st_mtime_ns)
    except OSError as error:
        raise PoposError(f"{path}: cannot be read: {error.strerror or error}") from None


@functools.lru_cache(16)  # finding weights and starting their engine ask for it: 13 ms each time
def _sha256(path: Path, size: int, changed: int) -> str:
    """size, changed (ns): so that a file that was replaced is read again."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_link(model: Path, metadata: dict[str, str]) -> None:
    """Raises PoposError for an exported model whose tensors lie in a weight file that was replaced."""
    if name := metadata.get(LINKED):
        weights = model.with_name(name)
        if not weights.is_file() or sha256(weights) != metadata.get(SOURCE):
            raise PoposError(
                f"{model}: its tensors are in {weights}, which is another file now",
                f"Run: popos export {weights} --link --force",
            )


def read_pins(held: bool = False) -> dict[str, str]:
    """POPOS_HOME/pins.json: the SHA-256 of each file at its first download, by `Entry.address`. held: see
    `read_or_set_aside`."""
    return read_or_set_aside(_pins_file(), _parse_pins, {}, held)


def _parse_pins(text: str) -> dict[str, str]:
    pins = json.loads(text)
    if not isinstance(pins, dict) or not all(isinstance(value, str) for value in pins.values()):
        raise ValueError("not a list of hashes")
    return pins


def _pins_file() -> Path:
    return home() / "pins.json"


def _expected(entry: Entry) -> str:
    """The SHA-256 that a file must have, or its first digits; "" where nothing is known yet."""
    known, pinned = entry.sha256 or "", read_pins().get(entry.address, "")
    return pinned if pinned.startswith(known) else known


def _accept(entry: Entry, check: Check, path: Path) -> None:
    """Compare a new file with all that is known of it, and pin its hash. Raises PoposError."""
    expected, found, size = _expected(entry) or hub.stored_sha256(path), sha256(path), path.stat().st_size
    wrong = None
    if not found.startswith(expected):
        wrong = f"its SHA-256 begins {found[:16]}, not {expected[:16]}"
    elif entry.size and size > entry.size:
        wrong = f"it has {size} bytes, the catalog says {entry.size}"
    if wrong:
        hint = "It was damaged on its way or replaced at its source, and is not used. Try again later"
        if entry.address in read_pins():
            hint += f"; if you trust the new one, delete its line in {_pins_file()}"
        raise PoposError(f"{entry.source}: wrong file: {wrong}", f"{hint}.")
    try:
        check(path)
    except PoposError as error:
        message = error.message.replace(str(path), str(entry.source))
        raise PoposError(message, "Check the address, or try again later: nothing was kept.") from None
    with suppress(PoposError):  # a POPOS_HOME that cannot be written is no reason to refuse the file
        if read_pins().get(entry.address) != found:
            with locked(_pins_file()):
                write_json(_pins_file(), {**read_pins(held=True), entry.address: found})


def _remove(path: Path) -> None:
    """Remove a file; where it is a link in the Hub's cache, its content too."""
    with suppress(OSError):
        path.resolve().unlink()
        path.unlink(missing_ok=True)


def _from_hub(entry: Entry, accept: Callable[[Path], None]) -> Path:
    """Download a file into the Hub client's cache, where it stays if `accept` has not refused it."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    repository, file, revision = hub.parse_address(str(entry.source), entry.revision)
    try:
        with hub.quiet():
            # Fails at once without a network, where hf_hub_download would try for minutes.
            with suppress(HfHubHTTPError):
                get_hf_file_metadata(hf_hub_url(repository, file, revision=revision))
            path = Path(hf_hub_download(repository, file, revision=revision))
    except Exception as error:  # the HTTP library beneath the client raises its own kinds
        raise _failed(entry.source, error) from None
    try:
        accept(path)
    except PoposError:
        _remove(path)
        raise
    return path


def _from_url(entry: Entry, accept: Callable[[Path], None]) -> Path:
    """Download a file; it appears under its name only when `accept` has not refused it.

    Processes that want the same file wait for each other. Raises PoposError.
    """
    import pooch
    from tqdm.auto import tqdm

    def get(address: str, temporary: str, _: Any) -> None:
        with tqdm(total=1, desc=printable(target.name), unit="B", unit_scale=True, disable=None) as bar:
            hooks = {"response": partial(_refuse_answer, url)}
            pooch.HTTPDownloader(bar, PIECE, timeout=TIMEOUT, hooks=hooks)(address, temporary, None)
        accept(Path(temporary))
        os.chmod(temporary, 0o644)  # for other users of this POPOS_HOME; pooch then renames it to `target`

    url, target = str(entry.source), entry.downloaded
    pooch.get_logger().setLevel("ERROR")
    store = pooch.create(
        target.parent, "", registry={target.name: None}, urls={target.name: url}, retry_if_failed=RETRIES
    )
    try:
        with locked(target, patience=-1):
            store.fetch(target.name, downloader=get)
    except (OSError, ValueError) as error:  # the HTTP library's are OSErrors, too
        raise _failed(url, error) from None
    return target


def _refuse_answer(url: str, answer: Any, **_: Any) -> None:
    """Raises PoposError for an answer (requests.Response) that is no file, now or at another try."""
    if answer.is_redirect:
        place = urljoin(answer.url, answer.headers["location"])
        if not place.lower().startswith("https://" if answer.url.startswith("https://") else URLS):
            raise _failed(url, f"the host leads to {place}, which is not safe")
    elif 400 <= answer.status_code < 500 and answer.status_code not in (408, 425, 429):
        raise _failed(url, f"{answer.status_code} {answer.reason}")


def _failed(source: str | None, reason: Exception | str) -> PoposError:
    """Why a file did not come: the first line of what the library says, or what the disk says."""
    hint = (
        "Check the address, the network and its proxy (a private or gated repository of the Hub needs "
        "HF_TOKEN), or copy the file here and name its path."
    )
    if isinstance(reason, OSError) and reason.errno and not isinstance(reason, OFF_DISK):
        reason = f"cannot write {reason.filename or 'it here'}: {reason.strerror}"
        hint = "Free some space, or set POPOS_HOME (for the Hub's files HF_HOME) to a place you may write to."
    text = reason if isinstance(reason, str) else hub.first_line(reason.__cause__ or reason)
    return PoposError(f"{source}: cannot be downloaded: {text}", hint)
