"""Answers of several cells side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sweep.files import Folder
from sweep.report import entries, generations, table
from tests.report.conftest import HOSTILE

Write = Callable[..., Path]


def test_answers_that_disagree_most_come_first_and_flips_are_named(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    write_cell(quality=0.5, answers=["answer 0 True", *HOSTILE])
    shown, total, flips = generations.exchanges(rows().entries, 10)
    assert total == 30
    assert flips > 10
    assert 10 <= len(shown) <= 20
    assert sum(one.flip == "right to wrong" for one in shown) >= 10  # a flip is what one looks for
    assert [one.disagreement for one in shown] == sorted(
        (o.disagreement for o in shown), reverse=True
    )
    assert shown[0].disagreement == 1
    assert {one.flip for one in shown} <= {"", "right to wrong"}
    assert any(one.flip for one in shown)


def test_a_grade_stands_beside_the_answer_that_was_graded_and_no_other(
    write_cell: Write, tmp_path: Path
) -> None:
    folder = Folder.at(write_cell(quality=0.5))
    said, tasks = folder.cell(), folder.metric("tasks", "t")
    assert said is not None
    assert tasks is not None
    names = ("prompt", "gold", "dense_answer", "answer")
    first, second = (
        {name: row[name] for name in names} for row in folder.examples("tasks", "t")["alpaca"][:2]
    )
    longer = {**second, "dense_answer": f"{second['dense_answer']} and more"}
    graded = [{**first, "judge": 8.0}, {**longer, "judge": 3.0}]
    judge = {**tasks, "settings_id": "j", "values": {}, "columns": []}
    folder.write_metric("judge", judge, {"alpaca": graded})
    asked = {**said["metrics"], "judge": "j"}
    folder.write_cell(said["id"], said["identity"], asked, said["config"], said["about"])
    shown, total, _ = generations.exchanges(entries.below(tmp_path / "outputs"), 40)
    assert len(shown) == total == 31  # the second question was answered in two ways
    found = {(one.prompt, one.dense): {*one.scores} for one in shown}
    assert found[first["prompt"], first["dense_answer"]] == {"em", "f1", "judge"}
    assert found[second["prompt"], second["dense_answer"]] == {"em", "f1"}
    assert found[second["prompt"], longer["dense_answer"]] == {"judge"}


def test_of_answers_that_disagree_alike_flips_come_first(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    write_cell(quality=0.7, answers=["x"])
    entries = rows().entries
    shown, total, flips = generations.exchanges(entries, 100)
    assert {one.disagreement for one in shown} == {1}
    assert 4 < flips < total == len(shown)
    assert [bool(one.flip) for one in shown] == [True] * flips + [False] * (total - flips)
    few, *_ = generations.exchanges(entries, 4)
    assert [bool(one.flip) for one in few] == [True] * 4  # and no four others before them


def test_a_long_answer_is_cut_and_says_how_long_it_was() -> None:
    said = generations._cut("a" * 5000)
    assert said.endswith("… (5000 letters)")
    assert len(said) < 1600


def test_words_in_common_are_counted_with_their_number() -> None:
    assert generations._apart("a a b", "a b b") == pytest.approx(1 / 3)
    assert generations._apart("", "") == 0
    assert generations._apart("", "a") == 1
