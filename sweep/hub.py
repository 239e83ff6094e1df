"""The Hugging Face hub: whether it can be asked, and how its refusals are told.

Where it is out of reach its libraries would try again for half a minute, with a line for each time,
before they look into their cache; so they are told to work offline as soon as that is known. What a
busy hub refuses, and what breaks off, is asked for again.
"""

from __future__ import annotations

import ast
import errno
import logging
import re
import socket
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies

from sweep.refusal import Refusal, listed

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
"""What `datasets` says of a name that a data set has not; behind it, in a list, those it has."""

SEVERAL = re.compile(r"^Config name is missing")
"""What it says where a data set has several configurations; behind it the same."""

SCRIPT = "Dataset scripts are no longer supported"
"""What it says of a data set that is a program."""

PARQUET = "refs/convert/parquet"
"""Where the hub keeps copies that it makes of data sets, of some also that are programs."""

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

FETCH = "python -m sweep.fetch with these words fetches it where there is a network"

UNTAKEN = "the hub does not take the token of HF_TOKEN (or of hf auth login)"

NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")
"""What a repository is called."""

SAID = 80
"""Letters of what a library says that go into a refusal; all of it is in the trace."""


class OtherRevision(ValueError):
    """What is in the cache is not what was asked for.

    Args:
        found, asked: commits.
    """

    def __init__(self, found: str, asked: str) -> None:
        super().__init__(f"it holds revision {found[:12]}, asked for is {asked[:12]}")


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
) -> Iterator[None]:
    """Something is asked of the hub or its cache.

    Args:
        setting, value: by which it was chosen.
        repo: that holds it.
        beside: what the settings `revision`, `config` and `split` beside it are, where there are
            such: what is wrong with one of them is told by its name.
        half: what a copy in the cache lacks that is not whole, in words; None: there is none.

    Raises:
        Refusal: it is not to be had.
    """
    unasked: str | None = None
    try:
        with _offline_where_out_of_reach() as unasked:
            yield
    except Exception as error:
        if not _is_the_hubs(error):
            raise
        chosen: tuple[str, str | None] = setting, value
        for name, given in (beside or {}).items():
            if _is_of(name, given, error):
                chosen = name, given
        told = _Told(repo, chosen[1], error, unasked, half)
        raise Refusal(*chosen, told.reason()) from error


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
    return isinstance(error, kinds) or _is_of_the_client(error) or _is_script(error)


def of_the_hub(error: BaseException) -> bool:
    """Whether something on the way to the hub, or in its cache, is the cause."""
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HfHubHTTPError

    kinds = (DatasetsError, HfHubHTTPError, ConnectionError)
    return any(isinstance(one, kinds) or _tells(one) or _is_full(one) for one in _causes(error))


def _is_of_the_client(error: BaseException) -> bool:
    return any(kind.__module__.partition(".")[0].startswith("httpx") for kind in type(error).mro())


@dataclass(frozen=True)
class _Told:
    """A failure, as it is told.

    Attributes:
        repo: what was asked for.
        value: of the setting by which it is told; where that is the repository, it is not named.
        error: what came of it.
        unasked: why the cache alone was asked, in words; None: the hub was.
        half: see `asking`.
    """

    repo: str
    value: str | None
    error: BaseException
    unasked: str | None
    half: Callable[[], str | None]

    def reason(self) -> str:
        """What is wrong and what would be right, by the first cause that is known."""
        if _is_full(self.error):
            it = "it" if self.repo == self.value else self.repo
            return (
                f"the disk is full, so {it} could not be kept in {_caches()}; make room there, or "
                "set HF_HOME to a folder on another disk"
            )
        causes = list(_causes(self.error))
        found = [
            *map(self._of_its_parts, causes),
            *(
                say(cause)
                for cause in causes
                for say in (self._of_damage, self._of_the_permission, self._of_its_files)
            ),
        ]
        return next(filter(None, found), None) or self._not_to_be_had()

    def _of(self, verb: str) -> str:
        """The repository and what it does, without it where it was named just before."""
        return verb if self.repo == self.value else f"{self.repo} {verb}"

    def _of_its_parts(self, cause: BaseException) -> str | None:
        """What `datasets` says of a data set in which there is something else."""
        said = str(cause)
        if isinstance(cause, FileNotFoundError) and (name := STREAMED.search(said)):
            return self._of(f"holds no such file at this revision ({name[0]})")
        if SEVERAL.search(said):
            return self._of(f"has several configurations: {listed(_names(said))}; name one")
        for what, pattern in UNKNOWN.items():
            if pattern.search(said):
                there = listed(_names(said), self.value)
                return self._of(f"has no such {what}; there are: {there}")
        if _is_script(cause):
            if _is_in_parquet(self.repo):
                help = f"revision={PARQUET} is the hub's copy in parquet"
            else:
                help = "give its rows in a file, by calib=local or metric.NAME.source=local"
            return self._of(f"is a loading script, which datasets no longer runs; {help}")
        return None

    def _of_its_files(self, cause: BaseException) -> str | None:
        """What the hub says of a repository in which there is something else."""
        from huggingface_hub.errors import RemoteEntryNotFoundError, RevisionNotFoundError

        if isinstance(cause, RevisionNotFoundError):
            return self._of("has no such revision on the hub; give a branch, a tag or a commit")
        if isinstance(cause, RemoteEntryNotFoundError):
            return self._of(f"holds no such file at this revision ({cause.response.url})")
        return None

    def _of_the_permission(self, cause: BaseException) -> str | None:
        """It is not for everyone to see, or not for whoever asks."""
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

        if isinstance(cause, GatedRepoError) or _is_not_found(cause, "gated dataset"):
            access = "ask for access on its page, then log in (hf auth login) or set HF_TOKEN"
            return self._of(f"is gated; {access}")
        absent = _is_not_found(cause, "doesn't exist on the Hub")
        if absent or isinstance(cause, RepositoryNotFoundError):
            it = "such repository" if self.repo == self.value else self.repo
            return f"the hub has no {it}, or only for those who log in (hf auth login, HF_TOKEN)"
        if _status(cause) == 401:
            return f"{UNTAKEN}; renew it, or unset it"
        if _status(cause) == 403:
            return self._of("may not be read with the token of HF_TOKEN (or of hf auth login)")
        return None

    def _of_damage(self, cause: BaseException) -> str | None:
        """A file is there and cannot be read."""
        if not _is_damage(cause) or any(map(_tells, _causes(self.error))):
            return None
        *_, root = _causes(cause)
        again = "python -m sweep.fetch with these words fetches it again"
        said = _first(root)[:SAID]
        return self._of(f"cannot be read ({said}); delete its copy in {_caches()}, and {again}")

    def _not_to_be_had(self) -> str:
        """Neither in the cache nor from the hub."""
        there = self.half()
        if there:
            where = f"its copy in {_caches()} lacks {there}"
        elif isinstance(self.error, OtherRevision):
            where = self._of(f"is not in {_caches()} ({self.error})")
        else:
            where = self._of(f"is not in {_caches()}")
        return f"{where}, and {self.unasked or self._answered()}; {FETCH}"

    def _answered(self) -> str:
        """What came of asking the hub."""
        from huggingface_hub import constants

        told = next(filter(_tells, _causes(self.error)), self.error)
        if (status := _status(told)) is not None:
            return f"{constants.ENDPOINT} answered {status}"
        if isinstance(told, OtherRevision):
            return f"{constants.ENDPOINT} does not give it"
        if not _is_of_the_client(told):
            return f"{constants.ENDPOINT} does not give it ({_first(told)[:SAID]})"
        kinds = {kind.__name__ for kind in type(told).mro()}
        silent = kinds & {"ConnectError", "TimeoutException"}
        return f"{constants.ENDPOINT} {'does not answer' if silent else 'broke off'}"


def _names(said: str) -> list[object]:
    """Those in the list that a library puts behind what it says; none where it puts none."""
    found = re.search(r"\[.*?\]", said)
    with suppress(ValueError, SyntaxError):
        return list(ast.literal_eval(found[0])) if found else []
    return []


def _is_script(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and str(error).startswith(SCRIPT)


def _is_in_parquet(repo: str) -> bool:
    """Whether the hub says that it has a copy of a data set in parquet."""
    from huggingface_hub import HfApi

    try:
        refs = HfApi().list_repo_refs(repo, repo_type="dataset")
    except Exception as error:
        if not _is_the_hubs(error):
            raise
        return False
    return any(ref.ref == PARQUET for ref in refs.converts)


def _caches() -> str:
    """Where things that were fetched are kept, as this process is told."""
    import datasets
    from huggingface_hub import constants

    caches = [constants.HF_HUB_CACHE, str(datasets.config.HF_DATASETS_CACHE)]
    if all(Path(cache).is_relative_to(constants.HF_HOME) for cache in caches):
        return constants.HF_HOME
    return " and ".join(caches)


def _is_of(setting: str, given: str | None, error: BaseException) -> bool:
    """Whether what the setting names is not there, or there are several where it names none."""
    from huggingface_hub.errors import RemoteEntryNotFoundError, RevisionNotFoundError

    causes = list(_causes(error))
    if setting == "config":
        missed = SEVERAL if given is None else UNKNOWN["configuration"]
        return any(missed.search(str(cause)) for cause in causes)
    if given is None:
        return False
    if setting == "revision":
        return any(isinstance(cause, RevisionNotFoundError) for cause in causes)
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


def _is_not_found(error: BaseException, words: str) -> bool:
    """Whether `datasets` says so; it keeps nothing of the cause but words."""
    from datasets.exceptions import DatasetNotFoundError

    return isinstance(error, DatasetNotFoundError) and words in str(error)


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
