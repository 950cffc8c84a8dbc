"""Hosts on 127.0.0.1 for tests: a plain file host, and a Hub that the real huggingface-hub talks to.

with Hub() as hub:
    hub.put("owner/name", "model.safetensors", data)
    hub.faults.append(Fault(status=503))
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

    status: answered instead. cut: the connection breaks after this share of the file. drop: it breaks before
    any answer. delay: seconds before the answer. times: for how many requests; None for all.
    """

    status: int | None = None
    cut: float = 1.0
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

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of_json(cls, data: Any, status: int = 200, **headers: str) -> Answer:
        return cls(status, json.dumps(data).encode(), {"Content-Type": "application/json", **headers})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def handle_one(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = Request(self.command, unquote(urlsplit(self.path).path), headers, body)
        fault = self.server.host.note(request)
        time.sleep(fault.delay)
        if fault.drop:
            self.close_connection = True
            return
        answer = Answer(fault.status, b"no") if fault.status else self.server.host.answer(request)
        self.send_response(answer.status)
        for name, value in {**answer.headers, "Content-Length": str(len(answer.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if request.method != "HEAD":
            self.wfile.write(answer.body[: int(len(answer.body) * fault.cut)])
            self.close_connection = fault.cut < 1

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_one

    def log_message(self, *arguments: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    host: Host

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients that hang up


class Host:
    """Serves `files` (path -> answer). log: the requests so far."""

    def __init__(self) -> None:
        self.files: dict[str, Answer] = {}
        self.faults: list[Fault] = []
        self.log: list[Request] = []
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

    def serve(self, path: str, data: bytes) -> str:
        """Put a file; returns its URL."""
        self.files[unquote(path)] = Answer(200, data)
        return self.url + path

    def redirect(self, path: str, place: str) -> str:
        """An address that leads to `place`; returns its URL."""
        self.files[path] = Answer(302, b"", {"Location": place})
        return self.url + path

    def note(self, request: Request) -> Fault:
        with self.lock:
            self.log.append(request)
            return next((fault for fault in self.faults if fault.hits(request)), Fault())

    def answer(self, request: Request) -> Answer:
        return self.files.get(request.path) or Answer(404, b"no such file")


class Hub(Host):
    """Repositories of models. Large files are redirected to a storage of their own, as the Hub does it.

    repositories: "owner/name" -> {file: data} (see `put`). token: where set, requests without it get 401.
    routes: (method, regex of the path) -> function(request, match) -> Answer, tried first. false_hash: given
    in place of every large file's SHA-256.
    """

    def __init__(self) -> None:
        super().__init__()
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.routes: dict[tuple[str, str], Callable[[Request, re.Match[str]], Answer]] = {}
        self.token: str | None = None
        self.false_hash: str | None = None

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
            return self._resolve(match[1], match[3])
        return super().answer(request)

    def _resolve(self, repository: str, file: str) -> Answer:
        if repository not in self.repositories:
            return _refusal(404, "RepoNotFound", "Repository not found")
        if file not in self.repositories[repository]:
            return _refusal(404, "EntryNotFound", "Entry not found")
        data = self.repositories[repository][file]
        headers = {"X-Repo-Commit": self.commit(repository)}
        if not file.endswith(LARGE):
            blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            return Answer(200, data, {**headers, "ETag": f'"{blob}"'})
        place = f"/storage/{repository}/{file}"
        self.files[place] = Answer(200, data)
        digest = self.false_hash or hashlib.sha256(data).hexdigest()
        headers |= {"X-Linked-ETag": f'"{digest}"', "X-Linked-Size": str(len(data))}
        # Another host to the client, which takes all that it knows of a file from the first one.
        return Answer(302, b"", {**headers, "Location": self.url.replace("127.0.0.1", "localhost") + place})


def _refusal(status: int, code: str, message: str) -> Answer:
    return Answer.of_json({"error": message}, status, **{"X-Error-Code": code, "X-Error-Message": message})
