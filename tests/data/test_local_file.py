from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.data.local import Local
from sweep.data.row import Contents, Instruction, Row, Text
from sweep.refusal import Refusal

Write = Callable[[str, str | bytes], str]

TEXTS = ["The first,\nin two lines.", "The second."]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file and gives its path."""

    def write(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write


def rows(path: str, field: str | None = None, seed: int | None = None) -> list[Row]:
    return list(Local(path, field).rows("calibration", seed))


def refusal(path: str, field: str | None = None) -> str:
    with pytest.raises(Refusal) as caught:
        rows(path, field)
    return str(caught.value)


def jsonl(*records: Any) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def parquet(path: Path, columns: dict[str, list[Any]]) -> str:
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return str(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", jsonl({"text": TEXTS[0]}, {"text": TEXTS[1]})),
        ("a.json", json.dumps([{"text": text} for text in TEXTS], indent=1)),
        ("a.csv", f'number,text\n1,"{TEXTS[0]}"\n2,{TEXTS[1]}\n'),
        ("a.txt", f"\n{TEXTS[0]}\n\n \n{TEXTS[1]}\n"),
        ("A.TXT", f"{TEXTS[0]}\r\n\r\n{TEXTS[1]}".replace("\nin", "\r\nin")),
    ],
)
def test_documents_are_read_from_every_format(write: Write, name: str, content: str) -> None:
    assert rows(write(name, content)) == [Text(text) for text in TEXTS]


def test_documents_are_read_from_parquet(tmp_path: Path) -> None:
    assert rows(parquet(tmp_path / "a.parquet", {"text": TEXTS})) == [Text(t) for t in TEXTS]


BETWEEN = ["\n\n", "\n \n", "\n\n\n\n", "\n\t\n \n", "\n", " \n  "]


@given(
    st.sampled_from(["", "\n", " \n\n  ", "\n \n\n"]),
    st.lists(st.tuples(st.sampled_from(["One.", " Two.\nThree. ", "é"]), st.sampled_from(BETWEEN))),
    st.sampled_from(["", "\n", "\n\n  ", "\n \n\t"]),
)
def test_the_paragraphs_of_a_txt_file_are_its_text_when_they_are_joined(
    tmp_path_factory: pytest.TempPathFactory,
    before: str,
    pieces: list[tuple[str, str]],
    behind: str,
) -> None:
    text = before + "".join(paragraph + gap for paragraph, gap in pieces) + "End." + behind
    file = tmp_path_factory.mktemp("text") / "a.txt"
    file.write_text(text)
    source = Local(str(file))
    found = [row.text for row in source.rows("evaluation", None) if isinstance(row, Text)]
    assert source.joint.join(found) == text
    documents = [part.strip("\n") for part in re.split(r"\n\s*\n", text) if part.strip()]
    calibration = list(source.rows("calibration", None))
    assert calibration == [Text(document) for document in documents]
    assert [row.digest for row in calibration] == [Text(part).digest for part in found]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": "One."}\n{"text": "Two.", "id": ' + "1" * 5000 + "}", "line 2: "),
        ("a.json", "[" * 200_000, "line 1: no JSON: nested too deep"),
        ("a.csv", "text,more,text\nOne.,2,Three.\n", "line 1: two columns are called text"),
    ],
    ids=["digits", "depth", "columns"],
)
def test_what_no_reader_takes_is_named_with_its_line(
    write: Write, name: str, content: str, message: str
) -> None:
    assert message in refusal(write(name, content))


def test_many_blanks_in_a_txt_file_take_no_time(write: Write) -> None:
    gap = " " * 200_000  # in their square, minutes
    assert rows(write("a.txt", f"One.{gap}Two.\n\n{gap}\nEnd.{gap}")) == [
        Text(f"One.{gap}Two."),
        Text(f"End.{gap}"),
    ]


def test_documents_of_other_files_stand_a_blank_line_apart(write: Write) -> None:
    source = Local(write("a.jsonl", jsonl({"text": "One.\n"}, {"text": " Two."})))
    found = [row.text for row in source.rows("evaluation", None) if isinstance(row, Text)]
    assert source.joint.join(found) == "One.\n\n\n Two."


def test_a_byte_order_mark_is_no_part_of_the_text(write: Write) -> None:
    mark = b"\xef\xbb\xbf"
    for name, content in (("a.csv", "text\nNo."), ("a.txt", "No."), ("a.jsonl", '{"text": "No."}')):
        assert rows(write(name, mark + content.encode())) == [Text("No.")]


def test_the_alpaca_fields_make_instructions_with_and_without_input(write: Write) -> None:
    path = write(
        "a.jsonl",
        jsonl(
            {"instruction": "Add.", "input": "1, 2", "output": "3", "text": "all of it"},
            {"instruction": "Greet.", "input": None, "output": "Hello."},
            {"instruction": "Part.", "output": "Bye."},
        ),
    )
    assert rows(path) == [
        Instruction("Add.", "1, 2", "3"),
        Instruction("Greet.", "", "Hello."),
        Instruction("Part.", "", "Bye."),
    ]


def test_the_alpaca_fields_are_found_in_csv_and_parquet_too(write: Write, tmp_path: Path) -> None:
    expected = [Instruction("Add.", "1, 2", "3")]
    assert rows(write("a.csv", 'instruction,input,output\nAdd.,"1, 2",3\n')) == expected
    columns = {"instruction": ["Add."], "input": ["1, 2"], "output": ["3"]}
    assert rows(parquet(tmp_path / "a.parquet", columns)) == expected


def test_of_several_instances_only_the_first_counts(write: Write, tmp_path: Path) -> None:
    instances = [{"input": "1, 2", "output": "3"}, {"input": "2, 2", "output": "4"}]
    expected = [Instruction("Add.", "1, 2", "3")]
    assert (
        rows(write("a.jsonl", jsonl({"instruction": "Add.", "instances": instances}))) == expected
    )
    columns = {"instruction": ["Add."], "instances": [instances]}
    assert rows(parquet(tmp_path / "a.parquet", columns)) == expected


def test_a_named_field_is_read_whatever_else_there_is(write: Write) -> None:
    path = write("a.jsonl", jsonl({"instruction": "Add.", "output": "3", "body": "Prose."}))
    assert rows(path, field="body") == [Text("Prose.")]


def test_a_field_of_a_csv_file_may_be_long(write: Write) -> None:
    long = "word " * 100_000
    usual = csv.field_size_limit()
    assert len(long) > usual
    assert rows(write("a.csv", f'text\n"{long}"\nshort\n')) == [Text(long), Text("short")]
    assert csv.field_size_limit() == usual


def test_blank_documents_are_no_rows(write: Write) -> None:
    path = write("a.jsonl", jsonl({"text": " "}, {"text": "One."}, {"text": "\n"}) + "\n\n")
    assert rows(path) == [Text("One.")]


def test_rows_stand_in_the_files_order_or_in_that_of_a_seed(write: Write) -> None:
    path = write("a.txt", "\n\n".join(str(number) for number in range(50)))
    assert rows(path) == [Text(str(number)) for number in range(50)]
    assert rows(path, seed=1) == rows(path, seed=1)
    assert rows(path, seed=1) != rows(path, seed=2)
    assert {row.digest for row in rows(path, seed=1)} == {row.digest for row in rows(path)}


def test_the_origin_is_the_files_content_and_not_its_place(write: Write) -> None:
    one, other = Local(write("a.txt", "One.")), Local(write("b.txt", "One."))
    assert one.origin().source == "local"
    assert one.origin().revision == other.origin().revision
    assert one.origin().location != other.origin().location
    before = one.origin().revision
    write("a.txt", "Two, longer.")
    assert one.origin().revision != before


def test_one_file_read_in_two_ways_is_the_same_rows(write: Write) -> None:
    records = [
        {"instruction": f"Tell {i}.", "output": f"The ship number {i} sails on the wide sea."}
        for i in range(9)
    ]
    path = write("a.jsonl", jsonl(*records))
    asked, answers = Contents.of(rows(path)), Contents.of(rows(path, "output"))
    assert len(asked.shared(answers)) == len(answers.shared(asked)) == 9
    assert not asked.rows & answers.rows


def test_constructing_reads_nothing() -> None:
    assert Local("no/such/file.jsonl").corpus == "local"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.jsonl", '{"text": "One."}\n\n{"text": "Two.\n', "line 3: no JSON"),
        ("a.jsonl", '{"text": "One."}\n["Two."]\n', "line 2: must be an object"),
        ("a.json", '[{"text": "One."},\n{"text": }]', "line 2: no JSON"),
        ("a.json", '{"text": "One."}', "must hold a list of objects"),
        ("a.json", '[{"text": "One."}, 3]', "item 2: must be an object"),
        ("a.csv", "a,text\n1,One.\n2\n", "line 3: must have 2 columns"),
        ("a.csv", "a,text\n1,One.\n2,Two.,more\n", "line 3: must have 2 columns"),
        ("a.csv", 'a,text\n1,"One.\n', "line 2: unexpected end of data"),
        ("a.parquet", "PAR1 but not really", "no parquet"),
        ("a.jsonl", b'{"text": "One."}\n{"text": "\xff"}\n', "line 2: not UTF-8 text"),
        ("a.csv", b"a,text\n1,One.\n2,\xe9\n", "line 3: not UTF-8 text"),
        ("a.txt", b"One.\n" * 5000 + b"\xe9\n", "line 5001: not UTF-8 text"),
        ("a.json", '[{"text": "One."}, {"text": "\\ud800"}]', "item 2: text is not Unicode text"),
        ("a.jsonl", jsonl({"text": "One."}, {"text": 2}), "line 2: text is int, must be text"),
        ("a.jsonl", jsonl({"text": None}), "line 1: text is NoneType, must be text"),
        ("a.jsonl", jsonl({"instruction": "A.", "output": ["3"]}), "line 1: output is list"),
        ("a.jsonl", jsonl({"instruction": "A.", "instances": []}), "line 1: instances is empty"),
        ("a.jsonl", jsonl({"instruction": "A.", "instances": ["x"]}), "line 1: instances is empty"),
        (
            "a.jsonl",
            jsonl({"instruction": "A.", "output": "3"}, {"output": "4"}),
            "line 2 lacks ins",
        ),
        (
            "a.jsonl",
            jsonl({"text": "One."}, {"body": "Two."}),
            "line 2 lacks text, which the first",
        ),
        ("a.docx", "One.", "unknown kind of file; give .jsonl, .json, .csv, .parquet, .txt"),
        ("a.jsonl", "", "the file is empty"),
        ("a.csv", "text\n", "the file holds no row"),
        ("a.txt", " \n\n \n", "the file holds no row"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(
    write: Write, name: str, content: str | bytes, reason: str
) -> None:
    path = write(name, content)
    said = refusal(path)
    assert said.startswith(f"path={path}: ")
    assert reason in said
    assert "\n" not in said


def test_a_damaged_parquet_file_is_refused(tmp_path: Path) -> None:
    path = Path(parquet(tmp_path / "a.parquet", {"text": [f"Text {i}." for i in range(1000)]}))
    whole = path.read_bytes()
    path.write_bytes(whole[:4] + bytes(400) + whole[404:])
    assert refusal(str(path)).startswith(f"path={path}: no parquet: ")


def test_parquet_rows_of_the_wrong_type_are_refused(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", {"text": ["One.", None]})
    assert "row 2: text is NoneType, must be text" in refusal(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert refusal(str(tmp_path / "none.txt")) == f"path={tmp_path}/none.txt: no such file"
    assert refusal(str(tmp_path)) == f"path={tmp_path}: is a folder; give a file"


def test_fields_that_are_not_there_are_answered_with_those_that_are(write: Write) -> None:
    path = write("a.jsonl", jsonl({"body": "One.", "title": "T"}))
    assert refusal(path, "txt").startswith(
        f"field=txt: line 1 of {path} has the fields body, title"
    )
    assert refusal(path).startswith(f"field=null: line 1 of {path} has the fields body, title")
    no_answer = write("b.jsonl", jsonl({"instruction": "A.", "instances": [{"input": "x"}]}))
    assert "has the fields instruction, instances, input" in refusal(no_answer)


def test_real_instruction_data_are_read_whole(real: Path) -> None:
    for name, count in (("user_oriented_instructions.jsonl", 252), ("seed_tasks.jsonl", 175)):
        found = rows(str(real / "text" / name))
        lines = (real / "text" / name).read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines]
        assert len(found) == count
        for row, record in zip(found, records, strict=True):
            first = record["instances"][0]
            assert row == Instruction(record["instruction"], first["input"], first["output"])


def test_real_prose_is_read_whole(real: Path) -> None:
    path = real / "text" / "wikitext2-test.txt"
    documents = rows(str(path))
    assert len(documents) > 1000
    read = " ".join(row.text for row in documents if isinstance(row, Text))
    assert read.split() == path.read_text(encoding="utf-8").split()
    source = Local(str(path))
    whole = [row.text for row in source.rows("evaluation", None) if isinstance(row, Text)]
    assert source.joint.join(whole) == path.read_text(encoding="utf-8")
