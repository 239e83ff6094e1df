"""An OpenAI-compatible endpoint that answers one conversation at a time, or says why it does not.

The client of the openai package does what is needed between the two: it reads OPENAI_API_KEY from
the environment, as the hub's client reads its token, so that no object of this project ever holds
the key; it retries what may pass (no connection, time-outs, 408, 409, 429, 5xx) with exponential
back-off and jitter, and waits as long as Retry-After says. The only file that imports openai.

The length limit of a reply has two names: `max_tokens`, which every endpoint knew, and
`max_completion_tokens`, which OpenAI's reasoning models want in its place. They refuse the first
with status 400 and name the second; from then on they are given that.

Whatever comes with status 200 is a reply, as hostile as it may be: it is read here and not by the
client's models, which take every type for what they expect.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from sweep.refusal import Refusal

LONGEST = 2_000
"""Characters of a reply; a longer one is no list of scores."""

SECRET = 8
"""Characters from which on a key is a secret; `none`, for an endpoint without keys, is a word."""

KEPT = "what is answered already is kept, and the same command asks only for the rest"

Count = Callable[[int], None]
"""Is told that so many requests more, or less, have been sent."""

LIMIT, NEWER = "max_tokens", "max_completion_tokens"

_newer: set[tuple[str, str]] = set()
"""Addresses and models that have asked for the newer name in this process."""


def check_address(url: str) -> None:
    """Raises: Refusal: not the beginning of the addresses of an endpoint, or not only that."""
    bare = re.sub(r"//[^/?#]*@", "//", re.split(r"[?#]", url)[0])
    if bare != url:
        reason = "must hold no user, password or query, which would be written into every result; "
        raise Refusal("base_url", bare, f"{reason}the key belongs into OPENAI_API_KEY")
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or re.search(r"[^!-~]", url):
        raise Refusal("base_url", url, "must be an address such as http://127.0.0.1:8000/v1")
    if url.rstrip("/").endswith("/completions"):
        raise Refusal("base_url", url, "must end where /chat/completions begins")


@contextmanager
def connected(
    base_url: str, *, timeout_s: float, retries: int, count: Count = lambda more: None
) -> Iterator[Any]:
    """A client of the endpoint; connecting is left to the first question.

    Args:
        base_url: of the endpoint, up to /chat/completions.
        timeout_s: seconds without a sign of the endpoint after which a request is given up.
        retries: of one request.
        count: called with 1 before anything is sent, retries included; may end it by raising.

    Raises:
        Refusal: the package or a usable key is missing.
    """
    try:
        from openai import OpenAI, OpenAIError
    except ImportError as error:
        reason = "needs the package openai: pip install 'compression-sweep[judge]'"
        raise Refusal("", "", reason) from error

    class Metered(OpenAI):  # type: ignore[misc]
        def _prepare_request(self, request: Any) -> None:
            count(1)

    try:
        client = Metered(base_url=base_url, timeout=timeout_s, max_retries=retries)
    except OpenAIError:
        client = None
    key = "" if client is None else client.api_key
    if client is None or not key or not key.isascii() or not key.isprintable() or " " in key:
        state = "holds something that is no key" if key else "is not set"
        reason = f"wants a key, and OPENAI_API_KEY {state} in the environment: export it (any word "
        raise Refusal("base_url", base_url, f"{reason}for an endpoint without keys)") from None
    with client:
        yield client


def ask(client: Any, request: Mapping[str, Any], count: Count) -> dict[str, Any]:
    """One reply, see `read`; and `retries`, how many it took.

    Args:
        client: of `connected`.
        request: `model`, `messages`, `max_tokens` and what else goes into the body.
        count: of `connected`; a request that was refused for the name of its limit does not count.

    Raises:
        Refusal: the endpoint did not answer, or refused; the setting that may be wrong.
    """
    from openai import APIError, BadRequestError

    who = (str(client.base_url), str(request["model"]))
    name = NEWER if who in _newer else LIMIT
    try:
        try:
            raw = _sent(client, request, name)
        except BadRequestError as error:
            if name == NEWER or NEWER not in str(error):
                raise
            _newer.add(who)
            count(-1)
            raw = _sent(client, request, NEWER)
    except APIError as error:
        # the key may be in the text of an error, or in that of its cause: neither goes further
        raise _refusal(client, request, error) from None
    return {**read(raw.content, client.api_key), "retries": raw.retries_taken}


def _sent(client: Any, request: Mapping[str, Any], name: str) -> Any:
    """The answer to a request whose length limit has this name."""
    body = {name if key == LIMIT else key: value for key, value in request.items()}
    return client.chat.completions.with_raw_response.create(**body)


def read(body: bytes, key: str) -> dict[str, Any]:
    """What the body of an answer says.

    Args:
        body: as it came.
        key: of the client, which an endpoint may send back.

    Returns:
        `completed`, whether a model was asked at all, and not a gateway or a login page answered;
        `reply`, its text, or None and the beginning of what came `instead`; `model`, who it says
        that it is; `tokens_in` and `tokens_out`.
    """
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    text = _at(said, "choices", 0, "message", "content")
    whole = isinstance(text, str) and len(text) <= LONGEST
    found: dict[str, Any] = {
        "completed": isinstance(_at(said, "choices", 0, "message"), dict),
        "reply": _clean(text, key) if whole else None,
    }
    if not whole:
        other = text if isinstance(text, str) else body.decode(errors="replace")
        found["instead"] = _clean(other, key)[:LONGEST]
    model = _at(said, "model")
    return found | {
        "model": _clean(model, key)[:LONGEST] if isinstance(model, str) else None,
        "tokens_in": _count(_at(said, "usage", "prompt_tokens")),
        "tokens_out": _count(_at(said, "usage", "completion_tokens")),
    }


def one_line(text: str, most: int) -> str:
    """The beginning of a stranger's text, without what would move a terminal's cursor."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split())[:most])


def _refusal(client: Any, request: Mapping[str, Any], error: Any) -> Refusal:
    """What to say of an error that stayed after all retries."""
    base_url = str(client.base_url).rstrip("/")
    status = getattr(error, "status_code", None)
    said = one_line(_clean(str(error), client.api_key), 300)
    tries = f"after {client.max_retries} retries"
    if status is None and type(error).__name__ == "APITimeoutError":
        reason = f"does not answer in time {tries}; raise timeout_s, or lower parallel"
    elif status is None:
        cause = one_line(_clean(str(error.__cause__ or error), client.api_key), 200)
        reason = f"cannot be reached {tries} ({cause}); start it, or run where it can be reached: "
        reason += "the nodes of many clusters have no internet, and a judge that is served there "
        reason += "needs none"
    elif status in (401, 403):
        reason = f"does not take the key in OPENAI_API_KEY ({said}); export the right one"
    elif status == 404:
        reason = f"the endpoint {base_url} has no such model, or no chat completions ({said})"
        return Refusal("model", request["model"], f"{reason}; {KEPT}")
    elif status == 429:
        reason = f"takes no more {tries} ({said}); lower parallel, raise retries or the quota"
    else:
        reason = f"refuses {tries} ({said})" if status >= 500 else f"refuses ({said})"
    return Refusal("base_url", base_url, f"{reason}; {KEPT}")


def _at(node: Any, *path: str | int) -> Any:
    """What lies there in a document of unknown form; None: nothing does."""
    for step in path:
        try:
            node = node[step]
        except (LookupError, TypeError):
            return None
    return node


def _count(value: Any) -> int:
    """A number of tokens; 0 where the endpoint gives none, or none that can be."""
    return value if type(value) is int and 0 <= value < 10**9 else 0


def _clean(text: str, key: str) -> str:
    """Text that can be written to a file, and in which the key is not."""
    text = text.encode(errors="replace").decode()
    return text.replace(key, "[key]") if len(key) >= SECRET else text
