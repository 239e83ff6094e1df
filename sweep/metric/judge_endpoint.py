"""An OpenAI-compatible endpoint that answers one conversation at a time, or says why it does not.

The client of the openai package reads OPENAI_API_KEY from the environment, as the hub's client does
its token, so that no object of this project ever holds the key. The only file that imports it.

What may pass (no connection, time-outs, 408, 409, 429, 5xx) is tried again, after as long as
Retry-After says, else with exponential back-off and jitter. Not by the client, which neither waits
for long nor says how often it has tried: an endpoint that asks for more than `max_wait_s` is not
asked again.

The length limit of a reply has two names: `max_tokens`, which every endpoint knew, and
`max_completion_tokens`, which OpenAI's reasoning models want in its place. They refuse the first
with status 400 and name the second; from then on they are given that.

A body is read as it comes, for `timeout_s` and up to `LARGEST`: an endpoint that has begun to
answer may go on for ever.

A chat completion that comes with status 200 is a reply, as hostile as it may be: it is read here
and not by the client's models, which take every type for what they expect. Whatever else comes with
that status (a login page, a gateway's excuse) was said by no model, and is an error.
"""

from __future__ import annotations

import json
import logging
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from email.utils import parsedate_to_datetime
from typing import Any

from sweep.refusal import Refusal

LONGEST = 2_000
"""Characters of a reply; a longer one is no list of scores."""

LARGEST = 2**25
"""Bytes of a body, from which on it is cut: a model that thinks aloud stays far below."""

SHOWN = 120
"""Characters of what an endpoint says in a refusal."""

SECRET = 8
"""Characters from which on a key is a secret; `none`, for an endpoint without keys, is a word."""

KEPT = "the same command asks only for the rest"

FIRST, MOST = 0.5, 8.0
"""Seconds before a request is sent again where the endpoint names none: doubled each time up to
the second, less up to a quarter of them by chance."""

WORTH_SAYING = 10.0
"""Seconds; a longer pause is in the log."""

KEYLESS = (401, 403)
"""What an endpoint answers to a key that it does not take."""

log = logging.getLogger("sweep")

Count = Callable[[int], None]
"""Is told that so many requests more, or less, have been sent."""

LIMIT, NEWER = "max_tokens", "max_completion_tokens"


class Unreached(Refusal):
    """The endpoint is not there: whatever is asked of it next would wait in vain, too."""


_newer: set[tuple[str, str]] = set()
"""Addresses and models that have asked for the newer name in this process."""


@contextmanager
def connected(
    base_url: str, *, timeout_s: float, count: Count = lambda more: None
) -> Iterator[Any]:
    """A client of the endpoint; connecting is left to the first question.

    Args:
        base_url: of the endpoint, up to /chat/completions.
        timeout_s: seconds after which a request is given up: without a sign of the endpoint, and
            after its first one without the whole body.
        count: called with 1 before anything is sent, retries included; may end it by raising.

    Raises:
        Refusal: the package or a usable key is missing.
    """
    try:
        from openai import APITimeoutError, DefaultHttpxClient, OpenAI, OpenAIError
    except ImportError as error:
        reason = "needs the package openai: pip install 'compression-sweep[judge]'"
        raise Refusal("", "", reason) from error

    class Metered(OpenAI):  # type: ignore[misc]
        def _prepare_request(self, request: Any) -> None:
            count(1)

    class Bounded(DefaultHttpxClient):  # type: ignore[misc]
        def send(self, request: Any, **how: Any) -> Any:
            response = super().send(request, **{**how, "stream": True})
            body, began = bytearray(), time.monotonic()
            with closing(response):
                for part in response.iter_bytes():
                    body += part
                    if time.monotonic() - began > timeout_s:
                        raise APITimeoutError(request=request)
                    if len(body) > LARGEST:
                        break
            headers = dict(response.headers)
            headers.pop("content-encoding", None)  # what was packed is unpacked
            return type(response)(
                response.status_code, headers=headers, content=bytes(body), request=request
            )

    try:
        http = Bounded(timeout=timeout_s)
        client = Metered(base_url=base_url, timeout=timeout_s, max_retries=0, http_client=http)
    except OpenAIError:
        client = None
    key = "" if client is None else client.api_key
    if client is None or not key or not key.isascii() or not key.isprintable() or " " in key:
        state = "holds something that is no key" if key else "is not set"
        reason = f"wants a key, and OPENAI_API_KEY {state} in the environment: export it (any word "
        raise Refusal("base_url", base_url, f"{reason}for an endpoint without keys)") from None
    with client:
        yield client


def look(client: Any) -> None:
    """Ask at no price, by the list of models, whether the endpoint is there and takes the key.

    Whatever else it answers, it is there: many have no such list, and trouble may pass.

    Raises:
        Unreached: it is not there.
        Refusal: it does not take the key, or breaks off.
    """
    from openai import APIError

    try:
        client.models.with_raw_response.list()
    except APIError as error:
        status = getattr(error, "status_code", None)
        if status in KEYLESS or (status is None and (_away(error) or not _late(error))):
            raise _refusal(client, "", error, 1, None) from None


def ask(
    client: Any, request: Mapping[str, Any], *, retries: int, max_wait_s: float, count: Count
) -> dict[str, Any]:
    """One reply, see `read`; and `retries`, how many it took.

    Args:
        client: of `connected`.
        request: `model`, `messages`, `max_tokens` and what else goes into the body.
        retries: at most so many.
        max_wait_s: seconds that the endpoint may ask for before each.
        count: of `connected`; a request that was refused for the name of its limit does not count.

    Raises:
        Unreached: the endpoint is not there.
        Refusal: it did not answer, refused, or was not a model's; the setting that may be wrong.
    """
    from openai import APIError

    tries = 0
    while True:
        tries += 1
        try:
            body = _answered(client, request, count)
            break
        except APIError as error:
            wanted = _wanted(error)
            wait = _backed_off(tries) if wanted is None else wanted
            if not _may_pass(error) or tries > retries or wait > max_wait_s:
                too_long = wait if wait > max_wait_s else None
                # the key may be in the text of an error, or in that of its cause: neither goes on
                raise _refusal(client, request["model"], error, tries, too_long) from None
        if wait > WORTH_SAYING:
            log.info("  judge: asked to wait %.0f s before another try", wait)
        time.sleep(wait)
    found = read(body, client.api_key)
    if found is None:
        said = one_line(_clean(body.decode(errors="replace"), client.api_key), SHOWN)
        reason = (
            f"answers, but with no chat completion ({said or 'nothing'}); log in where that is "
        )
        reason += f"wanted, or give the address of the endpoint itself; {KEPT}"
        raise Refusal("base_url", str(client.base_url).rstrip("/"), reason)
    return {**found, "retries": tries - 1}


def _answered(client: Any, request: Mapping[str, Any], count: Count) -> bytes:
    """The body of the answer, whichever name the endpoint has for the length limit."""
    from openai import BadRequestError

    who = (str(client.base_url), str(request["model"]))
    name = NEWER if who in _newer else LIMIT
    try:
        return _sent(client, request, name)
    except BadRequestError as error:
        if name == NEWER or NEWER not in str(error):
            raise
        _newer.add(who)
        count(-1)
        return _sent(client, request, NEWER)


def _sent(client: Any, request: Mapping[str, Any], name: str) -> bytes:
    """The body of the answer to a request whose length limit has this name."""
    body = {name if key == LIMIT else key: value for key, value in request.items()}
    return bytes(client.chat.completions.with_raw_response.create(**body).content)


def _away(error: Any) -> bool:
    """Whether there was no connection."""
    return type(error.__cause__).__name__ in ("ConnectError", "ConnectTimeout", "ProxyError")


def _late(error: Any) -> bool:
    """Whether it took too long."""
    return type(error).__name__ == "APITimeoutError"


def _may_pass(error: Any) -> bool:
    """Whether the same request may be answered another time."""
    status = getattr(error, "status_code", None)
    return status is None or status in (408, 409, 429) or status >= 500


def _wanted(error: Any) -> float | None:
    """Seconds for which an answer asks to be left alone; None: it names none, or none that are.

    Source: RFC 9110, 10.2.3: a number, or a date.
    """
    response = getattr(error, "response", None)
    said = "" if response is None else response.headers.get("retry-after", "")
    try:
        seconds = float(said)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(said).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return seconds if seconds > 0 and math.isfinite(seconds) else None


def _backed_off(tries: int) -> float:
    """Seconds before another try."""
    return float(min(FIRST * 2 ** min(tries - 1, 16), MOST) * random.uniform(0.75, 1))


def read(body: bytes, key: str) -> dict[str, Any] | None:
    """What the body of an answer says; None if it is no chat completion, and no model was asked.

    Args:
        body: as it came.
        key: of the client, which an endpoint may send back.

    Returns:
        `completed`, whether there is a message in it; `reply`, its text, or None and the beginning
        of what came `instead`; `cut`, whether it ends at the length limit; `model`, who it says
        that it is; `tokens_in` and `tokens_out`.
    """
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or "choices" not in said:
        return None
    text = _at(said, "choices", 0, "message", "content")
    whole = isinstance(text, str) and len(text) <= LONGEST
    found: dict[str, Any] = {
        "completed": isinstance(_at(said, "choices", 0, "message"), dict),
        "reply": _clean(text, key) if whole else None,
        "cut": _at(said, "choices", 0, "finish_reason") == "length",
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


def _refusal(client: Any, model: str, error: Any, tries: int, too_long: float | None) -> Refusal:
    """What to say of an error that stayed after so many tries, or asks for too long a wait."""
    base_url = str(client.base_url).rstrip("/")
    status = getattr(error, "status_code", None)
    said = one_line(_clean(str(error), client.api_key), SHOWN)
    cause = one_line(_clean(str(error.__cause__ or error), client.api_key), SHOWN)
    after = f"after {tries} {'try' if tries == 1 else 'tries'}"
    if too_long is not None:
        reason = f"asks {after} to wait {too_long:.0f} s ({said}), longer than max_wait_s; raise it"
        reason += ", or come back later"
    elif _away(error):
        reason = f"cannot be reached {after} ({cause}); start it, or run where it can be reached"
        return Unreached("base_url", base_url, f"{reason}; {KEPT}")
    elif _late(error):
        reason = f"does not answer in time {after}; raise timeout_s, or lower parallel"
    elif status is None:
        reason = f"breaks off its answers {after} ({cause}); its own log may say why"
    elif status in KEYLESS:
        reason = f"does not take the key in OPENAI_API_KEY ({said}); export the right one"
    elif status == 404:
        reason = f"the endpoint {base_url} has no such model, or no chat completions ({said})"
        return Refusal("model", model, f"{reason}; {KEPT}")
    elif status == 429:
        reason = f"takes no more {after} ({said}); lower parallel, raise retries or the quota"
    else:
        reason = f"refuses {after} ({said})" if status >= 500 else f"refuses ({said})"
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
