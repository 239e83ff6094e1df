"""A row on which a cell is measured is none with which it is calibrated, whatever they are of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from sweep import grid
from sweep.cell import make
from sweep.check import check
from sweep.data.embedded import Exercises, Prose
from sweep.data.row import Row, Text
from sweep.model.contents import fingerprint
from sweep.pack import _made
from sweep.plan import plan
from sweep.progress import Progress
from sweep.refusal import Refusal
from sweep.workshop import Workshop

COMMON = 4

WORDS = (
    "method=wanda",
    "calib=alpaca",
    "calib.n_samples=4",
    "calib.seqlen=64",
    "metric=[tasks]",
    "metric.tasks.source=alpaca",
    "metric.tasks.n_samples=8",
    "metric.tasks.max_new_tokens=4",
)


@pytest.fixture
def mixed_up(monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """The calibration rows of `alpaca` begin with some on which it is evaluated."""
    plain = Exercises.rows
    evaluation = list(islice(Exercises("alpaca", "plain").rows("evaluation", None), COMMON))

    def rows(self: Exercises, part: Any, seed: int | None) -> Iterator[Row]:
        if part == "calibration" and self.corpus == "alpaca":
            yield from evaluation
        yield from plain(self, part, seed)

    monkeypatch.setattr(Exercises, "rows", rows)
    return evaluation


def checked(config: dict[str, Any]) -> tuple[Any, Any, Workshop]:
    """A cell before and after it was checked."""
    workshop = Workshop(Progress())
    before = make(config, fingerprint)
    (after,) = check([before], workshop)
    return before, after, workshop


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("calib.packing=pad",),
        ("metric.tasks.source=[unnatural,alpaca]",),
        ("calib=mix", "calib.parts.c4.weight=1"),
        ("metric=[divergence]", "metric.divergence.n_samples=8"),
    ],
    ids=" ".join,
)
def test_evaluation_rows_are_left_out_of_the_calibration_set(
    frozen: Any, mixed_up: list[Row], words: tuple[str, ...]
) -> None:
    given = [word for word in WORDS if "tasks" not in word or "divergence" not in "".join(words)]
    before, after, workshop = checked(frozen(*given, *words))
    assert after.without
    assert after.without <= {row.digest for row in mixed_up}
    windows = workshop.windows(after)
    assert windows is not None
    for name in after.parts.metrics:
        for data in workshop.material(after, name).values():
            assert not windows.contents.shared(data.contents)
    assert len(windows.ids) == 4
    assert after.id != before.id
    assert after.identity["without"] == sorted(after.without)


def test_a_document_that_holds_an_answer_is_left_out_too(
    frozen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = next(
        row
        for row in Exercises("alpaca", "plain").rows("evaluation", None)
        if any(text.telling for text in getattr(row, "as_texts", ()))
    )
    (text, *_) = [text for text in asked.as_texts if text.telling]  # type: ignore[union-attr]
    plain = Prose.rows

    def rows(self: Prose, part: Any, seed: int | None) -> Iterator[Row]:
        if part == "calibration":
            yield text
        yield from plain(self, part, seed)

    monkeypatch.setattr(Prose, "rows", rows)
    _, after, _ = checked(frozen(*WORDS, "calib=c4", "metric.tasks.n_samples=200"))
    assert after.without == {Text(text.text).digest}


def test_where_nothing_is_on_both_sides_the_cell_is_as_it_was(frozen: Any) -> None:
    before, after, _ = checked(frozen(*WORDS))
    assert after is before
    assert "without" not in before.identity


def test_what_never_ends_is_refused(frozen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweep.check.ROUNDS", 3)
    evaluation = list(islice(Exercises("alpaca", "plain").rows("evaluation", None), 400))
    monkeypatch.setattr(Exercises, "rows", lambda self, part, seed: iter(evaluation))
    with pytest.raises(Refusal) as caught:
        checked(frozen(*WORDS, "metric.tasks.n_samples=400"))
    assert str(caught.value) == (
        "calib=alpaca: has ever more rows that metric.tasks needs; lower metric.tasks.n_samples, "
        "or give either another split or corpus"
    )


def test_the_result_counts_them_and_the_same_command_finds_it_done(
    frozen: Any, mixed_up: list[Row]
) -> None:
    config = frozen(*WORDS)
    grid.sweep([config])
    (file,) = Path(config["outputs"]).glob("cells/tiny-wanda-50-alpaca-*/compression.json")
    calibration = json.loads(file.read_text())["calibration"]
    assert calibration["rows_left_to_metrics"] == COMMON
    again = plan([config], Workshop(Progress()))
    assert not again.todo
    (compressed,) = [cell for cell in again.cells if cell.parts.method.compresses]
    assert compressed.name == file.parent.name
    # a job gets the configuration, and finds the cell in it that was planned
    described = {**compressed.described(), "config": compressed.config}
    assert _made(described, Workshop(Progress())).id == compressed.id
