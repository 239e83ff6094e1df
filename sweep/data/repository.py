"""A data set's repository on the Hugging Face hub: its commit, its splits and files as `datasets`.

Its cache, its mirrors and its offline mode are those of the libraries. What is wrong is told by the
setting that says otherwise, wherever that stands: of a corpus of `conf/`, in its entry there; of a
data set of one's own choice, beside its source.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

from sweep.data.source import Origin
from sweep.hub import STREAM_WAITS, WAITS, asking, patiently
from sweep.hub_errors import OtherRevision
from sweep.refusal import Refusal, listed

FORMATS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".parquet": "parquet", ".txt": "text"}
"""How `datasets` calls the formats of data files."""

NO_DATA = [".gitattributes", "LICENSE*", "*.py", "*.png"]
"""Files beside the data that `datasets` does not fetch; what else is missing may be of the data."""

COMMIT = re.compile("[0-9a-f]{40}")
"""A revision that fixes the rows."""

T = TypeVar("T")


@dataclass(frozen=True)
class Repository:
    """A data set on the hub.

    Attributes:
        name: `owner/name`.
        revision: branch, tag or commit.
        config: its configuration, where it has several.
        place: under which its settings stand, from the top; None: where the source itself stands.
        chosen: the setting by which it was chosen, and its value.
    """

    name: str
    revision: str
    config: str | None
    place: str | None
    chosen: tuple[str, str]

    def wrong(self, setting: str, value: object, reason: str) -> Refusal:
        """What is wrong with one of its settings."""
        if self.place is None or setting == self.chosen[0]:
            return Refusal(setting, value, reason)
        return Refusal(f"{self.place}.{setting}", value, reason, placed=True)

    def origin(self, corpus: str) -> Origin:
        """What identifies its rows in results."""
        return Origin(corpus, "hub", self.commit(), self.name)

    def commit(self) -> str:
        """The commit that a branch or a tag stands for now; without the hub, in its cache."""
        if COMMIT.fullmatch(self.revision):
            return self.revision
        return self._had(partial(_commit, self.name, self.revision))

    def split(self, name: str, first: int | None, setting: str) -> Any:
        """A split.

        Args:
            name: the split's.
            first: so many rows of it, streamed; None: all.
            setting: that names it.
        """
        where = (self.name, self.config, self.commit(), name)
        if first is None:
            return self._had(partial(_split, *where), WAITS, (setting, name))
        read = partial(_beginning, " ".join(map(str, where)), first, _rows, where)
        return self._had(read, STREAM_WAITS, (setting, name))

    def file(self, name: str, first: int | None, setting: str) -> Any:
        """A data file, as `split`."""
        where = (self.name, self.commit(), name)
        if first is None:
            return self._had(partial(_file, *where), WAITS, (setting, name))
        read = partial(_beginning, " ".join(where), first, _rows_of_file, where)
        return self._had(read, STREAM_WAITS, (setting, name))

    def check_columns(self, data: Any, wanted: Mapping[str, str]) -> None:
        """Raises: Refusal: for the setting that names a column which is not there."""
        for setting, column in wanted.items():
            if column not in data.column_names:
                there = listed(data.column_names, column)
                raise self.wrong(setting, column, f"{self.name} has the columns {there}")

    def _had(
        self,
        read: Callable[[], T],
        waits: Sequence[float] = WAITS,
        part: tuple[str, str] | None = None,
    ) -> T:
        """What is read from the hub or its cache; `part` is the setting that names it."""
        split = None if part is None else part[1]
        beside = {"revision": self.revision, "config": self.config, "split": split}
        try:
            own = of_ones_own(self.name) if self.place is None else ""
            with asking(*self.chosen, self.name, beside, of_ones_own=own):
                return patiently(read, waits)
        except Refusal as refusal:
            if refusal.placed:
                raise
            setting = part[0] if part and refusal.setting == "split" else refusal.setting
            raise self.wrong(setting, refusal.value, refusal.reason) from refusal


def of_ones_own(path: str) -> str:
    """What takes a file, where the name of a repository was given."""
    return f"a file is calib=local calib.path={path} (metric.NAME.source=local, .path)"


@cache
def _commit(repo: str, revision: str) -> str:
    """The same for a whole process: what is planned is what is read."""
    from huggingface_hub import snapshot_download

    found = Path(
        snapshot_download(repo, repo_type="dataset", revision=revision, allow_patterns="README.md")
    )
    with suppress(OSError):  # no folder is made for no file, and without one it is not found again
        found.mkdir(parents=True, exist_ok=True)
    return found.name


def _split(repo: str, config: str | None, revision: str, split: str) -> Any:
    """A split; where the hub is out of reach, also one of which the hub's cache has the files only.

    So has a cache that other tools have filled, or one beside which the cache of `datasets` is new.
    """
    import datasets
    from huggingface_hub import constants

    try:
        return _made_ready(repo, config, revision, split)
    except (OSError, ValueError):
        offline = datasets.config.HF_HUB_OFFLINE or constants.HF_HUB_OFFLINE
        folder = _whole(repo, revision) if offline else None
        if folder is None:
            raise
    return datasets.load_dataset(str(folder), config, split=split)


def _whole(repo: str, revision: str) -> Path | None:
    """The folder in the hub's cache that has all files of a commit, if it is known that it has."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        found = snapshot_download(
            repo,
            repo_type="dataset",
            revision=revision,
            ignore_patterns=NO_DATA,
            local_files_only=True,
        )
    except LocalEntryNotFoundError:
        return None
    # without the list of the files, whatever part of them is there passes for all
    return Path(found) if (Path(found).parents[1] / "trees" / f"{revision}.json").exists() else None


def _made_ready(repo: str, config: str | None, revision: str, split: str) -> Any:
    """A split as `datasets` loads it, if it is of the revision that was asked for.

    Raises:
        OtherRevision: where the hub is out of reach, `datasets` takes whatever revision it has.
    """
    import datasets

    data = datasets.load_dataset(repo, config, revision=revision, split=split)
    for file in data.cache_files:
        found = Path(file["filename"]).parent.name
        if COMMIT.fullmatch(found) and COMMIT.fullmatch(revision) and found != revision:
            raise OtherRevision(found, revision)
    return data


def _file(repo: str, revision: str, name: str) -> Any:
    """A data file, which the hub's cache knows by its name without a network.

    `datasets` does not: its own cache knows a file by what the hub says of it.
    """
    import datasets
    from huggingface_hub import hf_hub_download

    path = hf_hub_download(repo, name, repo_type="dataset", revision=revision)
    return datasets.load_dataset(_format(name), data_files={"rows": path}, split="rows")


def _beginning(
    called: str, first: int, read: Callable[..., Any], where: tuple[str | None, ...]
) -> Any:
    """The first rows of what is streamed; kept in the cache of `datasets`.

    What is kept is known by its name without a network, whichever version of this code made it.
    """
    import datasets

    key = hashlib.sha256(f"{called} {first}".encode()).hexdigest()[:16]
    return datasets.Dataset.from_generator(
        _streamed, gen_kwargs={"read": read, "where": where, "first": first}, fingerprint=key
    )


def _streamed(
    read: Callable[..., Any], where: tuple[str | None, ...], first: int
) -> Iterator[dict[str, Any]]:
    yield from read(*where).decode(False).take(first)  # nobody looks at pictures here


def _rows(repo: str, config: str | None, revision: str, split: str) -> Any:
    import datasets

    return datasets.load_dataset(repo, config, revision=revision, split=split, streaming=True)


def _rows_of_file(repo: str, revision: str, name: str) -> Any:
    import datasets

    files = {"rows": f"hf://datasets/{repo}@{revision}/{name}"}
    return datasets.load_dataset(_format(name), data_files=files, split="rows", streaming=True)


def _format(name: str) -> str:
    return FORMATS[Path(name.removesuffix(".gz")).suffix]
