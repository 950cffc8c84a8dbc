"""What the Hub's files and those at other addresses have in common: patience, and words for refusals."""

from __future__ import annotations

import errno
import os
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from ..errors import PoposError

PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})  # answers that another try may better
PAUSES = (0.5, 1.0, 2.0)  # seconds between tries
LONGEST_PAUSE = 30.0  # seconds that a host may ask for
_DISK = frozenset(
    getattr(errno, name)
    for name in (
        "ENOSPC",
        "EDQUOT",
        "EFBIG",
        "EACCES",
        "EPERM",
        "EROFS",
        "ENOTDIR",
        "EISDIR",
        "EIO",
        "EEXIST",
    )
    if hasattr(errno, name)
)


def offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids downloads, as the Hub's client reads it."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def pause(attempt: int, status: int | None, retry_after: str | None) -> float | None:
    """Seconds to wait after failed try number `attempt` (0: the first), None where another is no use.

    status: the host's answer, None where it gave none. retry_after: its header.
    """
    if attempt >= len(PAUSES) or (status is not None and status not in PASSING):
        return None
    asked = _seconds(retry_after)
    if asked is None:
        return PAUSES[attempt]
    return asked if asked <= LONGEST_PAUSE else None


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After: seconds, or a date."""
    if not retry_after:
        return None
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        then = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    then = then if then.tzinfo else then.replace(tzinfo=UTC)
    return max((then - datetime.now(UTC)).total_seconds(), 0.0)


def refusal(source: str, status: int, retry_after: str | None = None) -> PoposError:
    """What an HTTP status means for the file at `source`."""
    if status in (404, 410):
        return PoposError(f"{source}: there is no such file ({status})", "Check the address.")
    if status in (401, 403):
        return PoposError(
            f"{source}: access refused ({status})",
            "It may be private, gated or gone. For the Hub: set HF_TOKEN, and accept its terms on its page.",
        )
    if status == 429:
        wait = f"in {retry_after} seconds" if (retry_after or "").isdigit() else "later"
        return PoposError(f"{source}: the host gets too many requests (429)", f"Try again {wait}.")
    if status >= 500:
        return PoposError(f"{source}: the host fails ({status})", "Try again later.")
    return PoposError(f"{source}: the host answers {status}", "Check the address.")


def unreachable(source: str, error: BaseException) -> PoposError:
    return PoposError(
        f"{source}: the host cannot be reached ({first_line(error)}), and the file is not here",
        "Check the network and its proxy, or copy the file here and name its path.",
    )


def broken_off(source: str, kept: bool = True) -> PoposError:
    """kept: whether what has come so far is still here for the next try."""
    hint = "Run the command again" + ("; it goes on from there." if kept else ".")
    return PoposError(f"{source}: the download broke off", hint)


def switched_off(source: str) -> PoposError:
    return PoposError(
        f"{source}: not here, and downloads are switched off (--offline or HF_HUB_OFFLINE)",
        "Download it once with them off, or copy the file here and name its path.",
    )


def of_the_disk(error: BaseException) -> bool:
    """Whether an error is one of writing here, not of the network: HTTP libraries raise OSErrors too."""
    return isinstance(error, OSError) and error.errno in _DISK


def cannot_write(path: Path | str, error: OSError) -> PoposError:
    return PoposError(
        f"cannot write {path}: {error.strerror or error}",
        "Free some space, or set POPOS_HOME (HF_HOME for the Hub's files) to a place that you may write to.",
    )


def first_line(error: BaseException) -> str:
    reason = getattr(error, "reason", None)  # what urllib wraps
    text = str(reason if reason is not None else error).strip()
    return (text or type(error).__name__).splitlines()[0]
