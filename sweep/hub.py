"""The Hugging Face hub: whether it can be asked, and how its refusals are told.

Where it is out of reach its libraries would try again for half a minute, with a line for each time,
before they look into their cache; so they are told to work offline as soon as that is known. What a
busy hub refuses, and what breaks off, is asked for again.
"""

from __future__ import annotations

import errno
import logging
import re
import socket
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies

from sweep.refusal import Refusal

T = TypeVar("T")
log = logging.getLogger("sweep")

PATIENCE = 3.0
"""Seconds in which somebody must answer at the hub's address; else the cache alone is asked."""

WAITS: tuple[float, ...] = (2.0, 8.0)
"""Seconds before what failed for a while is asked for again; the libraries wait too, inside."""

STREAM_WAITS = WAITS[:1]
"""The same for what is streamed, where the client below waits 23 s by itself each time."""

BUSY = (408, 429, 500, 502, 503, 504)
"""Statuses that may be another one in a moment."""

FULL = (errno.ENOSPC, errno.EDQUOT)

STREAMED = re.compile(r"hf://[^\s'\"]+")
"""The address of a file that is read while it comes."""

UNKNOWN = {
    "configuration": re.compile(r"^BuilderConfig '.*' not found"),
    "split": re.compile(r"^(Unknown|Bad) split"),
}
"""What `datasets` says of a name that a data set has not, and which there are."""

STREAMING = {
    "STREAMING_READ_MAX_RETRIES": 1,
    "STREAMING_READ_RETRY_INTERVAL": 0,
    "STREAMING_READ_SERVER_UNAVAILABLE_RETRY_INTERVAL": 0,
    "STREAMING_READ_RATE_LIMIT_RETRY_INTERVAL": 0,
}
"""Settings of `datasets`, which by itself tries twenty times, with up to a minute between.
The client below it waits as well, and so is waited here."""

CUT_SHORT = (EOFError, zlib.error)
"""What comes of a compressed file that is not whole."""

FETCH = "where there is a network, python -m sweep.fetch with the words of this command fetches it"


@contextmanager
def asking(
    setting: str,
    value: str,
    repo: str,
    beside: Mapping[str, str | None] | None = None,
    half: Callable[[], str | None] = lambda: None,
) -> Iterator[None]:
    """Something is asked of the hub or its cache.

    Args:
        setting, value: by which it was chosen.
        repo: that holds it.
        beside: what the settings `revision`, `config` and `split` beside it are, where there are
            such: what is wrong with one of them is told by its name.
        half: where in the cache a copy is that is not whole, and what it lacks, in words; None:
            there is none.

    Raises:
        Refusal: it is not to be had.
    """
    try:
        with _offline_where_out_of_reach():
            yield
    except Exception as error:
        if not _is_the_hubs(error):
            raise
        for name, given in (beside or {}).items():
            if given is not None and _is_of(name, error):
                setting, value = name, given
        raise Refusal(setting, value, _reason(repo, error, half)) from error


def patiently(ask: Callable[[], T], waits: Sequence[float] = WAITS) -> T:
    """What `ask` gives; asked again after a while, a few times, where the hub is only busy."""
    for wait in waits:
        try:
            return ask()
        except Exception as error:
            if not _may_pass(error):
                raise
            log.info("the hub: %s; asked again in %.0f s", _first(error), wait)
            time.sleep(wait)
    return ask()


def _is_the_hubs(error: Exception) -> bool:
    """Whether it is a failure of the hub, the way there, or the disk; not a mistake in code.

    The client below the libraries has errors of its own, and another name from version to version.
    """
    from datasets.exceptions import DatasetsError

    kinds = (OSError, ValueError, DatasetsError, *CUT_SHORT)
    return isinstance(error, kinds) or _is_of_the_client(error)


def of_the_hub(error: BaseException) -> bool:
    """Whether something on the way to the hub, or in its cache, is the cause."""
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HfHubHTTPError

    kinds = (DatasetsError, HfHubHTTPError, ConnectionError)
    return any(isinstance(one, kinds) or _tells(one) or _is_full(one) for one in _causes(error))


def _is_of_the_client(error: BaseException) -> bool:
    return any(kind.__module__.partition(".")[0].startswith("httpx") for kind in type(error).mro())


def _reason(repo: str, error: BaseException, half: Callable[[], str | None]) -> str:
    """What is wrong and what would be right, by the first cause that is known."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if _is_full(error):
        return (
            f"the disk is full, so {repo} could not be kept in {_caches()}; make "
            "room there, or set HF_HOME to a folder on another disk"
        )
    for cause in _causes(error):
        if isinstance(cause, FileNotFoundError) and (name := STREAMED.search(str(cause))):
            return f"{repo} holds no such file at this revision ({name[0]})"
        for what, said in UNKNOWN.items():
            if said.search(str(cause)):
                return f"{repo} has no such {what} ({_first(cause)})"
    for cause in _causes(error):
        if _is_damage(cause) and not any(map(_tells, _causes(error))):
            *_, root = _causes(cause)
            return (
                f"{repo} cannot be read ({_first(root)}); if its copy in {_caches()} "
                f"is damaged, delete it there: {FETCH}"
            )
        if isinstance(cause, GatedRepoError) or _tells_of_a_gate(cause):
            return (
                f"{repo} is gated; ask for access on its page, then log in (hf auth login) or set "
                "HF_TOKEN"
            )
        if isinstance(cause, RepositoryNotFoundError):
            return f"the hub has no {repo}, or only for those who log in (hf auth login, HF_TOKEN)"
        if isinstance(cause, RevisionNotFoundError):
            return f"{repo} has no such revision on the hub; give a branch, a tag or a commit of it"
        if isinstance(cause, RemoteEntryNotFoundError):
            return f"{repo} holds no such file at this revision ({cause.response.url})"
    told = next(filter(_tells, _causes(error)), error)
    if there := half():
        return (
            f"its copy in the cache, {there}, and the hub does not give it ({_first(told)}; asked "
            f"at {constants.ENDPOINT}); {FETCH}"
        )
    return (
        f"{repo} is neither in the cache nor to be had from the hub ({_first(told)}; looked in "
        f"{_caches()} and at {constants.ENDPOINT}); {FETCH}"
    )


def _caches() -> str:
    """Where things that were fetched are kept, as this process is told."""
    import datasets
    from huggingface_hub import constants

    caches = [constants.HF_HUB_CACHE, str(datasets.config.HF_DATASETS_CACHE)]
    if all(Path(cache).is_relative_to(constants.HF_HOME) for cache in caches):
        return constants.HF_HOME
    return " and ".join(caches)


def _is_of(setting: str, error: BaseException) -> bool:
    """Whether what the setting names is not there."""
    from huggingface_hub.errors import RemoteEntryNotFoundError, RevisionNotFoundError

    causes = list(_causes(error))
    if setting == "revision":
        return any(isinstance(cause, RevisionNotFoundError) for cause in causes)
    if setting == "config":
        return any(UNKNOWN["configuration"].search(str(cause)) for cause in causes)
    return any(
        isinstance(cause, RemoteEntryNotFoundError)
        or UNKNOWN["split"].search(str(cause))
        or (isinstance(cause, FileNotFoundError) and STREAMED.search(str(cause)))
        for cause in causes
    )


def _is_damage(error: BaseException) -> bool:
    """Whether a file is there and cannot be read."""
    from datasets.exceptions import DatasetGenerationError
    from pyarrow import ArrowInvalid

    return isinstance(error, (DatasetGenerationError, ArrowInvalid, *CUT_SHORT))


def _is_full(error: BaseException) -> bool:
    """Whether there was no room on a disk, wherever that came up."""
    return any(isinstance(one, OSError) and one.errno in FULL for one in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, that from which it came, and so on."""
    cause: BaseException | None = error
    seen: set[int] = set()
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _tells_of_a_gate(error: BaseException) -> bool:
    """`datasets` keeps nothing of its cause but words."""
    from datasets.exceptions import DatasetNotFoundError

    return isinstance(error, DatasetNotFoundError) and "gated dataset" in str(error)


def _tells(error: BaseException) -> bool:
    """Whether it is what happened on the way, and not what the libraries made of it."""
    return _status(error) is not None or _is_of_the_client(error) or _is_offline(error)


def _is_offline(error: BaseException) -> bool:
    from huggingface_hub.errors import OfflineModeIsEnabled

    return isinstance(error, OfflineModeIsEnabled)


def _may_pass(error: BaseException) -> bool:
    """Whether the same question may have another answer soon."""
    if _is_full(error):
        return False
    causes = list(_causes(error))
    busy = any(_status(cause) in BUSY for cause in causes)
    return busy or any(_is_of_the_client(c) and _status(c) is None for c in causes)


def _status(error: BaseException) -> int | None:
    """What the hub answered, if it did."""
    status: int | None = getattr(getattr(error, "response", None), "status_code", None)
    return status


def _first(error: BaseException) -> str:
    """The first sentence of what it says; of a `ValueError` the second too: what there is."""
    status = _status(error)
    if status is not None and status in BUSY:
        words = {429: "too many requests", 408: "too slow"}.get(status, "it is in trouble")
        return f"it answered {status}, {words}"
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return line if isinstance(error, ValueError) else line.partition(". ")[0]


@contextmanager
def _offline_where_out_of_reach() -> Iterator[None]:
    """The libraries' own offline mode, as if HF_HUB_OFFLINE were set, and none of their remarks."""
    from datasets import config
    from datasets.utils import logging as of_datasets
    from huggingface_hub import constants
    from huggingface_hub.utils import logging as of_hub

    before = config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    streaming = {name: getattr(config, name) for name in STREAMING}
    loud = of_datasets.get_verbosity(), of_hub.get_verbosity()
    if not config.HF_HUB_OFFLINE and not _answers(config.HF_ENDPOINT):
        config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    for name, value in STREAMING.items():
        setattr(config, name, value)
    of_datasets.set_verbosity_error()
    of_hub.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before
        for name, value in streaming.items():
            setattr(config, name, value)
        of_datasets.set_verbosity(loud[0])
        of_hub.set_verbosity(loud[1])


def _answers(endpoint: str) -> bool:
    """Whether a connection can be had; through a proxy it is taken for granted."""
    if getproxies().keys() & {"all", "http", "https"}:
        return True
    address = urlsplit(endpoint)
    port = address.port or (443 if address.scheme == "https" else 80)
    answered: list[bool] = []

    def knock() -> None:
        with suppress(OSError), socket.create_connection((address.hostname, port), PATIENCE):
            answered.append(True)

    # in a thread, because neither looking up a name nor trying its addresses in turn has a limit
    thread = Thread(target=knock, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return bool(answered)
