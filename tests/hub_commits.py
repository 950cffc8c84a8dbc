"""The Hub's endpoints that huggingface-hub writes through: create a repository, upload, commit.

with Hub() as hub:
    shelf = Shelf(hub)
    ... a process with HF_ENDPOINT=hub.url, HF_TOKEN, HF_HUB_DISABLE_XET=1 ...
    assert hub.repositories["owner/name"]["README.md"] == ...
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any

from hosts import LARGE, Answer, Hub, Request


@dataclass
class Shelf:
    """Repositories that can be written to. private: by name. messages: of the commits so far.

    bad_card: what is wrong with any README.md; None: nothing.
    """

    hub: Hub
    private: dict[str, bool] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    bad_card: str | None = None
    uploads: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.hub.routes |= {
            ("POST", "/api/repos/create"): self.create,
            ("POST", "/api/validate-yaml"): self.validate,
            ("GET", "/api/models/([^/]+/[^/]+)(?:/revision/.+)?"): self.describe,
            ("POST", "/api/models/([^/]+/[^/]+)/preupload/main"): self.preupload,
            ("POST", r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch"): self.batch,
            ("PUT", "/storage/uploads/([0-9a-f]{64})"): self.store,
            ("POST", "/api/models/([^/]+/[^/]+)/commit/main"): self.commit,
        }

    def create(self, request: Request, match: re.Match[str]) -> Answer:
        wanted = request.json
        name = f"{wanted['organization']}/{wanted['name']}"
        if name in self.hub.repositories:
            return Answer.of_json(
                {"error": "You already created this model repo", "url": self._url(name)}, 409
            )
        self.hub.repositories[name] = {}
        self.private[name] = wanted.get("visibility") == "private" or bool(wanted.get("private"))
        return Answer.of_json({"url": self._url(name), "name": name})

    def _url(self, name: str) -> str:
        return f"{self.hub.url}/{name}"

    def validate(self, request: Request, match: re.Match[str]) -> Answer:
        errors = [{"message": self.bad_card}] if self.bad_card else []
        return Answer.of_json({"errors": errors, "warnings": []}, 400 if errors else 200)

    def describe(self, request: Request, match: re.Match[str]) -> Answer:
        name = match[1]
        if name not in self.hub.repositories:
            return Answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        files = [{"rfilename": file} for file in self.hub.repositories[name]]
        return Answer.of_json({
            "id": name, "modelId": name, "sha": self.hub.commit(name), "siblings": files,
            "private": self.private.get(name, False), "tags": [], "downloads": 0, "likes": 0,
        })  # fmt: skip

    def preupload(self, request: Request, match: re.Match[str]) -> Answer:
        there = self.hub.repositories[match[1]]

        def mode(path: str) -> dict[str, Any]:
            large, found = path.endswith(LARGE), {"path": path, "shouldIgnore": False}
            if (data := there.get(path)) is not None:
                oid = hashlib.sha256(data) if large else hashlib.sha1(b"blob %d\0" % len(data) + data)
                found["oid"] = oid.hexdigest()
            return {**found, "uploadMode": "lfs" if large else "regular"}

        return Answer.of_json({"files": [mode(file["path"]) for file in request.json["files"]]})

    def batch(self, request: Request, match: re.Match[str]) -> Answer:
        def action(wanted: dict[str, Any]) -> dict[str, Any]:
            answer = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] in self.uploads:
                return answer
            href = f"{self.hub.url}/storage/uploads/{wanted['oid']}"
            return {**answer, "actions": {"upload": {"href": href}}}

        objects = [action(wanted) for wanted in request.json["objects"]]
        return Answer.of_json({"transfer": "basic", "objects": objects})

    def store(self, request: Request, match: re.Match[str]) -> Answer:
        if hashlib.sha256(request.body).hexdigest() != match[1]:
            return Answer(400, b"another file")
        self.uploads[match[1]] = request.body
        return Answer(200)

    def commit(self, request: Request, match: re.Match[str]) -> Answer:
        there = self.hub.repositories[match[1]]
        for line in request.body.splitlines():
            operation = json.loads(line)
            key, value = operation["key"], operation["value"]
            if key == "header":
                self.messages.append(value["summary"])
            elif key == "file":
                there[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                there[value["path"]] = self.uploads[value["oid"]]
        commit = self.hub.commit(match[1])
        return Answer.of_json({
            "success": True, "commitOid": commit, "commitUrl": f"{self._url(match[1])}/commit/{commit}",
        })  # fmt: skip
