"""Rows from the Hugging Face hub, through `datasets`: its cache, its mirrors, its offline mode."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

from sweep.data.row import Instruction, Row, Text
from sweep.data.source import Origin, Packing, Part, Source
from sweep.hub import asking
from sweep.refusal import Refusal

HELD_OUT = 0.1
"""Share of a corpus without splits that is kept for evaluation, chosen by content hash."""

FORMATS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".parquet": "parquet", ".txt": "text"}
"""How `datasets` calls the formats of data files."""

COMMIT = re.compile("[0-9a-f]{40}")
"""A revision that fixes the rows."""


@final
@dataclass(frozen=True)
class Documents(Source):
    """A corpus of documents with a split of its own for evaluation.

    Attributes:
        corpus: the name in results.
        repo: repository on the hub.
        revision: branch, tag or commit.
        calibration, evaluation: name of the split, or the data file, for each part.
        files: whether `calibration` and `evaluation` name data files and not splits: json lines,
            csv, parquet or txt, also gzipped.
        config: the repository's configuration, where it has several.
        field: the column that holds the text.
        packing: `concat` for documents that are shorter than a window.
    """

    corpus: str
    repo: str
    revision: str
    calibration: str
    evaluation: str
    files: bool = False
    config: str | None = None
    field: str = "text"
    packing: Packing = "sample"
    joint: ClassVar[str | None] = "\n\n"

    def origin(self) -> Origin:
        """The revision fixes the rows as far as it is a commit."""
        return Origin(self.corpus, "hub", self.revision, self.repo)

    def rows(self, part: Part, seed: int | None) -> Iterator[Row]:
        """The documents of the part's split or file.

        Blank ones count in evaluation: the published perplexities on WikiText join all its rows.
        """
        where = self.calibration if part == "calibration" else self.evaluation
        with asking("source", self.corpus, self.repo):
            if self.files:
                data = _file(self.repo, self.revision, where)
            else:
                data = _split(self.repo, self.config, self.revision, where)
        if self.field not in data.column_names:
            reason = f"{self.repo} has the columns {', '.join(data.column_names)}"
            raise Refusal("field", self.field, reason)
        for index in _order(len(data), seed):
            text = data[index][self.field]
            if text.strip() or part == "evaluation":
                yield Text(text)


@final
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
        with asking("source", self.corpus, self.repo):
            data = _split(self.repo, self.config, self.revision, "train")
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
