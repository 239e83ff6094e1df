"""The only timing among the metrics; what it says is held against a clock of the test's own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sweep.cell import make
from sweep.grid import sweep
from sweep.metric import speed
from sweep.metric.speed import Speed
from sweep.model.contents import fingerprint
from sweep.refusal import Refusal

Frozen = Callable[..., dict[str, Any]]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets the seconds of the runs that follow."""

    def clock(*seconds: float) -> None:
        def readings() -> Iterator[float]:
            for length in seconds:
                yield 0.0
                yield length

        given = readings()
        monkeypatch.setattr(speed, "_now", lambda subject: next(given))

    return clock


def test_the_medians_of_the_timed_runs_count(
    clock: Callable[..., None], build: Any, subject: Any
) -> None:
    metric = Speed(seqlen=10, new_tokens=4, sequences=3, repeats=3)
    dense, compressed = subject(build(vocab_size=340)), subject(build(vocab_size=340))
    clock(1, 2, 8, 4, 4, 3)  # in turns, the compressed model first
    metric.prepare(dense, {}, {})
    result = metric.measure(compressed, dense, {})
    assert {name: value.value for name, value in result.values.items()} == {
        "tokens_per_s": 3.0,  # 12 tokens in 4 seconds
        "dense_tokens_per_s": 4.0,
        "speed_of_dense": 0.75,
    }
    assert [row["dense_tokens_per_s"] for row in result.examples["timings"]] == [6.0, 3.0, 4.0]
    assert all(v.better is None for v in result.values.values())
    for name, value in result.values.items():  # of three runs, now and then one is drawn thrice
        each = {
            "tokens_per_s": (12.0, 1.5),
            "dense_tokens_per_s": (6.0, 3.0),
            "speed_of_dense": (2.0, 0.5),
        }[name]
        assert (value.high, value.low) == each
    assert result.values["tokens_per_s"].of == "timed runs"


def test_a_model_generates_as_many_tokens_whatever_it_says(
    build: Any, subject: Any, passes: Any
) -> None:
    metric = Speed(seqlen=9, new_tokens=5, repeats=2)
    model = build(vocab_size=340)
    model.generation_config.eos_token_id = list(range(300))  # would end soon
    widths = passes(model)
    dense = subject(model)
    metric.measure(dense, dense, {})
    assert widths == [4, 1, 1, 1, 1] * 4  # each timed run has one before it that is not


def test_the_models_are_timed_in_turns_and_the_compressed_weights_are_there_again(
    frozen: Frozen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[float] = []
    generate = Speed._generate

    def counted(self: Speed, subject: Any, ids: Any) -> float:
        weight = subject.model.model.layers[0].mlp.up_proj.weight
        timed.append(round(float((weight == 0).float().mean()), 1))
        return generate(self, subject, ids)

    monkeypatch.setattr(Speed, "_generate", counted)
    small = ("calib.n_samples=4", "metric.speed.repeats=2", "metric.perplexity.n_samples=2")
    sweep([frozen("method=wanda", "metric=[speed,perplexity]", *small)])
    assert timed == [0.0] * 2 + [0.5, 0.0] * 2
    (cell,) = (tmp_path / "outputs" / "cells").glob("*wanda*")
    record = json.loads((cell / "metrics" / "speed.json").read_text())
    assert record["environment"]["threads"] >= 1
    assert record["environment"]["device"]
    assert record["values"]["tokens_per_s"]["unit"] == "tokens/s"
    beside = json.loads((cell / "metrics" / "perplexity.json").read_text())["values"]
    (cell / "metrics" / "perplexity.json").unlink()
    sweep([frozen("method=wanda", "metric=[perplexity]", *small[::2])])
    alone = json.loads((cell / "metrics" / "perplexity.json").read_text())["values"]
    assert alone == beside  # what is measured after it is measured on the same weights


def test_no_default_and_no_other_metric_knows_of_it(frozen: Frozen) -> None:
    assert "speed" not in frozen()["metric"]
    alone = make(frozen("metric=[perplexity]"), fingerprint)
    beside = make(frozen("metric=[perplexity,speed]"), fingerprint)
    assert alone.id == beside.id
    assert alone.metric_id("perplexity") == beside.metric_id("perplexity")


def test_an_answer_without_room_for_a_prompt_is_refused() -> None:
    with pytest.raises(Refusal, match="new_tokens=8: leaves no room for a prompt"):
        Speed(seqlen=8, new_tokens=8)
