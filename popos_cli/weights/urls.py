"""A file at an https or http address -> a file here, which appears only when it is whole and accepted.

Proxies are those of the standard library: HTTP_PROXY, HTTPS_PROXY, NO_PROXY.
"""

from __future__ import annotations

import http.client
import re
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol
from urllib.error import HTTPError

from filelock import FileLock

from ..errors import PoposError
from .network import broken_off, cannot_write, pause, refusal, unreachable

TIMEOUT = 20  # seconds without a byte
PIECE = 1 << 18  # bytes
MOST_CUTS = 50  # broken connections that one download outlives, as long as each brought something

Progress = Callable[[int, int | None], None]  # bytes so far, bytes in all


class _Cut(Exception):
    """The connection broke; what came before is in the .part file."""


class _Response(Protocol):
    """What is used of http.client.HTTPResponse."""

    status: int
    headers: http.client.HTTPMessage

    def read(self, amt: int) -> bytes: ...


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a host to another address, but not from https to one that anybody on the way may change."""

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str) -> Any:
        if not newurl.lower().startswith("https://" if req.type == "https" else ("https://", "http://")):
            raise PoposError(
                f"{req.full_url}: the host leads to {newurl}, which is not safe",
                "Open the address in a browser, download the file there, and name its path.",
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def too_long(source: object, size: int, limit: int) -> PoposError:
    return PoposError(
        f"{source}: has {size} bytes, but the catalog says {limit}: another file, not taken",
        "If you trust it, mend its size in the catalog.",
    )


def download(
    url: str, target: Path, accept: Callable[[Path], None], hash_known: bool, limit: int | None,
    progress: Progress | None,
) -> None:  # fmt: skip
    """Bring a file to `target`. Bytes gather in target.part; a later call goes on from there.

    accept(path): verifies the whole file, raises PoposError where it is a wrong one, which is removed.
    hash_known: `accept` would notice a file that is cut or put together of two. limit: the most bytes.
    Two calls at once, in whichever processes, wait for each other. Raises PoposError.
    """
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if target.exists():  # another process was quicker
                return
            resumed = part.exists()
            _complete(url, part, hash_known, limit, progress)
            try:
                accept(part)
            except PoposError:
                _discard(part)
                if not resumed:
                    raise
                # The beginning came from an earlier call, perhaps from another file of that address.
                _complete(url, part, hash_known, limit, progress)
                _accept_or_discard(part, accept)
            part.replace(target)
            _validator(part).unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(error.filename or target, error) from None


def _accept_or_discard(part: Path, accept: Callable[[Path], None]) -> None:
    try:
        accept(part)
    except PoposError:
        _discard(part)
        raise


def _validator(part: Path) -> Path:
    """Where the ETag (or date) of a .part file's origin lies: it must be the same to go on."""
    return part.with_name(f"{part.name}.etag")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _validator(part).unlink(missing_ok=True)


def _complete(url: str, part: Path, hash_known: bool, limit: int | None, progress: Progress | None) -> None:
    """Fill `part`, over as many connections as it takes. Raises PoposError, or OSError of the disk."""
    failures = received = 0  # tries in a row that brought nothing; bytes of this call
    for _ in range(MOST_CUTS):
        before = _size(part)
        status: int | None = None
        retry_after, unheard = None, False
        try:
            return _get(url, part, hash_known, limit, progress)
        except HTTPError as error:
            error.close()
            status, retry_after = error.code, error.headers.get("Retry-After")
            if status == 416:  # the .part file is whole already, or of another file
                if error.headers.get("Content-Range") == f"bytes */{before}":
                    return None
                _discard(part)
                continue
            failed = refusal(url, status, retry_after)
        except _Cut as cut:
            unheard = cut.__cause__ is not None
            failed = unreachable(url, cut.__cause__) if cut.__cause__ else broken_off(url)
        gained = max(_size(part) - before, 0)
        received += gained
        failures = 0 if gained else failures + 1
        # Where nothing ever came the host is out of reach, and the answer should come at once.
        wait = pause(max(failures - 1, 0), status, retry_after) if received or not unheard else None
        if wait is None:
            raise failed
        time.sleep(wait if failures else 0)
    raise broken_off(url)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _get(url: str, part: Path, hash_known: bool, limit: int | None, progress: Progress | None) -> None:
    """One connection: begin, or go on with, `part`. Returns only when it is whole."""
    have, tag = _size(part), _read(_validator(part))
    headers = {"User-Agent": "popos", "Accept-Encoding": "identity"}
    if have and (tag or hash_known):
        headers |= {"Range": f"bytes={have}-", **({"If-Range": tag} if tag else {})}
    try:
        opener = urllib.request.build_opener(_Redirects)
        response = opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError:
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: no address at all
        raise _Cut from error
    with response:
        start, total = _extent(url, response, part, have, hash_known)
        first = _read_piece(response)
        _refuse_pages(url, response, first if start == 0 else b"")
        _validator(part).write_text(_tag_of(response), encoding="utf-8")
        with part.open("ab" if start else "wb") as file:
            piece, done = first, start
            while piece and not (limit and max(total or 0, done) > limit):
                file.write(piece)
                done += len(piece)
                if progress:
                    progress(done, total)
                piece = _read_piece(response)
    if limit and max(total or 0, done) > limit:
        _discard(part)
        raise too_long(url, max(total or 0, done), limit)
    if total is not None and done < total:
        raise _Cut


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _read_piece(response: _Response) -> bytes:
    try:
        return response.read(PIECE)
    except (OSError, http.client.HTTPException) as error:
        raise _Cut from error


def _extent(url: str, response: _Response, part: Path, have: int, hash_known: bool) -> tuple[int, int | None]:
    """Where the answer's bytes begin in the file, and how long that is (None: the answer's own end shows)."""
    if response.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        if not found or int(found[1]) != have:
            _discard(part)
            raise _Cut
        return have, int(found[2])
    length = response.headers.get("Content-Length")
    if length is not None and length.isdigit():
        return 0, int(length)
    if not hash_known and response.headers.get("Transfer-Encoding", "").lower() != "chunked":
        raise PoposError(
            f"{url}: the host does not say how long the file is, so that a cut one could not be told",
            "Download it by other means, and name its path; or name its SHA-256 in a catalog.",
        )
    return 0, None


def _tag_of(response: _Response) -> str:
    """What If-Range takes: a strong ETag, else a date, else nothing."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def _refuse_pages(url: str, response: _Response, first: bytes) -> None:
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind == "text/html" or first[:200].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise PoposError(
            f"{url}: the host sends a web page instead of a file",
            "Open the address in a browser, download the file there, and name its path.",
        )
