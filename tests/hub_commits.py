"""The Hub's endpoints that huggingface-hub writes through: create a repository, and commit.

with Hub() as hub:
    shelf = Shelf(hub)
    ... a process with HF_ENDPOINT=hub.url and HF_TOKEN ...
    assert hub.repositories["owner/name"]["README.md"] == ...
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field

from hosts import Answer, Hub, Request


@dataclass
class Shelf:
    """Repositories that can be written to. private: by name. messages: of the commits so far.

    bad_card: what is wrong with any README.md; None: nothing. Files come within the commit, as the Hub asks
    for small ones.
    """

    hub: Hub
    private: dict[str, bool] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    bad_card: str | None = None

    def __post_init__(self) -> None:
        self.hub.routes |= {
            ("POST", "/api/repos/create"): self.create,
            ("POST", "/api/validate-yaml"): self.validate,
            ("GET", "/api/models/([^/]+/[^/]+)(?:/revision/.+)?"): self.describe,
            ("POST", "/api/models/([^/]+/[^/]+)/preupload/main"): self.preupload,
            ("POST", "/api/models/([^/]+/[^/]+)/commit/main"): self.commit,
        }

    def create(self, request: Request, match: re.Match[str]) -> Answer:
        wanted = request.json
        name = f"{wanted['organization']}/{wanted['name']}"
        answer = {"url": f"{self.hub.url}/{name}", "name": name}
        if name in self.hub.repositories:
            return Answer.of_json({"error": "You already created this model repo", **answer}, 409)
        self.hub.repositories[name] = {}
        self.private[name] = wanted.get("visibility") == "private" or bool(wanted.get("private"))
        return Answer.of_json(answer)

    def validate(self, request: Request, match: re.Match[str]) -> Answer:
        errors = [{"message": self.bad_card}] if self.bad_card else []
        return Answer.of_json({"errors": errors, "warnings": []}, 400 if errors else 200)

    def describe(self, request: Request, match: re.Match[str]) -> Answer:
        name = match[1]
        if name not in self.hub.repositories:
            return Answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        return Answer.of_json({
            "id": name, "modelId": name, "sha": self.hub.commit(name), "siblings": [],
            "private": self.private.get(name, False), "tags": [], "downloads": 0, "likes": 0,
        })  # fmt: skip

    def preupload(self, request: Request, match: re.Match[str]) -> Answer:
        small = {"uploadMode": "regular", "shouldIgnore": False}
        return Answer.of_json({"files": [{"path": f["path"], **small} for f in request.json["files"]]})

    def commit(self, request: Request, match: re.Match[str]) -> Answer:
        for operation in map(json.loads, request.body.splitlines()):
            value = operation["value"]
            if operation["key"] == "header":
                self.messages.append(value["summary"])
            elif operation["key"] == "file":
                self.hub.repositories[match[1]][value["path"]] = base64.b64decode(value["content"])
        commit = self.hub.commit(match[1])
        address = f"{self.hub.url}/{match[1]}/commit/{commit}"
        return Answer.of_json({"success": True, "commitOid": commit, "commitUrl": address})
