"""The Hugging Face hub, as far as its clients ask it for models, on the loopback address."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


class LoopbackHub:
    """Serves folders as repositories of models.

    Attributes:
        repos: folder of each repository, by `owner/name`.
        gated: those that want a token.
        asked: method and path of every request.
        address: for HF_ENDPOINT.
    """

    def __init__(self, repos: Mapping[str, Path]) -> None:
        self.repos = dict(repos)
        self.gated: set[str] = set()
        self.asked: list[str] = []
        self.address = ""

    def commit(self, repo: str) -> str:
        """Of the repository as it is now."""
        names = sorted(self.repos[repo].iterdir())
        digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in names]
        return hashlib.sha1("".join(digests).encode(), usedforsecurity=False).hexdigest()

    @contextmanager
    def listening(self) -> Iterator[LoopbackHub]:
        """Answers as long as the context lasts."""
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer(whole=True)

            def do_HEAD(self) -> None:
                self._answer(whole=False)

            def log_message(self, format: str, *args: object) -> None:
                """Nowhere."""

            def _answer(self, *, whole: bool) -> None:
                hub.asked.append(f"{self.command} {self.path}")
                status, headers, body = hub.answer(self.path, self.headers.get("Authorization"))
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if whole:
                    self.wfile.write(body)

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()

    def answer(self, path: str, token: str | None) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of what the hub says."""
        words = unquote(urlsplit(path).path).strip("/").split("/")
        api = words[:2] == ["api", "models"]
        if api:
            words = words[2:]
        repo = "/".join(words[:2])
        if repo not in self.repos:
            return 401, {"X-Error-Code": "RepoNotFound"}, b""
        if repo in self.gated and not token:
            return 401, {"X-Error-Code": "GatedRepo"}, b""
        commit = self.commit(repo)
        revision = words[3] if len(words) > 3 else "main"
        if revision not in ("main", commit):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        if api:
            listed = [self._entry(file) for file in sorted(self.repos[repo].iterdir())]
            info = {"id": repo, "sha": commit, "siblings": [], "private": False}
            said = json.dumps(listed if words[2] == "tree" else info).encode()
            return 200, {"Content-Type": "application/json"}, said
        file = self.repos[repo] / "/".join(words[4:])
        if not file.is_file():
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}, b""
        etag = hashlib.sha256(file.read_bytes()).hexdigest()
        return 200, {"ETag": f'"{etag}"', "X-Repo-Commit": commit}, file.read_bytes()

    def _entry(self, file: Path) -> dict[str, object]:
        oid = hashlib.sha1(file.read_bytes(), usedforsecurity=False).hexdigest()
        return {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": oid}
