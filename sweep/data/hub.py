"""Rows from the Hugging Face hub, through `datasets`: its cache, its mirrors, its offline mode."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, final

from pydantic import Field

from sweep.data.row import Instruction, Row, Text
from sweep.data.source import Origin, Packing, Part, Source
from sweep.hub import STREAM_WAITS, WAITS, asking, patiently
from sweep.refusal import Refusal

HELD_OUT = 0.1
"""Share of a corpus without splits that is kept for evaluation, chosen by content hash."""

FORMATS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".parquet": "parquet", ".txt": "text"}
"""How `datasets` calls the formats of data files."""

COMMIT = re.compile("[0-9a-f]{40}")
"""A revision that fixes the rows."""

T = TypeVar("T")


@final
@dataclass(frozen=True)
class Documents(Source):
    """A corpus of documents.

    Attributes:
        corpus: the name in results.
        repo: repository on the hub.
        revision: branch, tag or commit.
        calibration, evaluation: name of the split, or the data file, for each part; the same for
            both: a tenth of its documents, chosen by content, is for evaluation.
        files: whether `calibration` and `evaluation` name data files and not splits: json lines,
            csv, parquet or txt, also gzipped.
        first: of a data file the first so many documents are the corpus, and it is streamed no
            further; None: the whole file, fetched.
        config: the repository's configuration, where it has several.
        field: the column that holds the text.
        packing: `concat` for documents that are shorter than a window.

    Raises:
        Refusal: `first` without data files, or a data file in a format that is not read.
    """

    corpus: str
    repo: str
    revision: str
    calibration: str
    evaluation: str
    files: bool = False
    first: Annotated[int, Field(ge=1)] | None = None
    config: str | None = None
    field: str = "text"
    packing: Packing = "sample"
    is_file: ClassVar[bool] = False
    joint: ClassVar[str | None] = "\n\n"

    def __post_init__(self) -> None:
        if not self.files:
            if self.first is not None:
                reason = "is of data files, and files is false; a split is read whole: leave it out"
                raise Refusal("first", self.first, reason)
            return
        for name in ("calibration", "evaluation"):
            file: str = getattr(self, name)
            if Path(file.removesuffix(".gz")).suffix not in FORMATS:
                reason = f"files is true, so this is a data file: {', '.join(FORMATS)}, also .gz"
                raise Refusal(name, file, reason)

    def origin(self) -> Origin:
        """The commit fixes the rows; a branch or a tag is looked up, in the cache if need be."""
        return _origin(self.corpus, self.repo, self.revision)

    def rows(self, part: Part, seed: int | None) -> Iterator[Row]:
        """The documents of the part's split or file.

        Blank ones count in evaluation: the published perplexities on WikiText join all its rows.
        """
        where = self.calibration if part == "calibration" else self.evaluation
        commit = self.origin().revision
        waits = WAITS
        if self.files and self.first is not None:
            read = partial(_beginning, self.repo, commit, where, self.first)
            waits = STREAM_WAITS
        elif self.files:
            read = partial(_file, self.repo, commit, where)
        else:
            read = partial(_split, self.repo, self.config, commit, where)
        data = _had(self.corpus, self.repo, read, waits)
        _check_columns(self.repo, data, {"field": self.field})
        for index in _order(len(data), seed):
            row = Text(data[index][self.field] or "")
            if self.calibration == self.evaluation:
                if row.text.strip() and held_out(row) == (part == "evaluation"):
                    yield row
            elif row.text.strip() or part == "evaluation":
                yield row


@final
@dataclass(frozen=True)
class Instructions(Source):
    """A corpus of instructions.

    Attributes:
        corpus: the name in results.
        repo: repository on the hub.
        revision: branch, tag or commit.
        config: the repository's configuration, where it has several.
        calibration, evaluation: name of the split for each part; the same for both: a tenth of its
            rows, chosen by content, is for evaluation.
        instruction, input, output: the columns; an input may be absent, and so may an output where
            there is a column `instances`, of which the first then counts.
    """

    corpus: str
    repo: str
    revision: str
    config: str | None = None
    calibration: str = "train"
    evaluation: str = "train"
    instruction: str = "instruction"
    input: str = "input"
    output: str = "output"
    packing: ClassVar[Packing | None] = "concat"
    is_file: ClassVar[bool] = False
    joint: ClassVar[str | None] = None

    def origin(self) -> Origin:
        """The commit fixes the rows; a branch or a tag is looked up, in the cache if need be."""
        return _origin(self.corpus, self.repo, self.revision)

    def rows(self, part: Part, seed: int | None) -> Iterator[Row]:
        """The rows of the part; where there is one split, a row's content decides."""
        where = self.calibration if part == "calibration" else self.evaluation
        read = partial(_split, self.repo, self.config, self.origin().revision, where)
        data = _had(self.corpus, self.repo, read)
        wanted = {"instruction": self.instruction}
        if "instances" not in data.column_names:
            wanted |= {"output": self.output}
        _check_columns(self.repo, data, wanted)
        for index in _order(len(data), seed):
            row = self._row(index, data[index])
            if self.calibration != self.evaluation or held_out(row) == (part == "evaluation"):
                yield row

    def _row(self, index: int, record: Mapping[str, Any]) -> Instruction:
        """Alpaca's columns, or Unnatural Instructions' `instances`, of which the first counts."""
        instances = record.get("instances")
        answered: Mapping[str, Any] = record
        if instances:
            # `datasets` gives a list of structs, or a struct of lists in older versions
            answered = (
                {key: values[0] for key, values in instances.items()}
                if isinstance(instances, Mapping)
                else instances[0]
            )
        if self.output not in answered:
            there = ", ".join(answered)
            raise Refusal("output", self.output, f"row {index} of {self.repo} has {there}")
        texts = (record[self.instruction], answered.get(self.input), answered[self.output])
        return Instruction(*(text or "" for text in texts))


def held_out(row: Instruction | Text) -> bool:
    """Whether the row is for evaluation: decided by its question alone, for ever and anywhere.

    Of a document, by its text.
    """
    asked = (
        row.text if isinstance(row, Text) else f"{row.instruction.strip()}\xff{row.input.strip()}"
    )
    return int.from_bytes(hashlib.sha256(asked.strip().encode()).digest()[:8]) < HELD_OUT * 2**64


def _check_columns(repo: str, data: Any, wanted: Mapping[str, str]) -> None:
    """Raises: Refusal: for the setting that names a column which is not there."""
    for setting, column in wanted.items():
        if column not in data.column_names:
            there = ", ".join(data.column_names)
            raise Refusal(setting, column, f"{repo} has the columns {there}")


def _order(count: int, seed: int | None) -> list[int]:
    order = list(range(count))
    if seed is not None:
        random.Random(seed).shuffle(order)
    return order


def _had(corpus: str, repo: str, read: Callable[[], T], waits: Sequence[float] = WAITS) -> T:
    """What is read from the hub or its cache; refused by the name of the corpus."""
    with asking("source", corpus, repo):
        return patiently(read, waits)


def _origin(corpus: str, repo: str, revision: str) -> Origin:
    return Origin(corpus, "hub", _commit(corpus, repo, revision), repo)


@cache
def _commit(corpus: str, repo: str, revision: str) -> str:
    """The commit that a branch or a tag stands for now; without the hub, in its cache.

    The same for a whole process: what is planned is what is read.
    """
    if COMMIT.fullmatch(revision):
        return revision
    from huggingface_hub import snapshot_download

    def snapshot() -> str:
        return snapshot_download(
            repo, repo_type="dataset", revision=revision, allow_patterns="README.md"
        )

    return Path(_had(corpus, repo, snapshot)).name


def _split(repo: str, config: str | None, revision: str, split: str) -> Any:
    """A split as `datasets` loads it, if it is of the revision that was asked for.

    Raises:
        ValueError: where the hub is out of reach, `datasets` takes whatever revision it has.
    """
    import datasets

    data = datasets.load_dataset(repo, config, revision=revision, split=split)
    for file in data.cache_files:
        found = Path(file["filename"]).parent.name
        if COMMIT.fullmatch(found) and COMMIT.fullmatch(revision) and found != revision:
            raise ValueError(f"the cache holds revision {found}, asked for is {revision}")
    return data


def _file(repo: str, revision: str, name: str) -> Any:
    """A data file, which the hub's cache knows by its name without a network.

    `datasets` does not: its own cache knows a file by what the hub says of it.
    """
    import datasets
    from huggingface_hub import hf_hub_download

    path = hf_hub_download(repo, name, repo_type="dataset", revision=revision)
    kind = FORMATS[Path(name.removesuffix(".gz")).suffix]
    return datasets.load_dataset(kind, data_files={"rows": path}, split="rows")


def _beginning(repo: str, revision: str, name: str, first: int) -> Any:
    """The first documents of a data file, streamed; kept in the cache of `datasets`.

    What is kept is known by its name without a network, whichever version of this code made it.
    """
    import datasets

    key = hashlib.sha256(f"{repo} {revision} {name} {first}".encode()).hexdigest()[:16]
    return datasets.Dataset.from_generator(
        _streamed,
        gen_kwargs={"repo": repo, "revision": revision, "name": name, "first": first},
        fingerprint=key,
    )


def _streamed(repo: str, revision: str, name: str, first: int) -> Iterator[dict[str, Any]]:
    import datasets

    kind = FORMATS[Path(name.removesuffix(".gz")).suffix]
    files = {"rows": f"hf://datasets/{repo}@{revision}/{name}"}
    rows = datasets.load_dataset(kind, data_files=files, split="rows", streaming=True)
    yield from rows.take(first)
