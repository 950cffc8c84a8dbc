"""Files of the Hugging Face Hub: their hf:// addresses, and huggingface-hub's cache, where they lie."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import UsageError

# The Hub's rule for each part: letters, digits and ._- but none of the latter at the ends or doubled.
_PART = r"[A-Za-z0-9_]+(?:[.-][A-Za-z0-9_]+)*"
REPOSITORY = f"{_PART}/{_PART}"


def parse_address(source: str, revision: str | None = None) -> tuple[str, str, str | None]:
    """hf://owner/repo/file, hf://owner/repo/file@revision or hf://owner/repo@revision/file -> (owner/repo,
    file, revision). revision: a branch, tag or commit; None: the main branch. Raises UsageError.
    """
    found = re.fullmatch(rf"hf://({REPOSITORY})(?:@([^/@\s]+))?/([^@\s]+)(?:@([^@\s]+))?", source)
    if not found or ".." in found[3].split("/") or found[3].endswith("/"):
        raise UsageError(f"{source}: not hf://owner/repo/file")
    return found[1], found[3], found[2] or found[4] or revision


def offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids downloads, read as the client reads it."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def cached(repository: str, file: str, revision: str | None) -> Path | None:
    """Where the client's cache holds a file, without network; None where it does not, or cannot be read.

    As the client's `try_to_load_from_cache`, whose import would add 0.3 s to every prediction.
    """
    folder, commit = _cache() / f"models--{repository.replace('/', '--')}", revision or "main"
    try:
        if (reference := folder / "refs" / commit).is_file():
            commit = reference.read_text().strip()
        path = folder / "snapshots" / commit / file
        return path if path.is_file() else None
    except (OSError, ValueError):
        return None


def _cache() -> Path:
    """The client's cache, by the variables that it reads."""
    get = os.environ.get
    root = Path(get("HF_HOME") or Path(get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    folder = get("HF_HUB_CACHE") or get("HUGGINGFACE_HUB_CACHE") or root / "hub"
    return Path(os.path.expanduser(os.path.expandvars(folder)))  # Path's own fails for users without a home


def stored_sha256(path: Path) -> str:
    """The SHA-256 that the Hub gave for a cached file, which is its content's name in the cache.

    "" where that is not known: a small file, a cache without symbolic links, a file that is not the Hub's.
    """
    name = path.readlink().name if path.is_symlink() else ""
    return name if re.fullmatch("[0-9a-f]{64}", name) else ""


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


def first_line(error: BaseException) -> str:
    """What a library says of its failure, on one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
