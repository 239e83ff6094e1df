"""Rows from the Hugging Face hub, through `datasets`: its cache, its mirrors, its offline mode."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from sweep.data.row import Instruction, Row, Text
from sweep.data.source import Origin, Packing, Part, Source
from sweep.refusal import Refusal

HELD_OUT = 0.1
"""Share of a corpus without splits that is kept for evaluation, chosen by content hash."""


@dataclass(frozen=True)
class Documents(Source):
    """A corpus of documents with a split of its own for evaluation.

    Attributes:
        corpus: the name in results.
        repo: repository on the hub.
        revision: branch, tag or commit.
        calibration, evaluation: name of the split, or the data file, for each part.
        files: whether `calibration` and `evaluation` name data files and not splits.
        config: the repository's configuration, where it has several.
        field: the column that holds the text.
        joined_by: what stands between documents of a running text; None: the EOS token.
    """

    corpus: str
    repo: str
    revision: str
    calibration: str
    evaluation: str
    files: bool = False
    config: str | None = None
    field: str = "text"
    packing: ClassVar[Packing | None] = "sample"
    joint: ClassVar[str | None] = "\n\n"

    def origin(self) -> Origin:
        """The revision fixes the rows as far as it is a commit."""
        return Origin(self.corpus, "hub", self.revision, self.repo)

    def rows(self, part: Part, seed: int | None) -> Iterator[Row]:
        """The documents of the part's split or file.

        Blank ones count in evaluation: the published perplexities on WikiText join all its rows.
        """
        where = self.calibration if part == "calibration" else self.evaluation
        options: dict[str, Any] = (
            {"data_files": {"rows": where}, "split": "rows"} if self.files else {"split": where}
        )
        data = _load(self.corpus, self.repo, self.config, self.revision, options)
        if self.field not in data.column_names:
            reason = f"{self.repo} has the columns {', '.join(data.column_names)}"
            raise Refusal("field", self.field, reason)
        for index in _order(len(data), seed):
            text = data[index][self.field]
            if text.strip() or part == "evaluation":
                yield Text(text)


@dataclass(frozen=True)
class Instructions(Source):
    """A corpus of instructions without splits: a tenth, chosen by content, is for evaluation.

    Attributes:
        corpus: the name in results.
        repo: repository on the hub.
        revision: branch, tag or commit.
        config: the repository's configuration, where it has several.
    """

    corpus: str
    repo: str
    revision: str
    config: str | None = None
    packing: ClassVar[Packing | None] = "concat"
    joint: ClassVar[str | None] = None

    def origin(self) -> Origin:
        """The revision fixes the rows as far as it is a commit."""
        return Origin(self.corpus, "hub", self.revision, self.repo)

    def rows(self, part: Part, seed: int | None) -> Iterator[Row]:
        """The rows of the part; the content hash decides to which part a row belongs."""
        data = _load(self.corpus, self.repo, self.config, self.revision, {"split": "train"})
        columns = set(data.column_names)
        if "instruction" not in columns or not columns & {"output", "instances"}:
            there = ", ".join(data.column_names)
            reason = f"{self.repo} has the columns {there}; must have instruction and output"
            raise Refusal("source", self.corpus, reason)
        for index in _order(len(data), seed):
            row = _instruction(data[index])
            if held_out(row) == (part == "evaluation"):
                yield row


def held_out(row: Instruction) -> bool:
    """Whether the row is for evaluation: decided by its question alone, for ever and anywhere."""
    key = f"{row.instruction.strip()}\xff{row.input.strip()}".encode()
    return int.from_bytes(hashlib.sha256(key).digest()[:8]) < HELD_OUT * 2**64


def _instruction(record: Mapping[str, Any]) -> Instruction:
    """Alpaca's columns, or Unnatural Instructions' `instances`, of which the first counts."""
    instances = record.get("instances")
    if instances:
        # `datasets` gives a list of structs, or a struct of lists in older versions
        first = (
            {key: values[0] for key, values in instances.items()}
            if isinstance(instances, Mapping)
            else instances[0]
        )
        return Instruction(record["instruction"], first.get("input") or "", first["output"])
    return Instruction(record["instruction"], record.get("input") or "", record["output"])


def _order(count: int, seed: int | None) -> list[int]:
    order = list(range(count))
    if seed is not None:
        random.Random(seed).shuffle(order)
    return order


def _load(
    corpus: str, repo: str, config: str | None, revision: str, options: dict[str, Any]
) -> Any:
    import datasets
    from datasets.exceptions import DatasetNotFoundError

    try:
        return datasets.load_dataset(repo, config, revision=revision, **options)
    except (OSError, DatasetNotFoundError, ValueError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise Refusal(
            "source",
            corpus,
            f"{repo} is neither in the cache nor to be had from the hub ({first}); fetch it where "
            "there is a network, or choose a local file",
        ) from error
