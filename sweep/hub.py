"""The Hugging Face hub: whether it can be asked, and asking it patiently.

Where it is out of reach its libraries would try again for half a minute, with a line for each time,
before they look into their cache; so they are told to work offline as soon as that is known. What a
busy hub refuses, and what breaks off, is asked for again.
"""

from __future__ import annotations

import logging
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies

from sweep.hub_errors import Told, first_sentence, is_of, is_the_hubs, may_pass
from sweep.refusal import Refusal

T = TypeVar("T")
log = logging.getLogger("sweep")

PATIENCE = 3.0
"""Seconds in which somebody must answer at the hub's address; else the cache alone is asked."""

WAITS: tuple[float, ...] = (2.0, 8.0)
"""Seconds before what failed for a while is asked for again; the libraries wait too, inside."""

STREAM_WAITS = WAITS[:1]
"""The same for what is streamed, where the client below waits 23 s by itself each time."""

PORTS = {"https": 443, "http": 80}
"""Where a hub listens, if its address does not say it."""

STREAMING = {
    "STREAMING_READ_MAX_RETRIES": 1,
    "STREAMING_READ_RETRY_INTERVAL": 0,
    "STREAMING_READ_SERVER_UNAVAILABLE_RETRY_INTERVAL": 0,
    "STREAMING_READ_RATE_LIMIT_RETRY_INTERVAL": 0,
}
"""Settings of `datasets`, which by itself tries twenty times, with up to a minute between.
The client below it waits as well, and so is waited here."""

NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")
"""What a repository is called."""


def check_name(repo: str, of_ones_own: str) -> None:
    """Hold a repository's name against the form that all have.

    Args:
        repo: the name.
        of_ones_own: what takes a path, which may be what was meant.

    Raises:
        Refusal: for the setting `repo`.
    """
    if NAME.fullmatch(repo):
        return
    path = Path(repo).expanduser()
    hint = f"; {of_ones_own}" if repo and (path.is_absolute() or path.exists()) else ""
    raise Refusal("repo", repo, f"must be OWNER/NAME, as on the hub{hint}")


@contextmanager
def asking(
    setting: str,
    value: str,
    repo: str,
    beside: Mapping[str, str | None] | None = None,
    half: Callable[[], str | None] = lambda: None,
    of_ones_own: str = "",
) -> Iterator[None]:
    """Something is asked of the hub or its cache.

    Args:
        setting, value: by which it was chosen.
        repo: that holds it.
        beside: what the settings `revision`, `config` and `split` beside it are, where there are
            such: what is wrong with one of them is told by its name.
        half: what a copy in the cache lacks that is not whole, in words; None: there is none.
        of_ones_own: what takes a path, which may be what was meant if there is one of that name.

    Raises:
        Refusal: it is not to be had.
    """
    unasked: str | None = None
    try:
        with _offline_where_out_of_reach() as unasked:
            yield
    except Exception as error:
        if not is_the_hubs(error):
            raise
        chosen: tuple[str, str | None] = setting, value
        for name, given in (beside or {}).items():
            if is_of(name, given, error):
                chosen = name, given
        if not Path(repo).exists():
            of_ones_own = ""
        told = Told(repo, chosen[1], error, unasked, half, of_ones_own)
        raise Refusal(*chosen, told.reason()) from error


def patiently(ask: Callable[[], T], waits: Sequence[float] = WAITS) -> T:
    """What `ask` gives; asked again after a while, a few times, where the hub is only busy."""
    for wait in waits:
        try:
            return ask()
        except Exception as error:
            if not may_pass(error):
                raise
            log.info("the hub: %s; asked again in %.0f s", first_sentence(error), wait)
            time.sleep(wait)
    return ask()


@contextmanager
def _offline_where_out_of_reach() -> Iterator[str | None]:
    """The libraries' own offline mode, as if HF_HUB_OFFLINE were set, and none of their remarks.

    Gives why they are in that mode, in words; None: they are not.
    """
    from datasets import config
    from datasets.utils import logging as of_datasets
    from huggingface_hub import constants
    from huggingface_hub.utils import logging as of_hub

    before = config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    streaming = {name: getattr(config, name) for name in STREAMING}
    loud = of_datasets.get_verbosity(), of_hub.get_verbosity()
    unasked: str | None = None
    if config.HF_HUB_OFFLINE:
        own = "HF_HUB_OFFLINE" if constants.HF_HUB_OFFLINE else "HF_DATASETS_OFFLINE"
        unasked = f"{own} is set"
    elif not _answers(config.HF_ENDPOINT):
        config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
        unasked = f"{config.HF_ENDPOINT} does not answer"
    for name, value in STREAMING.items():
        setattr(config, name, value)
    of_datasets.set_verbosity_error()
    of_hub.set_verbosity(logging.ERROR)
    try:
        yield unasked
    finally:
        config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before
        for name, value in streaming.items():
            setattr(config, name, value)
        of_datasets.set_verbosity(loud[0])
        of_hub.set_verbosity(loud[1])


def _answers(endpoint: str) -> bool:
    """Whether a connection can be had; through a proxy it is taken for granted.

    Raises:
        Refusal: what HF_ENDPOINT says is no address.
    """
    place = _place(endpoint)
    if place is None:
        reason = "must begin with https:// (or http://), and a host must follow"
        raise Refusal("HF_ENDPOINT", endpoint, reason, placed=True)
    if getproxies().keys() & {"all", "http", "https"}:
        return True
    answered: list[bool] = []

    def knock() -> None:
        with suppress(OSError), socket.create_connection(place, PATIENCE):
            answered.append(True)

    # in a thread, because neither looking up a name nor trying its addresses in turn has a limit
    thread = Thread(target=knock, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return bool(answered)


def check_address() -> None:
    """Before any library for the hub is loaded, since with such an address none can be.

    Raises:
        Refusal: HF_ENDPOINT cannot be taken apart.
    """
    from huggingface_hub import constants

    _place(constants.ENDPOINT)


def _place(endpoint: str) -> tuple[str, int] | None:
    """Host and port of an address; None: it has no host, or is of another kind."""
    try:
        address = urlsplit(endpoint)
        host, port = address.hostname, address.port
    except ValueError as error:
        raise Refusal("HF_ENDPOINT", endpoint, f"is no address ({error})", placed=True) from error
    return (host, port or PORTS[address.scheme]) if host and address.scheme in PORTS else None
