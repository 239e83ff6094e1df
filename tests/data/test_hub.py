from __future__ import annotations

import errno
import gzip
import json
import logging
import os
import random
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pytest
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from huggingface_hub.errors import LocalEntryNotFoundError

from sweep import hub as hub_module
from sweep import hub_errors
from sweep.data import repository
from sweep.data.hub import HELD_OUT, Dataset, Documents, Instructions, held_out
from sweep.data.row import Instruction, Row, Text
from sweep.data.source import Part, Source
from sweep.grid import sweep
from sweep.hub_errors import Told
from sweep.refusal import Refusal

ALPACA = datasets.Dataset.from_list(
    [
        {
            "instruction": f"Add {i} and {i // 7}.",
            "input": "" if i % 3 else f"number {i}",
            "output": str(i + i // 7),
            "text": "the whole prompt",
        }
        for i in range(600)
    ]
)

UNNATURAL = datasets.Dataset.from_list(
    [
        {
            "instruction": f"Say {i}.",
            "instances": [
                {"instruction_with_input": "…", "input": f"in {i}", "output": f"out {i}"},
                {"instruction_with_input": "…", "input": "second", "output": "second"},
            ],
        }
        for i in range(80)
    ]
)

DOCUMENTS = {
    "train": ["One.", "", "Two.", "   ", "Three."],
    "test": ["", " = Title = \n", "", " Prose of the test . \n"],
}


class Hub:
    """Stands in for `datasets.load_dataset`, and writes down what it was asked."""

    def __init__(self, found: dict[str, datasets.Dataset] | Exception) -> None:
        self.found = found
        self.asked: list[tuple[Any, ...]] = []

    def __call__(
        self,
        repo: str,
        config: str | None = None,
        *,
        revision: str,
        split: str,
    ) -> datasets.Dataset:
        self.asked.append((repo, config, revision, split))
        if isinstance(self.found, Exception):
            raise self.found
        return self.found[split]


@pytest.fixture(autouse=True)
def commits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every branch is called as the commit that it stands for."""

    def snapshot(repo: str, *, repo_type: str, revision: str, allow_patterns: str) -> str:
        assert repo_type == "dataset"
        return f"snapshots/{revision}"

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.setattr(hub_module, "WAITS", ())


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts data, or an error, behind `datasets.load_dataset`."""
    monkeypatch.setattr(hub_module, "_answers", lambda endpoint: True)

    def hub(found: dict[str, datasets.Dataset] | Exception) -> Hub:
        stand_in = Hub(found)
        monkeypatch.setattr(datasets, "load_dataset", stand_in)
        return stand_in

    return hub


def texts(column: str = "text") -> dict[str, datasets.Dataset]:
    return {
        name: datasets.Dataset.from_dict({column: rows, "url": rows})
        for name, rows in DOCUMENTS.items()
    }


def rows(source: Source, part: Part, seed: int | None = None) -> list[Row]:
    return list(source.rows(part, seed))


def test_alpacas_columns_become_instructions(hub: Any) -> None:
    hub({"train": ALPACA})
    source = Instructions("alpaca", "tatsu-lab/alpaca", "abc")
    found = set(rows(source, "calibration")) | set(rows(source, "evaluation"))
    assert found == {Instruction(row["instruction"], row["input"], row["output"]) for row in ALPACA}


def test_of_unnaturals_instances_the_first_counts(hub: Any) -> None:
    hub({"train": UNNATURAL})
    source = Instructions("unnatural", "u/u", "main")
    found = set(rows(source, "calibration")) | set(rows(source, "evaluation"))
    assert found == {Instruction(f"Say {i}.", f"in {i}", f"out {i}") for i in range(80)}


def test_instances_may_be_a_struct_of_lists(hub: Any) -> None:
    instances = {"input": ["first", "second"], "output": ["1", "2"]}
    hub({"train": datasets.Dataset.from_list([{"instruction": "Say.", "instances": instances}])})
    source = Instructions("unnatural", "u/u", "main")
    found = rows(source, "calibration") + rows(source, "evaluation")
    assert found == [Instruction("Say.", "first", "1")]


@pytest.mark.parametrize("seed", [None, 0, 3])
def test_calibration_and_evaluation_share_no_row_and_leave_none_out(
    hub: Any, seed: int | None
) -> None:
    hub({"train": ALPACA})
    source = Instructions("alpaca", "tatsu-lab/alpaca", "abc")
    calibration = [row.digest for row in rows(source, "calibration", seed)]
    evaluation = [row.digest for row in rows(source, "evaluation", seed)]
    assert not set(calibration) & set(evaluation)
    assert len(calibration) + len(evaluation) == len(ALPACA)
    assert len(evaluation) / len(ALPACA) == pytest.approx(HELD_OUT, abs=0.04)


def test_one_question_with_two_answers_is_on_one_side() -> None:
    for i in range(200):
        one, other = Instruction(f"Ask {i}.", "", "yes"), Instruction(f" Ask {i}.\n", "", "no")
        assert held_out(one) == held_out(other)


def test_the_seed_is_the_order_of_the_rows_and_changes_no_part(hub: Any) -> None:
    hub({"train": ALPACA})
    source = Instructions("alpaca", "tatsu-lab/alpaca", "abc")
    plain, one, again, other = (rows(source, "calibration", seed) for seed in (None, 1, 1, 2))
    assert one == again != other
    assert plain != one
    assert set(plain) == set(one) == set(other)
    numbers = [int(row.instruction.split()[1]) for row in plain if isinstance(row, Instruction)]
    assert numbers == sorted(numbers)


def test_each_part_is_the_split_that_was_named_for_it(hub: Any) -> None:
    stand_in = hub(texts())
    source = Documents("wikitext2", "a/b", "v1", "train", "test", config="raw")
    assert rows(source, "calibration") == [Text("One."), Text("Two."), Text("Three.")]
    assert stand_in.asked == [("a/b", "raw", "v1", "train")]
    assert Text(" Prose of the test . \n") in rows(source, "evaluation")
    assert stand_in.asked[1:] == [("a/b", "raw", "v1", "test")]


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder from which data files are downloaded; `datasets` keeps its cache beside it."""
    folder = tmp_path / "shelf"
    folder.mkdir()

    def download(repo: str, name: str, *, repo_type: str, revision: str) -> str:
        assert (repo, repo_type, revision) == ("a/c4", "dataset", "v1")
        if not (folder / name).is_file():
            raise LocalEntryNotFoundError(f"cannot find {name}")
        return str(folder / name)

    monkeypatch.setattr(hub_module, "_answers", lambda endpoint: True)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return folder


def test_each_part_may_be_a_data_file(shelf: Path) -> None:
    for name, part in (("train.json.gz", "train"), ("val.jsonl", "test")):
        lines = "".join(json.dumps({"text": text, "url": "u"}) + "\n" for text in DOCUMENTS[part])
        compressed = name.endswith(".gz")
        content = gzip.compress(lines.encode()) if compressed else lines.encode()
        (shelf / name).write_bytes(content)
    source = Documents("c4", "a/c4", "v1", "train.json.gz", "val.jsonl", files=True)
    assert rows(source, "calibration") == [Text("One."), Text("Two."), Text("Three.")]
    assert rows(source, "evaluation") == [Text(text) for text in DOCUMENTS["test"]]


def test_a_data_file_that_is_not_to_be_had_is_refused(shelf: Path) -> None:
    source = Documents("c4", "a/c4", "v1", "train.json.gz", "val.json.gz", files=True)
    with pytest.raises(Refusal) as caught:
        rows(source, "calibration")
    assert str(caught.value).startswith("source=c4: a/c4 is not in ")
    assert "cannot find train.json.gz" in str(caught.value)


def test_a_running_text_keeps_its_blank_rows_as_the_published_perplexities_do(hub: Any) -> None:
    hub(texts())
    source = Documents("wikitext2", "a/b", "v1", "train", "test")
    joint = source.joint
    assert joint is not None
    read = [row.text for row in rows(source, "evaluation") if isinstance(row, Text)]
    assert joint.join(read) == "\n\n".join(DOCUMENTS["test"])


def test_a_shuffled_split_is_the_same_documents_in_another_order(hub: Any) -> None:
    words = [f"word {i}" for i in range(50)]
    hub({"train": datasets.Dataset.from_dict({"text": words})})
    source = Documents("c4", "a/c4", "v1", "train", "test")
    shuffled = rows(source, "calibration", 4)
    order = list(range(50))
    random.Random(4).shuffle(order)
    assert shuffled == [Text(words[i]) for i in order]


def test_of_documents_without_splits_a_tenth_is_for_evaluation(hub: Any) -> None:
    words = [f"word {i}" for i in range(400)]
    hub({"train": datasets.Dataset.from_dict({"text": [*words, " "]})})
    source = Documents("code", "a/code", "v1", "train", "train")
    calibration, evaluation = rows(source, "calibration", 1), rows(source, "evaluation")
    assert not set(calibration) & set(evaluation)
    assert set(calibration) | set(evaluation) == set(map(Text, words))
    assert len(evaluation) / 400 == pytest.approx(HELD_OUT, abs=0.04)


def test_instructions_may_have_a_split_for_evaluation_and_columns_of_other_names(hub: Any) -> None:
    parts = {
        name: datasets.Dataset.from_list(
            [{"question": f"{name} {i}?", "answer": f"{i}"} for i in "12"]
        )
        for name in ("train", "test")
    }
    hub(parts)
    names = {"instruction": "question", "output": "answer", "evaluation": "test"}
    source = Instructions("gsm8k", "a/gsm8k", "v1", **names)
    for part, name in (("calibration", "train"), ("evaluation", "test")):
        assert rows(source, part) == [Instruction(f"{name} {i}?", "", i) for i in "12"]


def test_another_column_can_hold_the_text(hub: Any) -> None:
    hub(texts("content"))
    source = Documents("code", "a/code", "v1", "train", "test", field="content")
    assert rows(source, "calibration")[0] == Text("One.")


def test_a_column_that_is_not_there_is_answered_with_those_that_are(hub: Any) -> None:
    hub(texts("content"))
    with pytest.raises(Refusal) as caught:
        rows(Documents("code", "a/code", "v1", "train", "test"), "calibration")
    assert str(caught.value) == "corpora.code.field=text: a/code has the columns content, url"
    hub({"train": texts()["train"]})
    with pytest.raises(Refusal) as caught:
        rows(Instructions("code", "a/code", "v1"), "calibration")
    assert (
        str(caught.value)
        == "corpora.code.instruction=instruction: a/code has the columns text, url"
    )
    hub({"train": ALPACA})
    for column in ("input", "contxt"):
        source = Instructions("alpaca", "a/a", "v1", input=column, output="output")
        if column == "input":
            assert any(row.input for row in rows(source, "calibration"))
            continue
        with pytest.raises(Refusal) as caught:
            rows(source, "calibration")
        assert str(caught.value) == (
            "corpora.alpaca.input=contxt: a/a has the columns instruction, input, output, text"
        )
    hub({"train": UNNATURAL})
    with pytest.raises(Refusal, match=r"corpora.u.input=contxt: row 0 of u/u has .*input, output"):
        rows(Instructions("u", "u/u", "v1", input="contxt"), "calibration")
    hub({"train": texts()["train"]})
    with pytest.raises(Refusal) as caught:
        rows(Instructions("code", "a/code", "v1", instruction="text"), "calibration")
    assert str(caught.value) == "corpora.code.output=output: a/code has the columns text, url"
    hub(
        {"train": datasets.Dataset.from_list([{"instruction": "I.", "instances": [{"input": ""}]}])}
    )
    with pytest.raises(Refusal) as caught:
        rows(Instructions("u", "u/u", "v1"), "calibration")
    assert str(caught.value) == "corpora.u.output=output: row 0 of u/u has input"


def test_a_column_that_holds_no_text_is_told_by_the_setting_that_names_it(hub: Any) -> None:
    alpaca = {"instruction": "Add.", "input": "", "output": "3"}
    for source, row, said in (
        (Documents("c", "a/c", "v1", "train", "test"), {"text": 3}, "corpora.c.field=text: {}int"),
        (
            Instructions("a", "a/a", "v1"),
            {**alpaca, "output": ["3"]},
            "corpora.a.output=output: {}l",
        ),
        (Instructions("a", "a/a", "v1"), {**alpaca, "input": 1}, "corpora.a.input=input: {}int"),
        (
            Instructions("a", "a/a", "v1", instruction="input"),
            {**alpaca, "input": 1},
            "corpora.a.instruction=input: {}int",
        ),
    ):
        hub({"train": datasets.Dataset.from_list([row])})
        with pytest.raises(Refusal) as caught:
            rows(source, "calibration")
        column = said.partition("=")[2].partition(":")[0]
        assert str(caught.value).startswith(
            said.format(f"row 0 of {source.origin().location}: {column} is ")
        )


def test_a_null_is_empty_in_every_column(hub: Any) -> None:
    nulls = dict.fromkeys(("instruction", "input", "output"))
    features = datasets.Features(dict.fromkeys(nulls, datasets.Value("string")))
    hub({"train": datasets.Dataset.from_list([nulls], features=features)})
    for source in (Instructions("a", "a/a", "v1"), Dataset("own", "me/own", COMMIT)):
        found = [*rows(source, "calibration"), *rows(source, "evaluation")]
        assert set(found) == {Instruction("", "", "")}


def test_of_many_columns_those_that_are_spelt_like_it_are_named_and_how_many_more(
    hub: Any,
) -> None:
    wide = [{f"a_rather_long_column_name_{i}": "" for i in range(40)} | {"question": "q"}]
    hub({"train": datasets.Dataset.from_list(wide)})
    for source, setting in (
        (Documents("w", "me/w", "v1", "train", "test", field="qestion"), "corpora.w.field"),
        (Dataset("w", "me/w", COMMIT, field="qestion"), "field"),
    ):
        with pytest.raises(Refusal) as caught:
            rows(source, "calibration")
        said = str(caught.value)
        assert said.startswith(f"{setting}=qestion: ")
        assert " question, a_rather_long_column_name_0, " in said
        assert " … and 37 more" in said
        assert said.count("a_rather_long_column_name") == 3


def test_a_data_set_of_ones_own_is_read_as_a_file_would_be(hub: Any) -> None:
    stand_in = hub({"dev": UNNATURAL, "test": texts()["test"], "train": ALPACA})
    source = Dataset("own", "me/own", COMMIT, "raw", "dev")
    whole = [Instruction(f"Say {i}.", f"in {i}", f"out {i}") for i in range(80)]
    assert rows(source, "calibration") == rows(source, "evaluation") == whole
    assert stand_in.asked == [("me/own", "raw", COMMIT, "dev")] * 2
    assert rows(Dataset("own", "me/own", COMMIT, split="test"), "evaluation") == [
        Text(text) for text in DOCUMENTS["test"] if text
    ]
    first = rows(Dataset("own", "me/own", COMMIT, columns={"output": "input"}), "calibration")[0]
    assert first == Instruction(ALPACA[0]["instruction"], "number 0", "number 0")
    assert rows(Dataset("own", "me/own", COMMIT, field="output"), "evaluation")[3] == Text("3")


def test_a_split_on_both_sides_is_calibrated_on_without_the_rows_that_are_measured(
    hub: Any, frozen: Any, tmp_path: Path
) -> None:
    told = "A story of the keeper who came down to the harbour in the year"
    hub({"train": datasets.Dataset.from_dict({"body": [f"{told} {i}." for i in range(20)]})})
    commit = "ab" * 20
    own = {"repo": "me/own", "revision": commit, "field": "body", "n_samples": 4, "seqlen": 32}
    words = [f"{at}.{name}={v}" for at in ("calib", "metric.perplexity") for name, v in own.items()]
    command = ("calib=hub", "metric=[perplexity]", "metric.perplexity.source=hub", "method=wanda")
    command += ("keep=model",)
    sweep([frozen(*command, *words)])
    (cell,) = (tmp_path / "outputs" / "cells").glob("tiny-wanda-50-me-own-*")
    calibration = json.loads((cell / "compression.json").read_text())["calibration"]
    (data,) = calibration["data"]
    assert (data["corpus"], data["location"], data["revision"]) == ("me/own", "me/own", commit)
    assert calibration["rows_left_to_metrics"] > 0
    (measured,) = json.loads((cell / "metrics" / "perplexity.json").read_text())["data"]
    assert (measured["corpus"], measured["location"]) == ("me/own", "me/own")
    assert [file.name for file in cell.glob("*/perplexity-*.jsonl")] == ["perplexity-me-own.jsonl"]
    card_of = (cell / "model" / "README.md").read_text()
    left = calibration["rows_left_to_metrics"]
    assert f"- {left} rows of its corpora were left out: metrics are measured on them" in card_of
    assert "- me/own: me/own, revision" in card_of


def test_mistakes_about_a_data_set_of_ones_own_are_told_by_its_own_settings(hub: Any) -> None:
    hub(texts("content") | {"mixed": datasets.Dataset.from_list([{"text": 1}])})
    for source, said in (
        (Dataset("own", "me/own", COMMIT, field="body"), "field=body: row 0 of me/own has the f"),
        (
            Dataset("own", "me/own", COMMIT, columns={"output": "gold"}),
            "columns.output=gold: row 0 of me/own has the fields content, url; name one that",
        ),
        (Dataset("own", "me/own", COMMIT), "field=null: row 0 of me/own has the fields content, u"),
        (
            Dataset("own", "me/own", COMMIT, split="mixed"),
            "repo=me/own: row 0: text is int, must be text",
        ),
    ):
        with pytest.raises(Refusal) as caught:
            rows(source, "calibration")
        assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("Couldn't reach 'a/b' on the Hub\n  with\n  a long story"),
        ValueError("Couldn't find cache for a/b"),
        FileNotFoundError("no en/train.json.gz"),
        OSError(""),
    ],
)
@pytest.mark.parametrize(
    "source",
    [Instructions("alpaca", "a/b", "main"), Documents("c4", "a/b", "v1", "train", "test")],
)
def test_a_hub_out_of_reach_is_one_line_that_says_what_to_do(
    hub: Any, source: Source, error: Exception
) -> None:
    hub(error)
    with pytest.raises(Refusal) as caught:
        rows(source, "calibration")
    said = str(caught.value)
    assert said.startswith(f"source={source.origin().corpus}: a/b is not in ")
    assert said.endswith(
        "python -m sweep.fetch with these words fetches it where there is a network"
    )
    assert "\n" not in said
    assert "long story" not in said


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_is_full_while_rows_are_made_ready_is_told_as_such(
    hub: Any, number: int
) -> None:
    error = DatasetGenerationError("An error occurred while generating the dataset")
    error.__cause__ = OSError(number, "no room")
    hub(error)
    with pytest.raises(Refusal, match="source=alpaca: the disk is full, so a/b could not be kept"):
        rows(Instructions("alpaca", "a/b", "main"), "calibration")


def test_where_a_repository_that_is_not_there_has_the_name_of_a_file_that_is_said(
    hub: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    hub(DatasetNotFoundError("Dataset 'd/q.jsonl' doesn't exist on the Hub or cannot be accessed."))
    said = "repo=d/q.jsonl: the hub has no such repository, or only for those who log in "
    said += "(hf auth login, HF_TOKEN)"
    hint = "; a file is calib=local calib.path=d/q.jsonl (metric.NAME.source=local, .path)"
    for expected in (said, said + hint):
        with pytest.raises(Refusal) as caught:
            rows(Dataset("own", "d/q.jsonl", COMMIT), "calibration")
        assert str(caught.value) == expected
        (tmp_path / "d").mkdir(exist_ok=True)
        (tmp_path / "d" / "q.jsonl").touch()
    with pytest.raises(Refusal) as caught:
        rows(Documents("c", "d/q.jsonl", COMMIT, "train", "test"), "calibration")
    assert str(caught.value).endswith("(hf auth login, HF_TOKEN)")  # it stands in conf/


def test_a_column_that_nobody_reads_is_not_decoded(
    hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoding takes another library for every kind of picture and sound, and here it must fail."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    files = [{"bytes": b"no picture", "path": None}] * 3
    said = {"instruction": ["Ask."] * 3, "output": ["Say."] * 3, "text": ["Both."] * 3}
    data = datasets.Dataset.from_dict({**said, "picture": files})
    data = data.cast_column("picture", datasets.Image())
    hub({"train": data})
    one = Instruction("Ask.", "", "Say.")
    assert rows(Dataset("own", "me/own", COMMIT), "calibration") == [one] * 3
    assert rows(Instructions("own", "me/own", COMMIT, evaluation="x"), "calibration") == [one] * 3
    document = Documents("c4", "a/c4", "v1", "train", "test", field="text")
    assert rows(document, "calibration") == [Text("Both.")] * 3
    monkeypatch.setattr(repository, "_rows", lambda *where: data.to_iterable_dataset())
    assert rows(Dataset("own", "me/own", COMMIT, first=2), "calibration") == [one] * 2


def test_a_mistake_in_code_is_none_of_the_hub(hub: Any) -> None:
    hub(AttributeError("no such thing"))
    with pytest.raises(AttributeError):
        rows(Instructions("alpaca", "a/b", "main"), "calibration")


def test_constructing_and_the_origin_of_a_commit_ask_nothing_of_the_hub(hub: Any) -> None:
    stand_in = hub(ConnectionError("no network"))
    for source in (
        Instructions("alpaca", "a/b", COMMIT),
        Documents("c4", "a/b", COMMIT, "train", "test"),
    ):
        origin = source.origin()
        assert (origin.source, origin.revision, origin.location) == ("hub", COMMIT, "a/b")
        assert not source.is_file
    assert stand_in.asked == []


# without a network


COMMIT, OTHER = "1" * 40, "2" * 40


@pytest.mark.parametrize(
    ("asked", "found", "taken"),
    [(COMMIT, COMMIT, True), (COMMIT, OTHER, False), ("main", OTHER, True), (COMMIT, "v2", True)],
)
def test_rows_of_another_revision_than_was_asked_for_are_refused(
    hub: Any, tmp_path: Path, asked: str, found: str, taken: bool
) -> None:
    """In a cache, rows lie in a folder that is called by their commit."""
    texts()["train"].save_to_disk(tmp_path / found)
    hub({"train": datasets.load_from_disk(tmp_path / found)})
    source = Documents("c4", "a/c4", asked, "train", "test")
    if taken:
        assert len(rows(source, "calibration")) == 3
    else:
        said = f"(it holds revision {found[:12]}, asked for is {asked[:12]}), and https://hugging"
        with pytest.raises(Refusal, match=re.escape(said)):
            rows(source, "calibration")


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A place where somebody listens, as the hub's address."""
    monkeypatch.setattr(hub_module, "getproxies", lambda: {"no": "localhost"})
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", address)
        yield server


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, bool, int]]:
    """Of every load: whether both libraries were offline, and the level of their log."""
    seen = []

    def load(*args: Any, **options: Any) -> datasets.Dataset:
        modes = (datasets.config.HF_HUB_OFFLINE, huggingface_hub.constants.HF_HUB_OFFLINE)
        seen.append((*modes, datasets.utils.logging.get_verbosity()))
        return texts()["train"]

    for config in (datasets.config, huggingface_hub.constants):
        monkeypatch.setattr(config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets, "load_dataset", load)
    return seen


def load() -> None:
    rows(Documents("c4", "a/c4", "v1", "train", "test"), "calibration")


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("hf-mirror.com", "must begin with https:// (or http://), and a host must follow"),
        ("ftp://hub:21", "must begin with https:// (or http://), and a host must follow"),
        ("https://", "must begin with https:// (or http://), and a host must follow"),
        (
            "http://127.0.0.1:abc",
            "is no address (Port could not be cast to integer value as 'abc')",
        ),
    ],
)
def test_a_hub_whose_address_is_none_is_told_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, offline: Any, address: str, reason: str
) -> None:
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", address)
    with pytest.raises(Refusal) as caught:
        load()
    assert str(caught.value.under("calib")) == f"HF_ENDPOINT={address}: {reason}"
    assert offline == []


def test_an_address_with_which_no_library_can_be_loaded_is_told_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:abc")
    with pytest.raises(Refusal, match=r"HF_ENDPOINT=http://127\.0\.0\.1:abc: is no address \("):
        sweep([])
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "hf-mirror.com")
    hub_module.check_address()  # whoever asks for nothing needs no hub


def test_a_hub_that_answers_is_asked(endpoint: socket.socket, offline: Any) -> None:
    load()
    assert offline == [(False, False, logging.ERROR)]


def test_a_hub_out_of_reach_leaves_the_cache_at_once_and_in_silence(
    endpoint: socket.socket, offline: Any
) -> None:
    endpoint.close()
    for _ in range(2):
        load()
    assert offline == [(True, True, logging.ERROR)] * 2
    assert not datasets.config.HF_HUB_OFFLINE
    assert not huggingface_hub.constants.HF_HUB_OFFLINE
    assert datasets.utils.logging.get_verbosity() == logging.WARNING


def test_a_hub_that_never_answers_is_given_up(
    endpoint: socket.socket, offline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait(*args: Any) -> None:
        time.sleep(2)
        raise TimeoutError

    monkeypatch.setattr(hub_module, "PATIENCE", 0.1)
    monkeypatch.setattr(socket, "create_connection", wait)
    started = time.monotonic()
    load()
    assert time.monotonic() - started < 1.5
    assert offline == [(True, True, logging.ERROR)]


def test_a_hub_behind_a_proxy_is_asked(
    endpoint: socket.socket, offline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint.close()
    monkeypatch.setattr(hub_module, "getproxies", lambda: {"https": "http://proxy:8080"})
    load()
    assert offline == [(False, False, logging.ERROR)]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"first": 10}, "^first=10: is of data files, and files is false"),
        ({"files": True, "calibration": "train.jsonl.zst"}, "^calibration=train.jsonl.zst: files"),
        ({"files": True, "calibration": "a.parquet"}, "^evaluation=test: files is true"),
    ],
)
def test_what_says_which_rows_are_read_is_checked_before_they_are(
    settings: dict[str, Any], said: str
) -> None:
    given = {"calibration": "train", "evaluation": "test"} | settings
    with pytest.raises(Refusal, match=said):
        Documents("mine", "me/mine", "main", **given)


def test_a_cache_that_was_moved_is_named_where_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HOME", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    assert hub_errors._caches() == str(tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", "/shared/hub")
    assert hub_errors._caches() == f"/shared/hub and {tmp_path / 'datasets'}"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_cache_that_is_not_ones_own_is_told_with_the_file_and_what_helps(number: int) -> None:
    caught = ConnectionError("Couldn't reach it")
    caught.__cause__ = OSError(number, os.strerror(number), "/shared/hf/datasets/it.lock")
    said = Told("me/it", "me/it", caught, "HF_HUB_OFFLINE is set", lambda: None, "").reason()
    assert said == (
        f"cannot be read or kept ({os.strerror(number)}: /shared/hf/datasets/it.lock); set "
        "HF_DATASETS_CACHE (for models HF_HOME) to a folder of your own"
    )
