"""The Hugging Face hub, as far as its clients ask it to take a folder, on the loopback address."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, Any]]


@dataclass
class Repo:
    """A repository.

    Attributes:
        private: whether it is.
        files: content by path.
        commits: summaries.
    """

    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)


class LoopbackUploads:
    """Takes repositories, large files as LFS objects, and commits.

    Attributes:
        writers, readers: tokens that may write, and those that may not.
        repos: by `owner/name`.
        objects: LFS objects by sha256.
        asked: method and path of every request.
        busy: statuses with which the next requests are answered.
        broken: no object is taken.
        address: for HF_ENDPOINT.
    """

    def __init__(self) -> None:
        self.writers = {"hf_writer"}
        self.readers = {"hf_reader"}
        self.repos: dict[str, Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.busy: list[int] = []
        self.broken = False
        self.address = ""

    @contextmanager
    def listening(self) -> Iterator[LoopbackUploads]:
        """Answers as long as the context lasts."""
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self._answer()

            def do_PUT(self) -> None:
                self._answer()

            def log_message(self, format: str, *args: object) -> None:
                """Nowhere."""

            def _answer(self) -> None:
                hub.asked.append(f"{self.command} {self.path}")
                body = self._body()
                token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
                status, said = hub.answer(self.path, token, body)
                text = json.dumps(said).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def _body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()

    def answer(self, path: str, token: str, body: bytes) -> Answer:
        """Status and content of what the hub says."""
        if self.busy:
            return self.busy.pop(0), {"error": "busy"}
        path = path.partition("?")[0]
        if path.startswith("/objects/"):
            return self._object(path.removeprefix("/objects/"), body)
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if token not in self.writers | self.readers:
            return 401, {"error": "Invalid username or password."}
        if token in self.readers:
            return 403, {"error": "You don't have the rights to create a model"}
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        words = path.strip("/").split("/")
        if path.endswith(".git/info/lfs/objects/batch"):
            return 200, self._batch(json.loads(body))
        repo = self.repos["/".join(words[2:4])]
        if words[4] == "preupload":
            return 200, self._modes(json.loads(body))
        assert words[4] == "commit"
        return 200, self._commit(repo, "/".join(words[2:4]), body)

    def _create(self, asked: dict[str, Any]) -> Answer:
        name = f"{asked['organization']}/{asked['name']}"
        url = {"url": f"{self.address}/{name}"}
        if name in self.repos:
            return 409, url
        self.repos[name] = Repo(asked.get("private") or asked.get("visibility") == "private")
        return 200, url

    def _modes(self, asked: dict[str, Any]) -> dict[str, Any]:
        """As the hub's own .gitattributes: weights are large files."""
        return {
            "files": [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for file in asked["files"]
            ]
        }

    def _batch(self, asked: dict[str, Any]) -> dict[str, Any]:
        objects = []
        for one in asked["objects"]:
            upload = {"upload": {"href": f"{self.address}/objects/{one['oid']}"}}
            known = one["oid"] in self.objects
            objects.append({**one, "authenticated": True, **({} if known else {"actions": upload})})
        return {"transfer": "basic", "objects": objects}

    def _object(self, oid: str, body: bytes) -> Answer:
        if self.broken or hashlib.sha256(body).hexdigest() != oid:
            return 400, {"error": "not what was announced"}
        self.objects[oid] = body
        return 200, {}

    def _commit(self, repo: Repo, name: str, body: bytes) -> dict[str, Any]:
        for line in body.decode().splitlines():
            said = json.loads(line)
            value = said["value"]
            if said["key"] == "header":
                repo.commits.append(value["summary"])
            elif said["key"] == "file":
                repo.files[value["path"]] = base64.b64decode(value["content"])
            elif said["key"] == "lfsFile":
                repo.files[value["path"]] = self.objects[value["oid"]]
        oid = hashlib.sha1(body, usedforsecurity=False).hexdigest()
        return {"commitUrl": f"{self.address}/{name}/commit/{oid}", "commitOid": oid}
