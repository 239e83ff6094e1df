"""Rows from a file of the user's: jsonl, json, csv, parquet or txt.

The readers of the standard library and of pyarrow are used directly, and not `datasets`, because a
malformed file must be answered with the line at fault.
"""

from __future__ import annotations

import csv
import hashlib
import json
import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, final

from sweep.data.row import Instruction, Row, Text
from sweep.data.source import Origin, Packing, Part, Source
from sweep.refusal import Refusal

Record = Mapping[str, Any]

PARAGRAPH = re.compile(r"\s*\S.*?(?:\s*\Z|\n\s*\n)", re.DOTALL)
"""A paragraph of a text with the white space that leads to it and the blank lines behind it."""

AROUND = re.compile(r"\A\s*\n|\n\s*\Z")
"""The blank lines around a paragraph; not the white space at the beginning of its first line."""

ENCODING = "utf-8-sig"  # a byte order mark, as spreadsheets write it, is no part of the text


@final
@dataclass(frozen=True)
class Local(Source):
    """A file of documents or of instructions.

    Attributes:
        path: the file; its ending says how it is read. A txt file's documents are its paragraphs,
            separated by blank lines.
        field: the column that holds a document's text; None: the Alpaca fields `instruction`,
            `input` (may be absent) and `output`, or self-instruct's `instances`, of which the
            first counts; or a column named `text`.
        corpus: the name in results.
    """

    path: str
    field: str | None = None
    corpus: str = "local"
    packing: ClassVar[Packing | None] = "concat"
    is_file: ClassVar[bool] = True

    @property
    def joint(self) -> str:
        """A blank line; nothing in a txt file, whose paragraphs bring what stands between them."""
        return "" if self._is_txt() else "\n\n"

    def origin(self) -> Origin:
        """The file's sha256 fixes its rows."""
        return Origin(self.corpus, "local", f"sha256:{file_sha256(self.path)}", self.path)

    def rows(self, part: Part, seed: int | None) -> Iterator[Row]:
        """All rows of the file, for either part: whoever uses one file twice is told so.

        For evaluation, paragraphs keep the white space around them: joined they are the file.
        """
        rows: list[Row] = []
        for place, record in self._records():
            rows.append(self._row(place, record, rows[0] if rows else None))
        if self._is_txt() and part == "calibration":
            rows = [Text(AROUND.sub("", row.text)) for row in rows if isinstance(row, Text)]
        rows = [row for row in rows if not (isinstance(row, Text) and not row.text.strip())]
        if not rows:
            raise Refusal("path", self.path, "the file holds no row; give one with text in it")
        if seed is not None:
            random.Random(seed).shuffle(rows)
        yield from rows

    def _is_txt(self) -> bool:
        return Path(self.path).suffix.lower() == ".txt"

    def _records(self) -> Iterator[tuple[str, Record]]:
        path = existing(self.path)
        reader = READERS.get(path.suffix.lower())
        if reader is None:
            raise Refusal("path", self.path, f"unknown kind of file; give {', '.join(READERS)}")
        try:
            yield from reader(path)
        except UnicodeDecodeError as error:
            raise Refusal("path", self.path, f"line {_bad_line(path)}: not UTF-8 text") from error
        except Malformed as error:
            raise Refusal("path", self.path, str(error)) from error

    def _row(self, place: str, record: Record, first: Row | None) -> Row:
        """The row of a record; the first row says what the others are expected to be."""

        def text(name: str) -> str:
            value = record[name]
            if not isinstance(value, str):
                kind = type(value).__name__
                raise Refusal("path", self.path, f"{place}: {name} is {kind}, must be text")
            if not _encodes(value):
                raise Refusal("path", self.path, f"{place}: {name} is not Unicode text")
            return value

        if self.field is not None:
            if self.field not in record:
                reason = f"{place} of {self.path} has {_names(record)}; name one that every row has"
                raise Refusal("field", self.field, reason)
            return Text(text(self.field))
        if "instruction" in record and isinstance(record.get("instances"), list):
            if not record["instances"] or not isinstance(record["instances"][0], Mapping):
                raise Refusal("path", self.path, f"{place}: instances is empty or not of objects")
            record = {**record, **record["instances"][0]}
        if "instruction" in record and "output" in record:
            given = text("input") if record.get("input") is not None else ""
            return Instruction(text("instruction"), given, text("output"))
        if "text" in record:
            return Text(text("text"))
        if first is not None:
            wanted = ("text",) if isinstance(first, Text) else ("instruction", "output")
            lacks = " and ".join(name for name in wanted if name not in record)
            raise Refusal("path", self.path, f"{place} lacks {lacks}, which the first row has")
        raise Refusal(
            "field",
            self.field,
            f"{place} of {self.path} has {_names(record)}; name the one to read, or "
            "call them instruction, input and output",
        )


class Malformed(Exception):
    """A place in a file that cannot be read."""


def existing(path: str) -> Path:
    """The path, if a readable file stands there; else a `Refusal` for the setting `path`."""
    file = Path(path).expanduser()
    if file.is_dir():
        raise Refusal("path", path, "is a folder; give a file")
    if not file.is_file():
        raise Refusal("path", path, "no such file")
    if file.stat().st_size == 0:
        raise Refusal("path", path, "the file is empty")
    return file


def file_sha256(path: str) -> str:
    """sha256 of a file's bytes, in hexadecimal."""
    file = existing(path)
    return _sha256(file, file.stat().st_size, file.stat().st_mtime_ns)


@cache
def _sha256(path: Path, size: int, mtime: int) -> str:
    """Read again only when size or time have changed: a grid asks for it a thousand times."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _encodes(text: str) -> bool:
    """Whether it is free of lone surrogates, which JSON can spell and no file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _bad_line(path: Path) -> int:
    """The number of the first line that is not UTF-8."""
    with path.open("rb") as file:
        lines = enumerate(file, 1)
        return next(i for i, line in lines if line.decode(errors="ignore").encode() != line)


def _names(record: Record) -> str:
    return "the fields " + ", ".join(map(str, record)) if record else "no fields"


def _object(place: str, value: object) -> Record:
    if not isinstance(value, Mapping):
        raise Malformed(f"{place}: must be an object with named fields")
    return value


def _read_jsonl(path: Path) -> Iterator[tuple[str, Record]]:
    with path.open(encoding=ENCODING) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    yield f"line {number}", _object(f"line {number}", json.loads(line))
                except json.JSONDecodeError as error:
                    raise Malformed(f"line {number}: no JSON: {error.msg}") from error


def _read_json(path: Path) -> Iterator[tuple[str, Record]]:
    try:
        rows = json.loads(path.read_text(encoding=ENCODING))
    except json.JSONDecodeError as error:
        raise Malformed(f"line {error.lineno}: no JSON: {error.msg}") from error
    if not isinstance(rows, list):
        raise Malformed("must hold a list of objects; for one object per line name it .jsonl")
    for number, row in enumerate(rows, 1):
        yield f"item {number}", _object(f"item {number}", row)


def _read_csv(path: Path) -> Iterator[tuple[str, Record]]:
    with path.open(encoding=ENCODING, newline="") as file:
        reader = csv.DictReader(file, strict=True)
        usual = csv.field_size_limit(path.stat().st_size)  # no field is longer than its file
        try:
            for row in reader:
                if None in row or None in row.values():
                    expected = len(reader.fieldnames or ())
                    raise Malformed(f"line {reader.line_num}: must have {expected} columns")
                yield f"line {reader.line_num}", row
        except csv.Error as error:
            raise Malformed(f"line {reader.line_num + 1}: {error}") from error
        finally:
            csv.field_size_limit(usual)


def _read_parquet(path: Path) -> Iterator[tuple[str, Record]]:
    import pyarrow
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise Malformed(f"no parquet: {str(error).splitlines()[0]}") from error
    for number, row in enumerate(rows, 1):
        yield f"row {number}", row


def _read_txt(path: Path) -> Iterator[tuple[str, Record]]:
    for number, found in enumerate(PARAGRAPH.finditer(path.read_text(encoding=ENCODING)), 1):
        yield f"paragraph {number}", {"text": found.group()}


READERS: dict[str, Callable[[Path], Iterator[tuple[str, Record]]]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".txt": _read_txt,
}
