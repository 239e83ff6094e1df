"""Records as people have them: other names, conversations of both kinds, compressed files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from sweep.data.local import Local
from sweep.data.record import Column
from sweep.data.row import Instruction, Row, Text
from sweep.data.template import answer, prompt
from sweep.refusal import Refusal

ASKED = [("system", "Be brief."), ("user", "Add 1 and 2."), ("assistant", "3"), ("user", "And 4?")]
OPENAI = {"messages": [{"role": who, "content": text} for who, text in ASKED]}
NAMES = {"system": "system", "user": "human", "assistant": "gpt"}
SHAREGPT = {"conversations": [{"from": NAMES[who], "value": text} for who, text in ASKED]}
ANSWERED = Instruction("Add 1 and 2.", "", "3", system="Be brief.")


def read(
    tmp_path: Path,
    *records: Any,
    field: str | None = None,
    columns: dict[Column, str] | None = None,
) -> list[Row]:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return list(Local(str(path), field, columns=columns or {}).rows("calibration", None))


def of_roles(*roles: str) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": f"{role} {i}"} for i, role in enumerate(roles)]}


@pytest.mark.parametrize("record", [OPENAI, SHAREGPT], ids=["openai", "sharegpt"])
def test_of_a_conversation_the_first_answer_counts_with_what_the_system_says(
    tmp_path: Path, record: Any
) -> None:
    assert read(tmp_path, record) == [ANSWERED]


def test_a_conversation_may_be_a_record_of_lists_and_in_a_column_of_any_name(
    tmp_path: Path,
) -> None:
    turns = {"role": ["user", "assistant"], "content": ["Ask.", "Say."]}
    assert read(tmp_path, {"dialog": turns}, field="dialog") == [Instruction("Ask.", "", "Say.")]
    assert read(tmp_path, {**OPENAI, "text": "All."}, field="messages") == [ANSWERED]
    assert read(tmp_path, {**OPENAI, "text": "All."}) == [Text("All.")]


def test_who_answers_may_be_called_a_model(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Ask."}, {"role": "model", "content": "Say."}]
    assert read(tmp_path, {"messages": turns}) == [Instruction("Ask.", "", "Say.")]


def test_what_the_system_says_after_the_exchange_is_none_of_its_prompt(tmp_path: Path) -> None:
    assert read(tmp_path, of_roles("user", "assistant", "system")) == [
        Instruction("user 0", "", "assistant 1")
    ]
    first = of_roles("user", "system", "user", "system", "user", "assistant", "system")
    assert read(tmp_path, first) == [
        Instruction("user 4", "", "assistant 5", system="system 1"),
    ]


def test_a_null_answer_is_a_blank_one(tmp_path: Path) -> None:
    asked = {"instruction": "Add.", "input": None}
    found = read(tmp_path, {**asked, "output": None}, {**asked, "output": " "})
    assert found == [Instruction("Add.", "", ""), Instruction("Add.", "", " ")]
    assert not any(row.answered for row in found if isinstance(row, Instruction))


@pytest.mark.parametrize("field", [None, "messages"])
def test_a_null_conversation_is_passed_over(tmp_path: Path, field: str | None) -> None:
    assert read(tmp_path, OPENAI, {"messages": None}, OPENAI, field=field) == [ANSWERED] * 2
    assert read(tmp_path, {"messages": None}, OPENAI) == [ANSWERED]


def test_a_developer_says_what_the_system_says(tmp_path: Path) -> None:
    found = read(tmp_path, of_roles("developer", "user", "assistant"))
    assert found == [Instruction("user 1", "", "assistant 2", system="developer 0")]


def test_what_is_not_answered_at_once_is_passed_over(tmp_path: Path) -> None:
    late = of_roles("assistant", "user", "tool", "assistant", "user", "assistant")
    silent = of_roles("user", "user")
    calls = {"messages": [{"role": "assistant", "content": None}, *OPENAI["messages"]]}
    assert read(tmp_path, late, silent, calls) == [
        Instruction("user 4", "", "assistant 5"),
        ANSWERED,
    ]
    with pytest.raises(Refusal, match="the file holds no row"):
        read(tmp_path, silent)


@pytest.mark.parametrize(
    ("turn", "said"),
    [
        ({"who": "user", "says": "Hm."}, "line 1: a turn has the fields who, says, must have role"),
        ({"role": "user", "content": 3}, "line 1: content is int, must be text"),
    ],
)
def test_a_turn_of_another_kind_is_refused_with_its_place(
    tmp_path: Path, turn: Any, said: str
) -> None:
    with pytest.raises(Refusal, match=said):
        read(tmp_path, {"messages": [turn]})


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    record = {"q": "Add.", "context": "1, 2", "a": "3", "persona": "A clerk.", "text": "All."}
    columns: dict[Column, str] = {"instruction": "q", "output": "a"}
    assert read(tmp_path, record, columns=columns) == [Instruction("Add.", "", "3")]
    assert read(tmp_path, record, columns={**columns, "input": "context", "system": "persona"}) == [
        Instruction("Add.", "1, 2", "3", system="A clerk.")
    ]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"output": "gold"}, "columns.output=gold: line 1 of .* has the fields q, a; name one"),
        ({"output": "a"}, "columns.instruction=instruction: line 1 of .* fields q, a; say which"),
        ({"instruction": "q"}, "columns.output=output: line 1 of .* has the fields q, a; say whic"),
    ],
)
def test_a_column_that_is_not_there_is_told_by_its_setting(
    tmp_path: Path, columns: dict[Column, str], said: str
) -> None:
    with pytest.raises(Refusal, match=said):
        read(tmp_path, {"q": "Add.", "a": "3"}, columns=columns)


def test_a_text_and_columns_of_instructions_are_not_both_meant() -> None:
    with pytest.raises(Refusal, match="field=body: is of a document or a conversation, and colum"):
        Local("rows.jsonl", "body", columns={"output": "a"})


def test_what_the_system_says_tells_two_rows_apart_and_leads_every_prompt() -> None:
    plain = Instruction("Add 1 and 2.", "", "3")
    assert ANSWERED.digest != plain.digest
    for template in ("alpaca", "unnatural"):
        assert prompt(ANSWERED, template) == prompt(plain, template).replace(
            "Add 1 and 2.", "Be brief.\n\nAdd 1 and 2."
        )

    class Tokenizer:
        chat_template = "there"

        def apply_chat_template(self, turns: list[dict[str, str]], **options: Any) -> str:
            return "".join(f"<{turn['role']}>{turn['content']}</>" for turn in turns)

    asked = prompt(ANSWERED, "chat", Tokenizer())
    assert asked == "<system>Be brief.</><user>Add 1 and 2.</>"
    assert asked + answer(ANSWERED, "chat", Tokenizer()).text == f"{asked}<assistant>3</>"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl.gz", '{"text": "One."}\n{"text": "Two."}\n'),
        ("a.json.gz", '[{"text": "One."}, {"text": "Two."}]'),
        ("a.csv.gz", "text\nOne.\nTwo.\n"),
        ("A.TXT.GZ", "One.\n\nTwo.\n"),
    ],
)
def test_a_gzipped_file_is_read_as_what_is_in_it(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(content.encode(), mtime=0))
    source = Local(str(path))
    assert list(source.rows("calibration", None)) == [Text("One."), Text("Two.")]
    assert source.joint == ("" if "TXT" in name else "\n\n")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl.gz", b'{"text": "One."}', "is no gzip, or cut short (Not a gzipped file"),
        (
            "a.jsonl.gz",
            gzip.compress(b'{"text": "One."}' * 99, mtime=0)[:-20],
            "is no gzip, or cut short (Compressed file ended",
        ),
        (
            "a.jsonl.gz",
            gzip.compress(b'{"text": "One."}\n\xff\n', mtime=0),
            "line 2: not UTF-8 text",
        ),
        ("a.parquet.gz", b"PAR1", "unknown kind of file; give .jsonl, .json, .csv, .parquet, .t"),
        ("a.gz", b"x", "unknown kind of file"),
    ],
)
def test_a_gzipped_file_that_cannot_be_read_is_refused(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(Refusal) as caught:
        list(Local(str(path)).rows("calibration", None))
    assert str(caught.value).startswith(f"path={path}: {said}")
