"""Hosts on 127.0.0.1 for tests: a plain file host, and a Hub that the real huggingface-hub talks to.

with Hub() as hub:
    hub.put("owner/name", "model.safetensors", data)
    hub.faults.append(Fault(status=429, headers={"Retry-After": "0"}))
    ... a process with HF_ENDPOINT=hub.url (huggingface-hub reads it when it is imported) ...
    assert hub.log[0].method == "HEAD"
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".onnx", ".pth", ".bin")  # what the Hub keeps in its large-file storage


@dataclass
class Fault:
    """What goes wrong with a request whose path contains `path` and whose method is `method` (None: any).

    status: answered instead, with `headers`. cut: the connection breaks after this share of the file.
    drop: it breaks before any answer. delay: seconds before the answer, and between its pieces.
    times: for how many requests; None for all.
    """

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: float | None = None
    drop: bool = False
    delay: float = 0.0
    times: int | None = 1
    method: str | None = None
    path: str = ""

    def hits(self, request: Request) -> bool:
        if self.method not in (None, request.method) or self.path not in request.path or self.times == 0:
            return False
        if self.times is not None:
            self.times -= 1
        return True


@dataclass(frozen=True)
class Request:
    """path: decoded, without the query. headers: lower-case names."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    query: str = ""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of_json(cls, data: Any, status: int = 200) -> Answer:
        return cls(status, json.dumps(data).encode(), {"Content-Type": "application/json"})


@dataclass(frozen=True)
class File:
    data: bytes
    etag: str
    content_type: str = "application/octet-stream"
    location: str | None = None  # the address that the host leads to instead


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def handle_one(self) -> None:
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(
            self.command, unquote(parts.path), headers, self.rfile.read(length), unquote(parts.query)
        )
        fault = self.server.host.note(request)
        time.sleep(fault.delay)
        if fault.drop:
            self.close_connection = True
            return
        if fault.status:
            self.send(request, Answer(fault.status, b"no", fault.headers), fault)
        else:
            self.send(request, self.server.host.answer(request), fault)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_one

    def send(self, request: Request, answer: Answer, fault: Fault) -> None:
        body, keep = answer.body, len(answer.body)
        if fault.cut is not None:  # of the whole file, whatever the range
            start = re.match(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
            whole = int(start[2]) if start else len(body)
            keep = max(int(whole * fault.cut) - (int(start[1]) if start else 0), 0)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if self.server.host.lengths:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.close_connection = True
        self.end_headers()
        if request.method != "HEAD":
            pieces = 4 if fault.delay else 1
            step = max(-(-keep // pieces), 1)
            for begin in range(0, keep, step):
                self.wfile.write(body[begin : min(begin + step, keep)])
                self.wfile.flush()
                time.sleep(fault.delay)
        if keep < len(body):
            self.close_connection = True

    def log_message(self, *arguments: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    host: Host

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients that hang up


class Host:
    """Serves `files` (path -> File) with ranges. log: the requests so far.

    ranges, etags, lengths: False for a host that ignores Range, sends no ETag, no Content-Length.
    """

    def __init__(self) -> None:
        self.files: dict[str, File] = {}
        self.faults: list[Fault] = []
        self.log: list[Request] = []
        self.ranges = self.etags = self.lengths = True
        self.server = _Server(("127.0.0.1", 0), _Handler)
        self.server.host = self
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.lock = threading.Lock()

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """From now on connections are refused."""
        self.server.shutdown()
        self.server.server_close()

    def serve(self, path: str, data: bytes, **more: Any) -> str:
        """Put a file; returns its URL."""
        self.files[path] = File(data, f'"{hashlib.md5(data).hexdigest()}"', **more)
        return self.url + path

    def note(self, request: Request) -> Fault:
        with self.lock:
            self.log.append(request)
            return next((fault for fault in self.faults if fault.hits(request)), Fault())

    def requests(self, method: str) -> list[Request]:
        return [request for request in self.log if request.method == method]

    def answer(self, request: Request) -> Answer:
        file = self.files.get(request.path)
        return self.send_file(request, file) if file else Answer(404, b"no such file")

    def send_file(self, request: Request, file: File, headers: dict[str, str] | None = None) -> Answer:
        data, headers = file.data, {"Content-Type": file.content_type, **(headers or {})}
        if file.location:
            return Answer(302, b"", {"Location": file.location})
        if self.etags:
            headers["ETag"] = file.etag
        found = re.match(r"bytes=(\d+)-$", request.headers.get("range", ""))
        same = request.headers.get("if-range", file.etag) == file.etag
        if not (self.ranges and found and same):
            return Answer(200, data, headers)
        start = int(found[1])
        if start >= len(data):
            return Answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
        headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        return Answer(206, data[start:], headers)


class Hub(Host):
    """Repositories of models. Large files are redirected to a storage of their own, as the Hub does it.

    repositories: "owner/name" -> {file: data} (see `put`). token: where set, requests without it get 401.
    routes: (method, regex of the path) -> function(request, match) -> Answer, tried first.
    """

    def __init__(self) -> None:
        super().__init__()
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.routes: dict[tuple[str, str], Callable[[Request, re.Match[str]], Answer]] = {}
        self.token: str | None = None
        # Another host to the client, which takes what it is told of a file from the first one.
        self.storage = self.url.replace("127.0.0.1", "localhost")
        self.false_hash: str | None = None  # told in place of every large file's hash

    def put(self, repository: str, file: str, data: bytes) -> str:
        """Put a file; returns its hf:// address."""
        self.repositories.setdefault(repository, {})[file] = data
        return f"hf://{repository}/{file}"

    def commit(self, repository: str) -> str:
        """The name of the repository's present state."""
        state = hashlib.sha1(repository.encode())
        for file, data in sorted(self.repositories.get(repository, {}).items()):
            state.update(file.encode() + b"\0" + hashlib.sha1(data).digest())
        return state.hexdigest()

    def answer(self, request: Request) -> Answer:
        stored = request.path.startswith("/storage/")  # its addresses are secrets of their own
        if self.token and not stored and request.headers.get("authorization") != f"Bearer {self.token}":
            return _refusal(401, "RepoNotFound", "Invalid username or password.")
        for (method, pattern), function in self.routes.items():
            if method == request.method and (match := re.fullmatch(pattern, request.path)):
                return function(request, match)
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", request.path):
            return self._resolve(request, match[1], match[3])
        return super().answer(request)

    def _resolve(self, request: Request, repository: str, file: str) -> Answer:
        if repository not in self.repositories:
            return _refusal(404, "RepoNotFound", "Repository not found")
        if file not in self.repositories[repository]:
            return _refusal(404, "EntryNotFound", "Entry not found")
        data = self.repositories[repository][file]
        headers = {"X-Repo-Commit": self.commit(repository)}
        if not file.endswith(LARGE):
            blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            return self.send_file(request, File(data, f'"{blob}"'), headers)
        told = self.false_hash or hashlib.sha256(data).hexdigest()
        self.files[f"/storage/{repository}/{file}"] = File(data, f'"{told}"')
        headers |= {"X-Linked-ETag": f'"{told}"', "X-Linked-Size": str(len(data))}
        return Answer(302, b"", {**headers, "Location": f"{self.storage}/storage/{repository}/{file}"})


def _refusal(status: int, code: str, message: str) -> Answer:
    return Answer(
        status, json.dumps({"error": message}).encode(), {"X-Error-Code": code, "X-Error-Message": message}
    )
