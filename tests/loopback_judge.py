"""An OpenAI-compatible endpoint on the loopback address that does as it is told, good or bad."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

GRADES = {"accuracy": 8, "completeness": 7, "relevance": 9, "coherence": 10, "fluency": 6}

Step = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Nowhere."""

    def respond(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """One whole response."""
        self.send_response(status)
        for key, value in (headers or {"Content-Type": "application/json"}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def completion(content: Any, **other: Any) -> bytes:
    """The body of a chat completion."""
    message = {"role": "assistant", "content": content}
    usage = {"prompt_tokens": 300, "completion_tokens": 40, "total_tokens": 340}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    whole = {"id": "1", "object": "chat.completion", "created": 1, "model": "judge-2026"}
    return json.dumps({**whole, "choices": choices, "usage": usage, **other}).encode()


def says(content: Any, **other: Any) -> Step:
    """A completion with this text."""
    return lambda handler: handler.respond(200, completion(content, **other))


def grades(*numbers: int) -> Step:
    """A good reply; without numbers, `GRADES`."""
    return says(json.dumps(dict(zip(GRADES, numbers or GRADES.values(), strict=True))))


def body(text: bytes, status: int = 200, **headers: str) -> Step:
    """A response with this body; `_` in the name of a header is a hyphen."""
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return lambda handler: handler.respond(status, text, named or None)


def cut(handler: Handler) -> None:
    """The connection ends in the middle of a good reply."""
    whole = completion(json.dumps(GRADES))
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(whole)))
    handler.end_headers()
    handler.wfile.write(whole[:50])
    handler.close_connection = True


def gone(handler: Handler) -> None:
    """The connection ends without a word."""
    handler.close_connection = True


def endless(part: bytes, pause: float = 0.0, status: int = 200) -> Step:
    """A body that begins and does not end, one part after the other."""

    def step(handler: Handler) -> None:
        handler.send_response(status)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        while True:
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
            time.sleep(pause)

    return step


def slow(handler: Handler) -> None:
    """The reply comes after a second."""
    time.sleep(1.0)
    grades()(handler)


class LoopbackJudge:
    """Answers as long as `listening` lasts.

    Attributes:
        script: what the next requests are answered with, one step each.
        usual: what all others are answered with.
        models: what the question for its models is answered with, which costs nothing.
        looks: how often that was asked.
        asked: the body of every request.
        keys: the keys that came with them.
        thinks: seconds before each answer.
        most: how many requests there were at a time.
        address: for `base_url`.
    """

    def __init__(self) -> None:
        self.script: deque[Step] = deque()
        self.usual: Step = grades()
        self.models: Step = body(b'{"object": "list", "data": []}')
        self.looks = 0
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.thinks = 0.0
        self.most = 0
        self.address = ""
        self._now = 0
        self._lock = threading.Lock()

    def material(self) -> list[dict[str, str]]:
        """What was to be graded, of every request."""
        return [json.loads(request["messages"][1]["content"]) for request in self.asked]

    @contextmanager
    def listening(self, port: int = 0) -> Iterator[LoopbackJudge]:
        """Answers as long as the context lasts; on any port, if none is named."""
        judge = self

        class Answering(Handler):
            def do_GET(self) -> None:
                assert self.path == "/v1/models", self.path
                judge.looks += 1
                judge.models(self)

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert self.path == "/v1/chat/completions", self.path
                with judge._lock:
                    judge.asked.append(request)
                    judge.keys.append(self.headers.get("Authorization"))
                    step = judge.script.popleft() if judge.script else judge.usual
                    judge._now += 1
                    judge.most = max(judge.most, judge._now)
                time.sleep(judge.thinks)
                with judge._lock:
                    judge._now -= 1
                try:
                    step(self)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True  # whoever asked did not wait

        server = ThreadingHTTPServer(("127.0.0.1", port), Answering)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        self.address = f"http://127.0.0.1:{server.server_port}/v1"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
