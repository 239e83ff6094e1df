"""Values, intervals and flips made of the rows of tasks and groups."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score, matthews_corrcoef

from sweep.metric.lm_eval import LmEval
from sweep.metric.lm_eval_values import _bounds
from sweep.numerics.bootstrap import interval
from tests.own_tasks import CONTEXTS, GROUP, TURNS

pytest.importorskip("lm_eval")


@pytest.fixture
def asked(subject: Any, build: Any, tokenizer: Any) -> Callable[..., Any]:
    """A random model's result for these tasks of a folder, against itself."""

    def asked(folder: Path, *tasks: str) -> Any:
        metric = LmEval(tasks=tasks, include_path=str(folder))
        data = metric.load(tokenizer)
        made = subject(build(vocab_size=len(tokenizer)))
        return metric.measure(made, made, data)

    return asked


@pytest.mark.parametrize("chat", [False, True])
def test_kept_rows_are_of_the_same_prompts_not_only_of_the_same_questions(
    subject: Any, build: Any, tokenizer: Any, own: Path, chat: bool
) -> None:
    """A chat template may have a date in it."""
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = TURNS
    asked = ("animals", "words", "spoken")
    metric = LmEval(asked, str(own), num_fewshot=2, limit=4, apply_chat_template=chat)
    data = metric.load(tokenizer)
    dense = subject(build(vocab_size=len(tokenizer)), tokenizer=tokenizer)
    kept = metric._rows(dense, data)
    assert metric._kept(metric.load(tokenizer), kept) is kept
    tokenizer.chat_template = TURNS.replace("<assistant>", "<today>")
    others = metric._kept(metric.load(tokenizer), kept)
    assert others is (None if chat else kept)


def test_where_the_choices_are_contexts_answer_and_gold_are_the_likelier_and_the_marked_one(
    asked: Callable[..., Any], tmp_path: Path
) -> None:
    """Not the text that follows them all; nor is a choice without its context one more."""
    data = tmp_path / "contexts.jsonl"
    rows = [
        {"label": i % 2, "rest": "was hungry.", "begun": [f"The dog {i} saw the {x}" for x in who]}
        for i, who in enumerate([("fox", "foal"), ("old ship", "mill")] * 4)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "contexts.yaml").write_text(CONTEXTS.format(data=data))
    found = asked(tmp_path, "contexts").examples["contexts"]
    assert {row["acc"] for row in found} == {0.0, 1.0}
    for i, row in enumerate(found):
        said = [f"{x} was hungry." for x in (("fox", "foal"), ("old ship", "mill"))[i % 2]]
        likely = [ll for ((ll, _),) in row["resps"][:2]]
        assert row["prompt"] == f"The dog {i} saw the"
        assert row["gold"] == said[i % 2]
        assert row["answer"] == said[likely.index(max(likely))]
        assert (row["answer"] == row["gold"]) == bool(row["acc"])


def test_a_group_has_the_interval_and_the_flips_of_its_tasks_rows_together(
    subject: Any, build: Any, tokenizer: Any, own: Path
) -> None:
    metric = LmEval(tasks=("animals",), include_path=str(own))
    data = metric.load(tokenizer)
    made, dense = (subject(build(vocab_size=len(tokenizer))) for _ in range(2))
    kept = {
        name: [{**row, "acc": 1 - row["acc"]} if i < 2 else row for i, row in enumerate(rows)]
        for name, rows in metric._rows(made, data).items()
    }
    metric.prepare(dense, data, kept)
    found = metric.measure(made, dense, data)
    scores = np.array([row["acc"] for name in ("fox", "dog") for row in found.examples[name]])
    value, flips = found.values["acc_animals"], found.values["flips_acc_animals"]
    assert value.value == pytest.approx(scores.mean())
    assert (value.low, value.high) == interval(scores, np.ones(12 + 6), (0.0, 1.0))
    assert value.mean is None  # there is no file of its rows
    assert flips.value == pytest.approx((2 + 2) / (12 + 6))
    assert value.n == flips.n == 12 + 6


def test_a_group_that_counts_its_tasks_alike_whatever_their_size_has_no_interval(
    asked: Callable[..., Any], own: Path, tmp_path: Path
) -> None:
    """Their rows together would have another value."""
    for name in ("fox", "dog"):
        shutil.copy(own / f"{name}.yaml", tmp_path)
    (tmp_path / "animals.yaml").write_text(GROUP.replace("true", "false"))
    values = asked(tmp_path, "animals").values
    of_tasks = [values[f"acc_{name}"].value for name in ("fox", "dog")]
    assert values["acc_animals"].value == pytest.approx(np.mean(of_tasks))
    assert values["acc_animals"].low is None
    assert "flips_acc_fox" in values
    assert "flips_acc_animals" not in values


PAIRED = """
task: paired
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{label}}}}"
doc_to_choice: "{{{{choices}}}}"
metric_list:
  - {{metric: f1}}
  - {{metric: mcc}}
  - {{metric: acc}}
"""


def test_what_makes_a_value_of_rows_is_known_by_its_name_and_not_by_their_numbers(
    asked: Callable[..., Any], tmp_path: Path
) -> None:
    """Of F1 a row is a class and an answer, which might be the sum of a number of words."""
    data = tmp_path / "paired.jsonl"
    words = [["river", "mill"], ["mill", "river"]]
    rows = [
        {"question": f"The fox {i} ran to the", "choices": words[i % 2], "label": i % 3 % 2}
        for i in range(24)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "paired.yaml").write_text(PAIRED.format(data=data))
    found = asked(tmp_path, "paired")
    gold, said = np.array([row["f1"] for row in found.examples["paired"]]).T
    tasks = LmEval(tasks=("paired",), include_path=str(tmp_path)).load(None)
    names = {name: tasks["paired"].aggregation(name) for name in ("f1", "mcc", "acc", "none")}
    assert names == {"f1": "f1", "mcc": "matthews_corrcoef", "acc": "mean", "none": "mean"}
    f1, mcc = found.values["f1_paired"], found.values["mcc_paired"]
    assert f1.value == pytest.approx(2 * (gold * said).sum() / (gold + said).sum())
    assert f1.low < f1.value < f1.high
    assert mcc.low < mcc.value < mcc.high
    assert f1.mean is None


class TestInterval:
    """Against samples drawn one by one, and scored by scikit-learn."""

    @pytest.fixture
    def drawn(self) -> tuple[Any, list[Any]]:
        rng = np.random.default_rng(3)
        gold = rng.random(300) < 0.3
        pairs = np.stack([gold, gold ^ (rng.random(300) < 0.15)], axis=1).astype(int)
        return pairs, [pairs[rng.integers(0, 300, 300)] for _ in range(600)]

    @pytest.mark.parametrize(
        ("name", "score"), [("f1", f1_score), ("matthews_corrcoef", matthews_corrcoef)]
    )
    def test_is_that_of_a_bootstrap(
        self, drawn: tuple[Any, list[Any]], name: str, score: Callable[..., float]
    ) -> None:
        pairs, samples = drawn
        ends = np.quantile([score(*sample.T) for sample in samples], [0.025, 0.975])
        assert _bounds(pairs.tolist(), name) == pytest.approx(tuple(ends), abs=0.015)

    def test_of_few_rows_f1_is_of_those_that_are_called_positive(self) -> None:
        """What nobody calls so is no evidence, and where nothing is called so there is none."""
        perfect = _bounds([[1, 1]] * 20, "f1")
        assert _bounds([[1, 1]] * 20 + [[0, 0]] * 80, "f1") == perfect
        least = 0.025 ** (1 / 20)  # of a share of 20 that are all right: Clopper and Pearson
        assert perfect == pytest.approx((2 * least / (1 + least), 1.0), abs=1e-3)
        none = _bounds([[1, 0]] * 20, "f1")
        assert none[0] == 0
        assert 0 < none[1] < 0.5
        assert _bounds([[0, 0]] * 20, "f1") == (None, None)

    def test_of_one_class_alone_there_is_no_correlation(self) -> None:
        assert _bounds([[1, 1]] * 20, "matthews_corrcoef") == (None, None)

    def test_of_a_tasks_own_function_or_of_other_classes_there_is_none(self) -> None:
        assert _bounds([1.0, 0.0, 1.0], None) == (None, None)
        assert _bounds([[2, 1], [0, 2]], "f1") == (None, None)
        assert _bounds([["a", "b"]], "f1") == (None, None)
