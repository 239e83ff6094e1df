"""Rows from the Hugging Face hub: the corpora of `conf/`, and any data set of one's own choice."""

from __future__ import annotations

import dataclasses
import hashlib
import random
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, final

from pydantic import Field

from sweep.data.record import Column, Malformed, Reading, Record, text_of
from sweep.data.repository import FORMATS, Repository, of_ones_own
from sweep.data.row import Instruction, Row, Text
from sweep.data.source import Origin, Packing, Part, Source
from sweep.hub import check_name
from sweep.refusal import Refusal, listed

HELD_OUT = 0.1
"""Share of a corpus without splits that is kept for evaluation, chosen by content hash."""


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
        Refusal: no name of a repository, `first` without data files, or a data file in a format
            that is not read.
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
    in_conf: ClassVar[bool] = True
    joint: ClassVar[str | None] = "\n\n"

    def __post_init__(self) -> None:
        _check_name(self.repo)
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
        return self._repository().origin(self.corpus)

    def _repository(self) -> Repository:
        return _of_conf(self.corpus, self.repo, self.revision, self.config)

    def rows(self, part: Part, seed: int | None) -> Iterator[Row]:
        """The documents of the part's split or file.

        Blank ones count in evaluation: the published perplexities on WikiText join all its rows.
        """
        where: str = getattr(self, part)
        repository = self._repository()
        if self.files:
            data = repository.file(where, self.first, part)
        else:
            data = repository.split(where, None, part)
        repository.check_columns(data, {"field": self.field})
        for index, record in _records(data, {self.field}, seed):
            row = Text(_text(repository, "field", self.field, index, record))
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
        instruction, input, output: the columns; an output may be absent where there is a column
            `instances`, of which the first then counts. None as an input: a column `input`, if
            there is one.

    Raises:
        Refusal: no name of a repository.
    """

    corpus: str
    repo: str
    revision: str
    config: str | None = None
    calibration: str = "train"
    evaluation: str = "train"
    instruction: str = "instruction"
    input: str | None = None
    output: str = "output"
    packing: ClassVar[Packing | None] = "concat"
    is_file: ClassVar[bool] = False
    in_conf: ClassVar[bool] = True
    joint: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        _check_name(self.repo)

    def origin(self) -> Origin:
        """The commit fixes the rows; a branch or a tag is looked up, in the cache if need be."""
        return self._repository().origin(self.corpus)

    def _repository(self) -> Repository:
        return _of_conf(self.corpus, self.repo, self.revision, self.config)

    def rows(self, part: Part, seed: int | None) -> Iterator[Row]:
        """The rows of the part; where there is one split, a row's content decides."""
        repository = self._repository()
        data = repository.split(getattr(self, part), None, part)
        wanted = {"instruction": self.instruction}
        if "instances" not in data.column_names:
            wanted |= {"output": self.output}
            wanted |= {} if self.input is None else {"input": self.input}
        repository.check_columns(data, wanted)
        read = {self.instruction, self.input or "input", self.output, "instances"}
        for index, record in _records(data, read, seed):
            row = self._row(index, record)
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
        for setting, column in (("output", self.output), ("input", self.input)):
            if column is not None and column not in answered:
                reason = f"row {index} of {self.repo} has {listed(answered, column)}"
                raise self._repository().wrong(setting, column, reason)
        given = "input" if self.input is None else self.input
        repository = self._repository()
        return Instruction(
            _text(repository, "instruction", self.instruction, index, record),
            _text(repository, "input", given, index, answered) if given in answered else "",
            _text(repository, "output", self.output, index, answered),
        )


@final
@dataclass(frozen=True)
class Dataset(Source):
    """Any data set of the hub: a split as it is, of documents, instructions or conversations.

    Either part is all of it: where one split is on both sides, calibration does without the rows
    on which a cell is measured, as with every corpus of the hub.

    Attributes:
        corpus: the name in results.
        repo: repository on the hub.
        revision: branch, tag or commit.
        config: the repository's configuration, where it has several.
        split: the name of the split.
        first: the first so many rows are the corpus, and it is streamed no further; None: the whole
            split, fetched.
        field, columns: which columns are read, see `sweep.data.local.Local`.

    Raises:
        Refusal: no name of a repository, or a field beside columns.
    """

    corpus: str
    repo: str
    revision: str = "main"
    config: str | None = None
    split: str = "train"
    first: Annotated[int, Field(ge=1)] | None = None
    field: str | None = None
    columns: dict[Column, str] = dataclasses.field(default_factory=dict)
    packing: ClassVar[Packing | None] = "concat"
    is_file: ClassVar[bool] = False
    joint: ClassVar[str | None] = "\n\n"

    def __post_init__(self) -> None:
        """See `Reading`."""
        _check_name(self.repo)
        self._reading()

    def _reading(self) -> Reading:
        return Reading(self.field, self.columns)

    def _repository(self) -> Repository:
        return Repository(self.repo, self.revision, self.config, None, ("repo", self.repo))

    def origin(self) -> Origin:
        """The commit fixes the rows; a branch or a tag is looked up, in the cache if need be."""
        return self._repository().origin(self.corpus)

    def rows(self, part: Part, seed: int | None) -> Iterator[Row]:
        """The rows of the split; blank documents are none, nor conversations without an answer."""
        reading, first = self._reading(), None
        data = self._repository().split(self.split, self.first, "split")
        for index, record in _records(data, reading.names, seed):
            given = {name: "" if value is None else value for name, value in record.items()}
            try:
                row = reading.row(given, f"row {index}", self.repo, first)
            except Malformed as error:
                raise Refusal("repo", self.repo, str(error)) from error
            first = first or row
            if row is not None and not (isinstance(row, Text) and not row.text.strip()):
                yield row


def _of_conf(corpus: str, repo: str, revision: str, config: str | None) -> Repository:
    """The repository of a corpus that has its entry in `conf/`, by which mistakes are told."""
    return Repository(repo, revision, config, f"corpora.{corpus}", ("source", corpus))


def _text(repository: Repository, setting: str, column: str, index: int, record: Record) -> str:
    """What a column holds; what is null is empty.

    Raises:
        Refusal: for the setting that names the column: something else than text.
    """
    if record[column] is None:
        return ""
    try:
        return text_of(record, column, f"row {index} of {repository.name}")
    except Malformed as error:
        raise repository.wrong(setting, column, str(error)) from error


def _check_name(repo: str) -> None:
    """Raises: Refusal: for `repo`."""
    check_name(repo, of_ones_own(repo))


def held_out(row: Instruction | Text) -> bool:
    """Whether the row is for evaluation: decided by its question alone, for ever and anywhere.

    Of a document, by its text.
    """
    asked = (
        row.text if isinstance(row, Text) else f"{row.instruction.strip()}\xff{row.input.strip()}"
    )
    return int.from_bytes(hashlib.sha256(asked.strip().encode()).digest()[:8]) < HELD_OUT * 2**64


def _records(data: Any, read: Collection[str], seed: int | None) -> Iterator[tuple[int, Record]]:
    """Rows in their order, with their numbers; columns that are not read are null, not decoded."""
    columns = data.select_columns([name for name in data.column_names if name in read])
    unread = dict.fromkeys(data.column_names)
    for index in _order(len(data), seed):
        yield index, {**unread, **columns[index]} if columns.column_names else unread


def _order(count: int, seed: int | None) -> list[int]:
    order = list(range(count))
    if seed is not None:
        random.Random(seed).shuffle(order)
    return order
