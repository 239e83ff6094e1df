from __future__ import annotations

import random
from typing import Any

import datasets
import pytest
from datasets.exceptions import DatasetNotFoundError

from sweep.data.hub import HELD_OUT, Documents, Instructions, held_out
from sweep.data.row import Instruction, Row, Text
from sweep.data.source import Part, Source
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
        data_files: dict[str, str] | None = None,
    ) -> datasets.Dataset:
        self.asked.append((repo, config, revision, split, data_files))
        if isinstance(self.found, Exception):
            raise self.found
        return self.found[split if data_files is None else data_files[split]]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts data, or an error, behind `datasets.load_dataset`."""

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
    assert stand_in.asked == [("a/b", "raw", "v1", "train", None)]
    assert Text(" Prose of the test . \n") in rows(source, "evaluation")
    assert stand_in.asked[1:] == [("a/b", "raw", "v1", "test", None)]


def test_each_part_may_be_a_data_file(hub: Any) -> None:
    found = texts()
    stand_in = hub({"en/train.json.gz": found["train"], "en/val.json.gz": found["test"]})
    stand_in.found["rows"] = stand_in.found["en/train.json.gz"]
    source = Documents("c4", "a/c4", "v1", "en/train.json.gz", "en/val.json.gz", files=True)
    assert rows(source, "calibration") == [Text("One."), Text("Two."), Text("Three.")]
    assert stand_in.asked == [("a/c4", None, "v1", "rows", {"rows": "en/train.json.gz"})]
    assert Text(" = Title = \n") in rows(source, "evaluation")


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


def test_another_column_can_hold_the_text(hub: Any) -> None:
    hub(texts("content"))
    source = Documents("code", "a/code", "v1", "train", "test", field="content")
    assert rows(source, "calibration")[0] == Text("One.")


def test_a_column_that_is_not_there_is_answered_with_those_that_are(hub: Any) -> None:
    hub(texts("content"))
    with pytest.raises(Refusal) as caught:
        rows(Documents("code", "a/code", "v1", "train", "test"), "calibration")
    assert str(caught.value) == "field=text: a/code has the columns content, url"
    hub({"train": texts()["train"]})
    with pytest.raises(Refusal) as caught:
        rows(Instructions("code", "a/code", "v1"), "calibration")
    said = str(caught.value)
    assert said.startswith("source=code: a/code has the columns text, url; must have instruction")


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("Couldn't reach 'a/b' on the Hub\n  with\n  a long story"),
        DatasetNotFoundError("Dataset 'a/b' doesn't exist on the Hub"),
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
    assert said.startswith(f"source={source.origin().corpus}: a/b is neither in the cache")
    assert said.endswith("or choose a local file")
    assert "\n" not in said
    assert "long story" not in said


def test_constructing_and_origin_ask_nothing_of_the_hub(hub: Any) -> None:
    stand_in = hub(ConnectionError("no network"))
    for source in (
        Instructions("alpaca", "a/b", "abc"),
        Documents("c4", "a/b", "abc", "train", "test"),
    ):
        origin = source.origin()
        assert (origin.source, origin.revision, origin.location) == ("hub", "abc", "a/b")
    assert stand_in.asked == []
