from __future__ import annotations

from itertools import islice

import pytest

from sweep.data.embedded import Exercises, Prose
from sweep.data.row import Contents, Instruction, Text
from sweep.data.source import Source

SOURCES = [
    Prose("c4"),
    Exercises("alpaca", wording="plain"),
    Exercises("unnatural", wording="reworded"),
]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.corpus)
def test_a_stand_in_says_that_it_is_one(source: Source) -> None:
    origin = source.origin()
    assert origin.source == "embedded"
    assert origin.revision.startswith("world-")
    assert origin.corpus in ("c4", "alpaca", "unnatural")


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.corpus)
def test_calibration_rows_are_never_evaluation_rows_of_any_stand_in(source: Source) -> None:
    seeds = [Contents.of(islice(source.rows("calibration", seed), 400)) for seed in range(3)]
    for other in SOURCES:
        evaluation = Contents.of(islice(other.rows("evaluation", None), 400))
        for calibration in seeds:
            assert not evaluation.shared(calibration)
            assert not evaluation.rows & calibration.rows


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.corpus)
def test_the_seed_decides_the_rows(source: Source) -> None:
    plain, zero, again, one = (
        list(islice(source.rows("calibration", seed), 20)) for seed in (None, 0, 0, 1)
    )
    assert plain == zero == again != one


def test_prose_is_text_and_exercises_are_instructions_of_a_known_kind() -> None:
    assert all(isinstance(row, Text) for row in islice(SOURCES[0].rows("evaluation", None), 20))
    for source in SOURCES[1:]:
        rows = list(islice(source.rows("evaluation", None), 300))
        assert {row.kind for row in rows if isinstance(row, Instruction)} == {"recall", "skill"}
        assert all(isinstance(row, Instruction) and row.output and row.family for row in rows)
