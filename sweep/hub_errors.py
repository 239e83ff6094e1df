"""What goes wrong with the Hugging Face hub: of which kind an error is, and how it is told.

Its libraries wrap what happened in errors of their own, other ones from version to version; so all
the causes behind an error are looked at, and the first that says what would be right is told.
"""

from __future__ import annotations

import ast
import errno
import re
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from sweep.refusal import listed

BUSY = (408, 429, 500, 502, 503, 504)
"""Statuses that may be another one in a moment."""

FULL = (errno.ENOSPC, errno.EDQUOT)

CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)
"""What the system says of a file that is not this user's to open or to make."""

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

CUT_SHORT = (EOFError, zlib.error)
"""What comes of a compressed file that is not whole."""

FETCH = "python -m sweep.fetch with these words fetches it where there is a network"

UNTAKEN = "the hub does not take the token of HF_TOKEN (or of hf auth login)"

SAID = 80
"""Letters of what a library says that go into a refusal; all of it is in the trace."""


class OtherRevision(ValueError):
    """What is in the cache is not what was asked for.

    Args:
        found, asked: commits.
    """

    def __init__(self, found: str, asked: str) -> None:
        super().__init__(f"it holds revision {found[:12]}, asked for is {asked[:12]}")


def is_the_hubs(error: Exception) -> bool:
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
class Told:
    """A failure, as it is told.

    Attributes:
        repo: what was asked for.
        value: of the setting by which it is told; where that is the repository, it is not named.
        error: what came of it.
        unasked: why the cache alone was asked, in words; None: the hub was.
        half: see `asking`.
        of_ones_own: the same, where a path of that name is there; else empty.
    """

    repo: str
    value: str | None
    error: BaseException
    unasked: str | None
    half: Callable[[], str | None]
    of_ones_own: str

    def reason(self) -> str:
        """What is wrong and what would be right, by the first cause that is known."""
        if _is_full(self.error):
            it = "it" if self.repo == self.value else self.repo
            return (
                f"the disk is full, so {it} could not be kept in {_caches()}; make room there, or "
                "set HF_HOME to a folder on another disk"
            )
        causes = list(_causes(self.error))
        if closed := next((one for one in causes if _is(one, CLOSED) and one.filename), None):
            own = "set HF_DATASETS_CACHE (for models HF_HOME) to a folder of your own"
            return self._of(f"cannot be read or kept ({closed.strerror}: {closed.filename}); {own}")
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

    @property
    def _hint(self) -> str:
        """At the end of a reason."""
        return f"; {self.of_ones_own}" if self.of_ones_own else ""

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
            reason = f"the hub has no {it}, or only for those who log in (hf auth login, HF_TOKEN)"
            return f"{reason}{self._hint}"
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
        said = first_sentence(root)[:SAID]
        return self._of(f"cannot be read ({said}); delete its copy in {_caches()}, and {again}")

    def _not_to_be_had(self) -> str:
        """Neither in the cache nor from the hub."""
        there = self.half()
        if there:
            where = f"its copy in {_caches()} lacks {there}"
        elif isinstance(self.error, OtherRevision):
            where = self._of(f"is not in {_caches()} ({self.error})")
        elif _is_in_part(self.repo):
            where = self._of(f"is in {_caches()} in part only, or not made ready")
        else:
            where = self._of(f"is not in {_caches()}")
        return f"{where}, and {self.unasked or self._answered()}; {FETCH}{self._hint}"

    def _answered(self) -> str:
        """What came of asking the hub."""
        from huggingface_hub import constants

        told = next(filter(_tells, _causes(self.error)), self.error)
        if (status := _status(told)) is not None:
            return f"{constants.ENDPOINT} answered {status}"
        if isinstance(told, OtherRevision):
            return f"{constants.ENDPOINT} does not give it"
        if not _is_of_the_client(told):
            return f"{constants.ENDPOINT} does not give it ({first_sentence(told)[:SAID]})"
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
        if not is_the_hubs(error):
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


def _is_in_part(repo: str) -> bool:
    """Whether the hub's cache has data of a data set, and not its card only."""
    from huggingface_hub import constants

    kept = Path(constants.HF_HUB_CACHE, f"datasets--{repo.replace('/', '--')}", "snapshots")
    return any(file.is_file() and file.name != "README.md" for file in kept.rglob("*"))


def is_of(setting: str, given: str | None, error: BaseException) -> bool:
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
    return any(_is(one, FULL) for one in _causes(error))


def _is(error: BaseException, numbers: Collection[int]) -> TypeGuard[OSError]:
    """Whether it is the system's, by one of these numbers."""
    return isinstance(error, OSError) and error.errno in numbers


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


def may_pass(error: BaseException) -> bool:
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


def first_sentence(error: BaseException) -> str:
    """The first sentence of what it says; of a `ValueError` the second too: what there is."""
    status = _status(error)
    if status is not None and status in BUSY:
        words = {429: "too many requests", 408: "too slow"}.get(status, "it is in trouble")
        return f"it answered {status}, {words}"
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return line if isinstance(error, ValueError) else line.partition(". ")[0]
