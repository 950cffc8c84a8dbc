"""Files of the Hugging Face Hub, through huggingface-hub and in its cache.

HF_HOME, HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE and proxies are respected by the library.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ..errors import PoposError, UsageError
from .network import broken_off, cannot_write, of_the_disk, pause, refusal, unreachable

T = TypeVar("T")
# The Hub's rule for each part: letters, digits and ._- but none of the latter at the ends or doubled.
_PART = r"[A-Za-z0-9_]+(?:[.-][A-Za-z0-9_]+)*"
REPOSITORY = f"{_PART}/{_PART}"
# Seconds for the first question, which is put once: without a network the answer should come at once.
QUICK = 10


@dataclass(frozen=True)
class Address:
    """repository: owner/repo. revision: None for its main branch."""

    repository: str
    file: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"hf://{self.repository}/{self.file}" + (f"@{self.revision}" if self.revision else "")


def parse_address(source: str, revision: str | None = None) -> Address:
    """hf://owner/repo/file, hf://owner/repo/file@revision or hf://owner/repo@revision/file.

    Raises UsageError for anything else.
    """
    found = re.fullmatch(rf"hf://({REPOSITORY})(?:@([^/@\s]+))?/([^@\s]+)(?:@([^@\s]+))?", source)
    if not found or ".." in found[3].split("/") or found[3].endswith("/"):
        raise UsageError(f"{source}: not hf://owner/repo/file")
    return Address(found[1], found[3], found[2] or found[4] or revision)


def cached(address: Address) -> Path | None:
    """Where the client's cache holds the file, without asking the network; None in a cache that is another
    user's."""
    folder = f"models--{address.repository.replace('/', '--')}"
    if "huggingface_hub" not in sys.modules and not os.path.exists(_cache() / folder):
        return None  # told without the client, whose import takes 0.3 seconds of every prediction
    from huggingface_hub import try_to_load_from_cache

    try:
        found = try_to_load_from_cache(address.repository, address.file, revision=address.revision)
    except OSError:
        return None
    return Path(found) if isinstance(found, str) else None


def _cache() -> Path:
    """Where the client keeps its files, as it documents it."""
    told = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    above = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or os.path.join(above, "huggingface")
    return Path(os.path.expanduser(os.path.expandvars(told or os.path.join(home, "hub"))))


def stored_hash(path: Path) -> str | None:
    """The hash by which the cache calls a file's content: SHA-256, or git's SHA-1 of a small file.

    None where the cache has no links, so that the file bears its own name.
    """
    return path.readlink().name if path.is_symlink() else None


def has_hash(path: Path, told: str) -> bool:
    """Whether a file has a hash that the Hub told; true where it told none that we know."""
    if re.fullmatch("[0-9a-f]{64}", told):
        return sha256(path) == told
    if re.fullmatch("[0-9a-f]{40}", told):
        return _digest(path, hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)) == told
    return True


def sha256(path: Path) -> str:
    """64 hexadecimal digits."""
    return _digest(path, hashlib.sha256())


def _digest(path: Path, state: hashlib._Hash) -> str:
    try:
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                state.update(piece)
    except OSError as error:
        raise PoposError(f"{path}: cannot be read: {error.strerror or error}") from None
    return state.hexdigest()


def forget(path: Path) -> None:
    """Remove a file from the cache: the link that names it, and what that leads to."""
    while path.is_symlink():
        target = path.parent / path.readlink()
        path.unlink()
        path = target
    path.unlink(missing_ok=True)


def download(address: Address, accept: Callable[[str, int | None], None]) -> tuple[Path, str]:
    """Bring a file into the client's cache; its path, and the hash that the Hub told.

    accept(hash, bytes) is called before anything is fetched, and may raise. Raises PoposError.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    url = hf_hub_url(address.repository, address.file, revision=address.revision)
    with quiet():
        known = _patiently(address, lambda: get_hf_file_metadata(url, timeout=QUICK))
        told = known.etag or ""
        accept(told, known.size)
        path = _patiently(
            address, lambda: hf_hub_download(address.repository, address.file, revision=address.revision)
        )
    return Path(path), told


# What the client and the HTTP libraries beneath it say of a connection that closed early.
_TORN = ("Consistency check", "peer closed connection", "IncompleteRead")


def _patiently(address: Address, action: Callable[[], T]) -> T:
    """An action of the client, tried again where the Hub's refusal may pass. Raises PoposError."""
    attempt = 0
    while True:
        try:
            return action()
        except Exception as error:  # whichever HTTP library lies beneath the client raises its own kinds
            if isinstance(error, OSError) and of_the_disk(error):
                raise cannot_write(error.filename or "the Hub's cache", error) from None
            answer = getattr(error, "response", None)
            status: int | None = getattr(answer, "status_code", None)
            retry_after = answer.headers.get("Retry-After") if answer is not None else None
            torn = any(words in str(error) for words in _TORN)
            wait = pause(attempt, status, retry_after) if torn or status is not None else None
            if wait is None:
                raise (
                    broken_off(str(address), kept=False) if torn
                    else refusal(str(address), status, retry_after) if status is not None
                    else unreachable(str(address), error)
                ) from None  # fmt: skip
            time.sleep(wait)
            attempt += 1


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the client's warnings (it will try again, there is no token) off the terminal."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
