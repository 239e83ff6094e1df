"""A Weights & Biases server, as far as its client asks it for runs, on the loopback address.

It keeps what real servers keep of a run: the configuration, the summary, the history by its lines
(a line that is sent again to the same place replaces the former, it is not added), files and
artifacts. It can be made to ask for patience (429), to fail for a while, and to go away.
"""

from __future__ import annotations

import gzip
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

KEY = "dummy0key0of0the0tests0" + 20 * "k"
"""Of the form that the client asks of a key; it must be found in no file."""

ENTITY = "somebody"


@dataclass
class Run:
    """What the server has of a run.

    Attributes:
        id, project: of the run.
        about: what `upsertBucket` was given last: group, display name, type of job, tags.
        config: values by their names.
        summary: the last one that was sent.
        lines: of the history.
        files: content by path.
        state: `running`, `finished` or `failed`.
        opened: how often it was created or resumed.
    """

    id: str
    project: str
    about: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    lines: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    state: str = "running"
    opened: int = 0

    def column(self, name: str) -> list[Any]:
        """The values of a key of the history, in order."""
        return [line[name] for line in self.lines if name in line]


def operation(place: str, body: bytes) -> str:
    """What a request asks for: `upload`, `file_stream`, or the name of what it asks of GraphQL."""
    if place.rstrip("/") != "/graphql":
        return "upload" if place.startswith("/upload/") else place.rpartition("/")[2]
    said = re.search(r"(?:query|mutation)\s+(\w+)", json.loads(body)["query"])
    return said[1] if said else "?"


class LoopbackWandb:
    """Answers the client.

    Attributes:
        runs: by id.
        artifacts: by id, what they were created with.
        charts, views: what a dashboard is made of.
        busy: so many of the next requests are answered with 429.
        falters: by operation (`upload`, `file_stream`, or of GraphQL), statuses with which the next
            requests are answered in place of what they ask for.
        away: connections are closed without an answer.
        asked: how often each operation was asked for, and each path of files.
        refused: times at which something else than what was asked for was said.
        most_at_once: requests that were in work at the same time.
        patience: seconds that it asks for with 429.
        address: for WANDB_BASE_URL.
    """

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.artifacts: dict[str, dict[str, Any]] = {}
        self.charts: list[dict[str, Any]] = []
        self.views: list[dict[str, Any]] = []
        self.busy = 0
        self.patience = "3"
        self.falters: dict[str, list[int]] = {}
        self.away = False
        self.asked: Counter[str] = Counter()
        self.refused: list[float] = []
        self.unknown: list[str] = []
        self.address = ""
        self._lock = threading.RLock()

    @contextmanager
    def listening(self) -> Iterator[LoopbackWandb]:
        """Answers as long as the context lasts."""
        wandb = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer()

            def do_POST(self) -> None:
                self._answer()

            def do_PUT(self) -> None:
                self._answer()

            def log_message(self, format: str, *args: object) -> None:
                """Nowhere."""

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                if wandb.away:
                    self.close_connection = True
                    return
                status, said = wandb.answer(self.path, body, self.headers.get("Authorization"))
                self.send_response(status)
                if status == 429:
                    self.send_header("Retry-After", wandb.patience)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """A client that is killed leaves in the middle of a request."""

        server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()

    def answer(self, path: str, body: bytes, key: str | None) -> tuple[int, bytes]:
        """Status and body of what the server says."""
        place = unquote(urlsplit(path).path)
        with self._lock:
            if self.busy and key:
                self.busy -= 1
                self.refused.append(time.monotonic())
                return 429, b'{"error": "rate limit exceeded"}'
            if statuses := self.falters.get(operation(place, body)):
                self.refused.append(time.monotonic())
                return statuses.pop(0), b'{"error": "not now"}'
            if place.startswith("/upload/"):  # as of a cloud's bucket: the address is the right
                _, _, id, name = place.split("/", 3)
                self.asked["upload"] += 1
                if id in self.runs:
                    self.runs[id].files[name] = body
                else:
                    self.artifacts[id].setdefault("files", {})[name] = body
                return 200, b"{}"
            if not key:
                return 401, b'{"errors": [{"message": "no key"}]}'
            if place.endswith("/file_stream"):
                self.asked["file_stream"] += 1
                return 200, json.dumps(self._stream(place.split("/")[4], json.loads(body))).encode()
            if place.rstrip("/") == "/graphql":
                asked = json.loads(body)
                name = operation(place, body)
                self.asked[name] += 1
                given = asked.get("variables") or {}
                data = getattr(self, f"_on_{name}", self._unknown(name, asked))(given)
                return 200, json.dumps({"data": data}).encode()
        self.unknown.append(path)
        return 404, b"{}"

    def _unknown(self, name: str, asked: Any) -> Any:
        def answer(given: Any) -> Any:
            self.unknown.append(name + " " + json.dumps(asked)[:1500])
            return {}

        return answer

    def _stream(self, id: str, sent: dict[str, Any]) -> dict[str, Any]:
        run = self.runs[id]
        for name, chunk in sent.get("files", {}).items():
            lines = [json.loads(line) for line in chunk["content"]] if "output" not in name else []
            if name == "wandb-history.jsonl":
                run.lines[chunk["offset"] : chunk["offset"] + len(lines)] = lines
            elif name == "wandb-summary.json" and lines:
                run.summary = lines[-1]
        if sent.get("complete"):
            run.state = "failed" if sent.get("exitcode") else "finished"
        return {}

    def _on_ServerFeaturesQuery(self, _: Any) -> Any:
        return {"serverInfo": {"features": []}}

    def _on_Viewer(self, _: Any) -> Any:
        teams = {"edges": [{"node": {"name": ENTITY}}]}
        return {
            "viewer": {
                "id": "VXNlcjox",
                "entity": ENTITY,
                "username": ENTITY,
                "name": ENTITY,
                "email": "",
                "admin": False,
                "flags": "{}",
                "teams": teams,
                "deletedAt": None,
                "apiKeys": {"edges": []},
            }
        }

    def _on_RunResumeStatus(self, given: Any) -> Any:
        run = self.runs.get(given["name"])
        model = {
            "id": "TW9kZWw=",
            "name": given["project"],
            "entity": {"id": "RW50aXR5", "name": ENTITY},
            "bucket": None,
        }
        if run is not None:
            model["bucket"] = {
                "id": run.id,
                "name": run.id,
                "summaryMetrics": json.dumps(run.summary),
                "displayName": run.about.get("displayName"),
                "logLineCount": 0,
                "historyLineCount": len(run.lines),
                "eventsLineCount": 0,
                "historyTail": json.dumps([json.dumps(line) for line in run.lines[-1:]]),
                "eventsTail": "[]",
                "config": json.dumps(run.config),
                "tags": run.about.get("tags") or [],
                "notes": None,
                # without it, the client takes the run for one that never began
                "wandbConfig": '{"t": 1}',
            }
        return {"model": model}

    def _on_UpsertBucket(self, given: Any) -> Any:
        inserted = given["name"] not in self.runs
        run = self.runs.setdefault(given["name"], Run(given["name"], given["project"]))
        run.opened += 1
        run.state = "running"
        run.about |= {key: value for key, value in given.items() if value is not None}
        if given.get("config"):
            run.config |= json.loads(given["config"])
        bucket = {
            "id": run.id,
            "name": run.id,
            "displayName": run.about.get("displayName"),
            "description": None,
            "config": json.dumps(run.config),
            "sweepName": None,
            "project": {
                "id": "cHJvamVjdA==",
                "name": run.project,
                "entity": {"id": "RW50aXR5", "name": ENTITY},
            },
            "historyLineCount": len(run.lines),
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}

    def _on_CreateRunFiles(self, given: Any) -> Any:
        files = [
            {"name": name, "uploadUrl": f"{self.address}/upload/{given['run']}/{name}"}
            for name in given["files"]
        ]
        return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}

    def _on_ArtifactType(self, _: Any) -> Any:
        return {"project": {"artifact": None}}

    def _on_XXHashDigestsEnabled(self, _: Any) -> Any:
        return {"entity": {"xxhashDigestsEnabled": False}}

    def _on_FetchArtifactDigestAlgorithm(self, _: Any) -> Any:
        return {"project": {"artifactType": None}}

    def _on_CreateArtifact(self, given: Any) -> Any:
        id = f"artifact{len(self.artifacts)}"
        self.artifacts[id] = dict(given["input"])
        artifact = {"id": id, "state": "PENDING", "artifactSequence": {"latestArtifact": None}}
        return {"createArtifact": {"artifact": artifact}}

    def _on_CreateArtifactManifest(self, given: Any) -> Any:
        return {"createArtifactManifest": self._manifest(given["artifactID"])}

    def _on_UpdateArtifactManifest(self, given: Any) -> Any:
        return {"updateArtifactManifest": self._manifest(given["artifactManifestID"])}

    def _manifest(self, id: str) -> Any:
        place = f"{self.address}/upload/{id}/manifest.json"
        file = {"id": id, "uploadUrl": place, "uploadHeaders": []}
        return {"artifactManifest": {"id": id, "file": file}}

    def _on_CreateArtifactFiles(self, given: Any) -> Any:
        edges = []
        for file in given["input"]["artifactFiles"]:
            id = file["artifactID"]
            edges.append(
                {
                    "node": {
                        "storagePath": file["name"],
                        "uploadUrl": f"{self.address}/upload/{id}/{file['name']}",
                        "uploadHeaders": [],
                        "uploadMultipartUrls": None,
                        "artifact": {"id": id},
                    }
                }
            )
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _on_CommitArtifact(self, given: Any) -> Any:
        id = given["artifactID"]
        self.artifacts[id]["committed"] = True
        return {"commitArtifact": {"artifact": {"id": id, "digest": "d"}}}

    def _on_GetDefaultEntity(self, _: Any) -> Any:
        return {"viewer": {"id": "VXNlcjox", "entity": ENTITY}}

    def _on_Runs(self, given: Any) -> Any:
        wanted = json.loads(given["filters"])["name"]["$in"]
        if not any(run.project == given["project"] for run in self.runs.values()):
            return {"project": None}
        edges = [
            {"node": self._node(self.runs[id]), "cursor": id} for id in wanted if id in self.runs
        ]
        runs = {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}
        return {
            "project": {
                "internalId": "1",
                "runCount": len(edges),
                "readOnly": False,
                "runs": runs,
            }
        }

    def _node(self, run: Run) -> Any:
        return {
            "projectId": "1",
            "id": run.id,
            "tags": run.about.get("tags") or [],
            "name": run.id,
            "displayName": run.about.get("displayName"),
            "sweepName": None,
            "state": run.state,
            "config": json.dumps(run.config),
            "group": run.about.get("groupName"),
            "jobType": run.about.get("jobType"),
            "commit": None,
            "readOnly": False,
            "createdAt": "2026-01-01T00:00:00",
            "heartbeatAt": "2026-01-01T00:00:00",
            "description": None,
            "notes": None,
            "systemMetrics": "{}",
            "summaryMetrics": json.dumps(run.summary),
            "historyLineCount": len(run.lines),
            "user": {"name": ENTITY, "username": ENTITY},
            "historyKeys": None,
        }

    def _on_CreateCustomChart(self, given: Any) -> Any:
        self.charts.append(given)
        id = f"{given['entity']}/{given['chartName']}"
        return {"createCustomChart": {"chart": {"id": id}}}

    def _on_ProjectViews(self, given: Any) -> Any:
        about = {"user": {"username": ENTITY, "photoUrl": None, "email": ""}}
        about |= {"updatedAt": "2026-01-01T00:00:00", "createdAt": "2026-01-01T00:00:00"}
        edges = [{"node": {**view, **about}, "cursor": view["id"]} for view in self.views]
        page = {"endCursor": None, "hasNextPage": False}
        return {"project": {"allViews": {"edges": edges, "pageInfo": page}}}

    def _on_GetProjects(self, _: Any) -> Any:
        user = {"id": "1", "name": ENTITY, "username": ENTITY, "email": "", "admin": False}
        user |= {"flags": "{}", "entity": ENTITY, "deletedAt": None, "apiKeys": None, "teams": None}
        edges = [
            {
                "node": {
                    "__typename": "Project",
                    "id": name,
                    "name": name,
                    "entityName": ENTITY,
                    "createdAt": "2026-01-01T00:00:00",
                    "isBenchmark": False,
                    "user": user,
                }
            }
            for name in {run.project for run in self.runs.values()}
        ]
        page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
        return {"models": {"edges": edges, "pageInfo": page}}

    def _on_upsertView(self, given: Any) -> Any:
        id = given.get("id") or f"view{len(self.views)}"
        view = {key: given[key] for key in ("name", "displayName", "description", "spec")}
        self.views = [one for one in self.views if one["id"] != id] + [{"id": id, **view}]
        project = {"id": "1", "name": given["projectName"], "entityName": ENTITY}
        said = {"id": id, "type": "runs", "project": project, "updatedAt": "2026-01-01T00:00:00"}
        return {"upsertView": {"view": {**view, **said}, "inserted": True}}

    def _on_ProjectInternalId(self, given: Any) -> Any:
        return {"project": {"id": given["projectName"], "internalId": "1"}}
