"""How a record becomes a row, whether it is of a file or of a data set: by the names of its fields.

Known are Alpaca's fields, self-instruct's `instances`, a document's `text`, and conversations as
OpenAI (`messages`: `role`, `content`) and ShareGPT (`conversations`: `from`, `value`) write them.
Other names are said by settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from sweep.data.row import Instruction, Row, Text
from sweep.refusal import Refusal, listed

Record = Mapping[str, Any]

Column = Literal["instruction", "input", "output", "system"]

CONVERSATIONS = ("messages", "conversations")
"""What a column of conversations is called."""

KNOWN = ("instruction", "input", "output", "instances", "text", *CONVERSATIONS)
"""Fields that are read where no setting names any."""

SPEAKERS = {"user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"} | {
    "chatgpt": "assistant",
    "model": "assistant",
    "system": "system",
    "developer": "system",
}
"""Who speaks, by the names in use."""


class Malformed(Exception):
    """A place in the data that cannot be read."""


@dataclass(frozen=True)
class Reading:
    """Which fields hold what.

    Attributes:
        field: a document's text, or a conversation; None: whichever is known.
        columns: what the fields of an instruction are called, where not as they are here.
    """

    field: str | None
    columns: Mapping[Column, str]

    def __post_init__(self) -> None:
        """Raises: Refusal: both a text and fields of an instruction."""
        if self.field is not None and self.columns:
            reason = "is of a document or a conversation, and columns are of instructions; set one"
            raise Refusal("field", self.field, reason)

    @property
    def names(self) -> frozenset[str]:
        """Of all fields that may be read."""
        return frozenset({*KNOWN, *self.columns.values()} if self.field is None else {self.field})

    def row(self, record: Record, place: str, of: str, first: Row | None = None) -> Row | None:
        """The row of a record; None: a conversation in which nobody is answered, or that is null.

        Args:
            record: the record.
            place: where it stands: `line 3`.
            of: the file or repository.
            first: the first row, which says what the others are expected to be.

        Raises:
            Refusal: for `field` or `columns`, a field that is not there.
            Malformed: a field that holds no text.
        """
        wanted = [(None, self.field)] if self.field is not None else list(self.columns.items())
        for setting, name in wanted:
            if name not in record:
                there = _names(record, name)
                reason = f"{place} of {of} has {there}; name one that every row has"
                raise Refusal(f"columns.{setting}" if setting else "field", name, reason)
        if self.field is not None:
            if _is_list(record[self.field]):
                return _exchange(record[self.field], place)
            if not record[self.field] and isinstance(first, Instruction):
                return None
            return Text(text_of(record, self.field, place))
        asked, answered = self._name("instruction"), self._name("output")
        if asked in record and _is_list(record.get("instances")):
            instances = _items(record["instances"])
            if not instances:
                raise Malformed(f"{place}: instances is empty or not of objects")
            record = {**record, **instances[0]}
        if asked in record and answered in record:
            return self._instruction(record, place)
        if "text" in record and not self.columns:
            return Text(text_of(record, "text", place))
        for name in () if self.columns else CONVERSATIONS:
            if name in record and (not record[name] or _is_list(record[name])):
                return _exchange(record[name] or [], place)
        raise self._lacks(record, place, of, first)

    def _name(self, column: Column) -> str:
        return self.columns.get(column, column)

    def _instruction(self, record: Record, place: str) -> Instruction:
        """With its input, its answer and what the system says, where there are any."""

        def beside(name: str | None) -> str:
            return "" if name is None or record.get(name) is None else text_of(record, name, place)

        return Instruction(
            text_of(record, self._name("instruction"), place),
            beside(self._name("input")),
            beside(self._name("output")),
            system=beside(self.columns.get("system")),
        )

    def _lacks(self, record: Record, place: str, of: str, first: Row | None) -> Exception:
        """What to say of a record in which nothing is known."""
        pair: tuple[Column, Column] = ("instruction", "output")
        if first is not None:
            wanted = ("text",) if isinstance(first, Text) else tuple(map(self._name, pair))
            lacks = " and ".join(name for name in wanted if name not in record)
            return Malformed(f"{place} lacks {lacks}, which the first row has")
        there = f"{place} of {of} has {_names(record)}"
        if self.columns:
            column = next(column for column in pair if self._name(column) not in record)
            return Refusal(f"columns.{column}", self._name(column), f"{there}; say which it is")
        reason = "name the one to read, or set columns.instruction=… and columns.output=…"
        return Refusal("field", None, f"{there}; {reason}")


def text_of(record: Record, name: str, place: str) -> str:
    """What a field holds.

    Raises:
        Malformed: no text, or none that can be written; names the place.
    """
    value = record[name]
    if not isinstance(value, str):
        raise Malformed(f"{place}: {name} is {type(value).__name__}, must be text")
    if not _encodes(value):
        raise Malformed(f"{place}: {name} is not Unicode text")
    return value


def _encodes(text: str) -> bool:
    """Whether it is free of lone surrogates, which JSON can spell and no file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _names(record: Record, like: str = "") -> str:
    return f"the fields {listed(record, like)}" if record else "no fields"


def _is_list(value: Any) -> bool:
    """Whether it is a list of records, as far as a look at it tells."""
    return isinstance(value, list) or (
        isinstance(value, Mapping) and all(isinstance(inner, list) for inner in value.values())
    )


def _items(value: Any) -> list[Record]:
    """The records of a list; also of one that `datasets` has as a record of lists."""
    if isinstance(value, Mapping):
        return [dict(zip(value, inner, strict=True)) for inner in zip(*value.values(), strict=True)]
    return list(value) if all(isinstance(one, Mapping) for one in value) else []


def _exchange(value: Any, place: str) -> Instruction | None:
    """The first turn that is answered, and the answer; with what the system says before them."""
    turns: list[tuple[str | None, str]] = []
    for turn in _items(value):
        named = next((n for n in (("role", "content"), ("from", "value")) if n[0] in turn), None)
        if named is None or named[1] not in turn:
            raise Malformed(f"{place}: a turn has {_names(turn)}, must have role and content")
        if turn[named[1]] is not None:  # of a turn that only calls a tool
            turns.append((SPEAKERS.get(str(turn[named[0]])), text_of(turn, named[1], place)))
    system = ""
    for (who, said), (then, answered) in pairwise(turns):
        if who == "system":
            system = system or said
        if (who, then) == ("user", "assistant"):
            return Instruction(said, "", answered, system=system)
    return None
