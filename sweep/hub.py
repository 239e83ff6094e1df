"""The Hugging Face hub: whether it can be asked, and how its refusals are told.

Where it is out of reach its libraries would try again for half a minute, with a line for each time,
before they look into their cache; so they are told to work offline as soon as that is known.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from urllib.parse import urlsplit
from urllib.request import getproxies

from sweep.refusal import Refusal

PATIENCE = 3.0
"""Seconds in which somebody must answer at the hub's address; else the cache alone is asked."""

FETCH = "where there is a network, python -m sweep.fetch with the words of this command fetches it"


@contextmanager
def asking(setting: str, value: str, repo: str) -> Iterator[None]:
    """Something is asked of the hub or its cache.

    Args:
        setting, value: by which it was chosen.
        repo: that holds it.

    Raises:
        Refusal: it is not to be had.
    """
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.errors import (
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        with _offline_where_out_of_reach():
            yield
    except GatedRepoError as error:
        reason = f"{repo} is gated; ask for access on its page, then log in (hf auth login) or set "
        raise Refusal(setting, value, f"{reason}HF_TOKEN") from error
    except RepositoryNotFoundError as error:
        reason = f"the hub has no {repo}, or only for those who log in (hf auth login, HF_TOKEN)"
        raise Refusal(setting, value, reason) from error
    except RevisionNotFoundError as error:
        reason = f"{repo} has no such revision on the hub; give a branch, a tag or a commit of it"
        raise Refusal(setting, value, reason) from error
    except (OSError, DatasetNotFoundError, ValueError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0].partition(". ")[0]
        reason = f"{repo} is neither in the cache nor to be had from the hub ({first}); {FETCH}"
        raise Refusal(setting, value, reason) from error


@contextmanager
def _offline_where_out_of_reach() -> Iterator[None]:
    """The libraries' own offline mode, as if HF_HUB_OFFLINE were set, and none of their remarks."""
    from datasets import config
    from datasets.utils import logging
    from huggingface_hub import constants

    before = config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE, logging.get_verbosity()
    if not config.HF_HUB_OFFLINE and not _answers(config.HF_ENDPOINT):
        config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
        logging.set_verbosity_error()
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before[:2]
        logging.set_verbosity(before[2])


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
