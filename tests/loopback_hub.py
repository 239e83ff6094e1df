"""The Hugging Face hub, as far as its clients ask it for models and data sets, on the loopback.

It answers what `huggingface_hub` and `datasets` ask the real one: what a repository is, what it
holds, and its files, with their ETag, whole or from a byte on. It can also fail as the real one
does: with a status, or by closing the connection in the middle of a file.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

DATASETS = "datasets/"
"""What stands before the name of a data set's repository."""

PARQUET = "refs/convert/parquet"
"""The revision at which a copy of a data set in parquet is."""


@dataclass
class Fault:
    """What goes wrong.

    Attributes:
        where: a regular expression that is found in such a request, `METHOD /path`.
        status: that is answered; 0: the right answer, cut off.
        after: bytes of the body that are sent before the connection closes.
        times: in how many requests; then all is well.
    """

    where: str
    status: int = 0
    after: int = 0
    times: int = 1


class Said(NamedTuple):
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes


class LoopbackHub:
    """Serves folders as repositories.

    Attributes:
        repos: folder of each repository: `owner/name` of a model, `datasets/owner/name`.
        commits: of those repositories that have one by decree; the others' is made of their files.
        gated: those that want a token.
        tokens: those that are taken; any other is refused, whatever it is for.
        converted: folders of the copies in parquet that it has made of data sets.
        faults: what goes wrong, while it does.
        asked: method and path of every request, and from which byte on, if not from the first.
        address: for HF_ENDPOINT.
    """

    def __init__(self, repos: Mapping[str, Path]) -> None:
        self.repos = dict(repos)
        self.commits: dict[str, str] = {}
        self.gated: set[str] = set()
        self.tokens = {"hf_of_a_user"}
        self.converted: dict[str, Path] = {}
        self.faults: list[Fault] = []
        self.asked: list[str] = []
        self.address = ""

    def commit(self, repo: str) -> str:
        """Of the repository as it is now."""
        if repo in self.commits:
            return self.commits[repo]
        digests = [_sha256(file) for file in self._files(repo).values()]
        return hashlib.sha1("".join(digests).encode(), usedforsecurity=False).hexdigest()

    def files_asked(self) -> list[str]:
        """The files that were sent, by their names in their repositories, in order."""
        sent = (re.match(r"GET /.*?/resolve/[^/]*/([^? ]*)", request) for request in self.asked)
        return [unquote(match[1]) for match in sent if match]

    @contextmanager
    def listening(self) -> Iterator[LoopbackHub]:
        """Answers as long as the context lasts."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()

    def fault(self, request: str) -> Fault | None:
        """What goes wrong in a request, if something does."""
        for fault in self.faults:
            if fault.times and re.search(fault.where, request):
                fault.times -= 1
                return fault
        return None

    def answer(self, path: str, headers: Message, asked: bytes) -> Said:
        """What the hub says.

        Args:
            path: of the address.
            headers: of the request.
            asked: the request's body.
        """
        words = [unquote(word) for word in urlsplit(path).path.strip("/").split("/")]
        token = headers.get("Authorization")
        if token is not None and token.removeprefix("Bearer ") not in self.tokens:
            message = "Invalid credentials in Authorization header"
            return Said(401, {"X-Error-Message": message}, b"")
        api = words[0] == "api"
        words = words[1:] if api else words
        kind = words.pop(0) + "/" if words[0] in ("models", "datasets") else ""
        repo = kind.removeprefix("models/") + "/".join(words[:2])
        words = words[2:]
        if repo not in self.repos:
            return Said(401, {"X-Error-Code": "RepoNotFound"}, b"")
        if repo in self.gated and not headers.get("Authorization"):
            return Said(401, {"X-Error-Code": "GatedRepo"}, b"")
        if api and words == ["refs"]:
            return self._refs(repo)
        asked_for = words[1] if len(words) > 1 else "main"
        copy = f"{repo}@{PARQUET}"
        if repo in self.converted and asked_for in (PARQUET, self.commit(copy)):
            repo = copy
        elif asked_for not in ("main", self.commit(repo)):
            return Said(404, {"X-Error-Code": "RevisionNotFound"}, b"")
        if api:
            return self._info(repo, words, urlsplit(path).query, asked)
        return self._file(repo, "/".join(words[2:]), headers.get("Range", ""))

    def _refs(self, repo: str) -> Said:
        """Its branches and what else has a name."""
        converts: list[dict[str, str]] = []
        if repo in self.converted:
            commit = self.commit(f"{repo}@{PARQUET}")
            converts.append({"name": "parquet", "ref": PARQUET, "targetCommit": commit})
        told = {"branches": [], "tags": [], "converts": converts}
        return Said(200, {"Content-Type": "application/json"}, json.dumps(told).encode())

    def _info(self, repo: str, words: list[str], query: str, asked: bytes) -> Said:
        """What a repository is, or what is in it."""
        files = self._files(repo)
        told: object
        if words and words[0] == "tree":
            told = self._tree(files, "/".join(words[2:]), "recursive=true" in query.lower())
        elif words and words[0] == "paths-info":
            names = json.loads(asked)["paths"]
            told = [_entry(name, files[name]) for name in names if name in files]
        else:
            siblings = [{"rfilename": name} for name in files]
            name = repo.removeprefix(DATASETS).partition("@")[0]
            told = {"id": name, "sha": self.commit(repo), "private": False}
            told |= {"siblings": siblings, "gated": repo in self.gated, "tags": []}
        return Said(200, {"Content-Type": "application/json"}, json.dumps(told).encode())

    def _tree(self, files: Mapping[str, Path], under: str, deep: bool) -> list[dict[str, object]]:
        prefix = f"{under}/" if under else ""
        inside = {name: file for name, file in files.items() if name.startswith(prefix)}
        listed = [
            _entry(name, file)
            for name, file in inside.items()
            if deep or "/" not in name.removeprefix(prefix)
        ]
        folders = {
            prefix + name.removeprefix(prefix).partition("/")[0]
            for name in inside
            if "/" in name.removeprefix(prefix)
        }
        oid = "0" * 40
        return [*listed, *({"type": "directory", "path": f, "oid": oid} for f in sorted(folders))]

    def _file(self, repo: str, name: str, wanted: str) -> Said:
        file = self._files(repo).get(name)
        headers = {"X-Repo-Commit": self.commit(repo)}
        if file is None:
            return Said(404, headers | {"X-Error-Code": "EntryNotFound"}, b"")
        body = file.read_bytes()
        headers |= {"ETag": f'"{_sha256(file)}"', "Accept-Ranges": "bytes"}
        if not (found := re.fullmatch(r"bytes=(\d+)-(\d*)", wanted)):
            return Said(200, headers, body)
        begin, end = int(found[1]), int(found[2] or len(body) - 1)
        part = body[begin : end + 1]
        headers |= {"Content-Range": f"bytes {begin}-{begin + len(part) - 1}/{len(body)}"}
        return Said(206, headers, part)

    def _files(self, repo: str) -> dict[str, Path]:
        copied, _, _ = repo.partition("@")
        folder = self.repos[repo] if copied == repo else self.converted[copied]
        found = sorted(file for file in folder.rglob("*") if file.is_file())
        return {str(file.relative_to(folder)): file for file in found}


def _handler(hub: LoopbackHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer()

        def do_HEAD(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def log_message(self, format: str, *args: object) -> None:
            """Nowhere."""

        def _answer(self) -> None:
            request = f"{self.command} {self.path}"
            wanted = self.headers.get("Range", "")
            hub.asked.append(f"{request} {wanted}".strip())
            asked = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            fault = hub.fault(request)
            if fault is not None and fault.status:
                said = Said(fault.status, {"Retry-After": "1"}, b"")
            else:
                said = hub.answer(self.path, self.headers, asked)
            self.send_response(said.status)
            for key, value in said.headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(said.body)))
            self.end_headers()
            if self.command == "HEAD":
                return
            if fault is not None and not fault.status:
                self.wfile.write(said.body[: fault.after])
                self.close_connection = True
            else:
                self.wfile.write(said.body)

    return Handler


def _entry(name: str, file: Path) -> dict[str, object]:
    oid = hashlib.sha1(file.read_bytes(), usedforsecurity=False).hexdigest()
    return {"type": "file", "path": name, "size": file.stat().st_size, "oid": oid}


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
