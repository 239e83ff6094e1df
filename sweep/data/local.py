"""Rows from a file of the user's: jsonl, json, csv, parquet or txt; all but parquet also gzipped.

The readers of the standard library and of pyarrow are used directly, and not `datasets`, because a
malformed file must be answered with the line at fault.
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
import hashlib
import json
import random
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from typing import Any, ClassVar, final

from sweep.data.record import Column, Malformed, Reading, Record
from sweep.data.row import Row, Text
from sweep.data.source import Origin, Packing, Part, Source
from sweep.refusal import Refusal

PARAGRAPH = re.compile(r"\s*\S.*?(?:(?<=\S)\s*\Z|\n\s*\n)", re.DOTALL)
"""A paragraph of a text with the white space that leads to it and the blank lines behind it. The
text's end is looked for behind words only: behind every blank of many it would take their square.
"""

AROUND = re.compile(r"\A\s*\n|\n\s*\Z")
"""The blank lines around a paragraph; not the white space at the beginning of its first line."""

CUT_SHORT = (gzip.BadGzipFile, EOFError, zlib.error)
"""What comes of a gzipped file that is none, or not whole."""

ENCODING = "utf-8-sig"  # a byte order mark, as spreadsheets write it, is no part of the text


@final
@dataclass(frozen=True)
class Local(Source):
    """A file of documents or of instructions.

    Attributes:
        path: the file; its ending says how it is read. A txt file's documents are its paragraphs,
            separated by blank lines.
        field: the column that holds a document's text, or a conversation; None: the Alpaca fields
            `instruction`, `input` (may be absent) and `output`, or self-instruct's `instances`, of
            which the first counts; or a column named `text`; or conversations in `messages` or
            `conversations`, of which the first answer counts.
        columns: what the fields of an instruction are called, where not as above; `system` is what
            stands before it.
        corpus: the name in results.

    Raises:
        Refusal: a field beside columns.
    """

    path: str
    field: str | None = None
    corpus: str = "local"
    columns: dict[Column, str] = dataclasses.field(default_factory=dict)
    packing: ClassVar[Packing | None] = "concat"
    is_file: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """See `Reading`."""
        self._reading()

    def _reading(self) -> Reading:
        return Reading(self.field, self.columns)

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
        rows = list(self._read())
        if self._is_txt() and part == "calibration":
            rows = [Text(AROUND.sub("", row.text)) for row in rows if isinstance(row, Text)]
        rows = [row for row in rows if not (isinstance(row, Text) and not row.text.strip())]
        if not rows:
            raise Refusal("path", self.path, "the file holds no row; give one with text in it")
        if seed is not None:
            random.Random(seed).shuffle(rows)
        yield from rows

    def _is_txt(self) -> bool:
        return _kind(Path(self.path)) == ".txt"

    def _read(self) -> Iterator[Row]:
        path = existing(self.path)
        kind, reading, first = _kind(path), self._reading(), None
        if kind not in READERS or (_is_gzipped(path) and kind == ".parquet"):
            reason = f"unknown kind of file; give {', '.join(READERS)}; all but parquet also .gz"
            raise Refusal("path", self.path, reason)
        try:
            for place, record in READERS[kind](path):
                row = reading.row(record, place, self.path, first)
                if row is not None:
                    first = first or row
                    yield row
        except CUT_SHORT as error:
            reason = f"is no gzip, or cut short ({str(error).splitlines()[0]})"
            raise Refusal("path", self.path, reason) from error
        except UnicodeDecodeError as error:
            raise Refusal("path", self.path, f"line {_bad_line(path)}: not UTF-8 text") from error
        except Malformed as error:
            raise Refusal("path", self.path, str(error)) from error


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


def _is_gzipped(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def _kind(path: Path) -> str:
    """The ending that says how it is read, by which a gzipped file is called too."""
    return Path(path.stem if _is_gzipped(path) else path).suffix.lower()


def _bytes(path: Path) -> gzip.GzipFile | BufferedReader:
    return gzip.GzipFile(path) if _is_gzipped(path) else path.open("rb")


def _text(path: Path, newline: str | None = None) -> TextIOWrapper:
    return TextIOWrapper(_bytes(path), encoding=ENCODING, newline=newline)


def _bad_line(path: Path) -> int:
    """The number of the first line that is not UTF-8."""
    with _bytes(path) as file:
        lines = enumerate(file, 1)
        return next(i for i, line in lines if line.decode(errors="ignore").encode() != line)


def _object(place: str, value: object) -> Record:
    if not isinstance(value, Mapping):
        raise Malformed(f"{place}: must be an object with named fields")
    return value


def _read_jsonl(path: Path) -> Iterator[tuple[str, Record]]:
    with _text(path) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield f"line {number}", _object(f"line {number}", _json(line.strip(), number))


def _json(text: str, line: int = 1) -> Any:
    """What a text says that begins in this line of a file."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise Malformed(f"line {line + error.lineno - 1}: no JSON: {error.msg}") from error
    except ValueError as error:
        raise Malformed(f"line {line}: no JSON: an integer of thousands of digits") from error
    except RecursionError as error:
        raise Malformed(f"line {line}: no JSON: nested too deep") from error


def _read_json(path: Path) -> Iterator[tuple[str, Record]]:
    with _text(path) as file:
        rows = _json(file.read())
    if not isinstance(rows, list):
        raise Malformed("must hold a list of objects; for one object per line name it .jsonl")
    for number, row in enumerate(rows, 1):
        yield f"item {number}", _object(f"item {number}", row)


def _read_csv(path: Path) -> Iterator[tuple[str, Record]]:
    with _text(path, newline="") as file:
        reader = csv.DictReader(file, strict=True)
        usual = csv.field_size_limit(2**31 - 1)
        try:
            names = reader.fieldnames or ()
            if twice := next((name for name in names if names.count(name) > 1), None):
                raise Malformed(f"line 1: two columns are called {twice}")
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
    with _text(path) as file:
        text = file.read()
    for number, found in enumerate(PARAGRAPH.finditer(text), 1):
        yield f"paragraph {number}", {"text": found.group()}


READERS: dict[str, Callable[[Path], Iterator[tuple[str, Record]]]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".txt": _read_txt,
}
