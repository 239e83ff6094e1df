from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sweep.data.row import Text, Tokens
from sweep.data.tokens import TokenFile
from sweep.metric import scan as scan_module
from sweep.metric.divergence import DistributionDivergence
from sweep.metric.metric import Result
from sweep.metric.perplexity import Perplexity

IDS = torch.randint(3, 40, (7, 9), generator=torch.Generator().manual_seed(4))
WINDOWS = [Tokens(tuple(ids)) for ids in IDS.tolist()]


def measure(metric: Any, asked: Any, dense: Any | None = None) -> Result:
    data = metric.load(asked.tokenizer)
    reference = asked if dense is None else dense
    metric.prepare(reference, data, {})
    found: Result = metric.measure(asked, reference, data)
    return found


@torch.no_grad()
def naive(model: Any, windows: list[list[int]]) -> list[list[float]]:
    """Token by token: the loss of each, given those before it, from a pass over those alone."""
    return [
        [
            -float(model(torch.tensor([ids[:t]])).logits[0, -1].double().log_softmax(-1)[ids[t]])
            for t in range(1, len(ids))
        ]
        for ids in windows
    ]


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3_text", "gpt_neox", "falcon", "opt"])
def test_perplexity_is_that_of_a_naive_loop(
    build: Any, subject: Any, rows: Any, family: str
) -> None:
    model = build(family)
    found = measure(Perplexity({"a": rows(WINDOWS)}), subject(model))
    losses = naive(model, IDS.tolist())
    mean = np.mean(losses)
    assert found.values["loss"].value == pytest.approx(mean, rel=1e-5)
    assert found.values["perplexity"].value == pytest.approx(math.exp(mean), rel=1e-5)
    assert found.values["perplexity"].n == 7 * 8
    by_sequence = [row["loss"] for row in found.examples["a"]]
    np.testing.assert_allclose(by_sequence, np.mean(losses, axis=1), rtol=1e-5)


@pytest.mark.parametrize("metric", [Perplexity, DistributionDivergence])
def test_a_prediction_that_is_no_number_anywhere_is_no_result(
    build: Any, subject: Any, rows: Any, metric: Any
) -> None:
    """The first sequence is in order; a token of the third breaks what follows it."""
    model = build()
    windows = [Tokens((3, 4, 5, 6)), Tokens((4, 5, 6, 7)), Tokens((3, 39, 4, 5))]
    model.model.embed_tokens.weight.data[39] = float("nan")
    with pytest.raises(
        FloatingPointError,
        match=r"rows: loss is NaN .* 3 of 9 .* in sequence 2; model\.embed_tokens makes",
    ):
        measure(metric({"a": rows(windows)}), subject(model))


def test_perplexity_of_a_text_is_over_all_predicted_tokens_of_its_windows(
    build: Any, subject: Any, rows: Any, tokenizer: Any
) -> None:
    documents = [Text("The keeper of the lighthouse."), Text("Nobody knew the name of the ship!")]
    stream = [t for d in documents for t in (*tokenizer(d.text)["input_ids"], 2)]
    count = len(stream) // 6
    assert count > 2
    model = build(vocab_size=len(tokenizer))
    found = measure(Perplexity({"a": rows(documents)}, seqlen=6), subject(model))
    losses = naive(model, [stream[6 * i : 6 * i + 6] for i in range(count)])
    assert found.values["loss"].value == pytest.approx(np.mean(losses), rel=1e-5)
    assert found.values["loss"].n == count * 5
    assert found.data[0]["seqlen"] == 6
    assert found.data[0]["corpus"] == "rows"
    assert found.data[0]["scored_tokens"] == count * 5


def test_the_interval_is_the_bootstrap_over_windows(build: Any, subject: Any, rows: Any) -> None:
    found = measure(Perplexity({"a": rows(WINDOWS)}), subject(build()))
    loss, perplexity = found.values["loss"], found.values["perplexity"]
    assert loss.low < loss.value < loss.high
    assert perplexity.low == pytest.approx(math.exp(loss.low))
    assert perplexity.high == pytest.approx(math.exp(loss.high))
    means = [row["loss"] for row in found.examples["a"]]
    deviation = np.std(means) / math.sqrt(len(means))
    assert loss.high - loss.low == pytest.approx(2 * 1.96 * deviation, rel=0.15)


@pytest.mark.parametrize("chunk", [1, 40, 3 * 40 + 7])
def test_how_many_positions_are_held_at_once_changes_nothing(
    build: Any, subject: Any, compress: Any, rows: Any, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    def both() -> list[float]:
        dense, other = subject(build(), dense=True), subject(compress(build()))
        metric = DistributionDivergence({"a": rows(WINDOWS)})
        divergence = measure(metric, other, dense)
        perplexity = measure(Perplexity({"a": rows(WINDOWS)}), subject(build()))
        return [v.value for found in (divergence, perplexity) for v in found.values.values()]

    whole = both()
    monkeypatch.setattr(scan_module, "CHUNK_ON_CPU", chunk)
    np.testing.assert_allclose(both(), whole, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 50])
def test_the_batch_size_changes_nothing(
    build: Any, subject: Any, rows: Any, batch_size: int
) -> None:
    metric = Perplexity({"a": rows(WINDOWS)})
    one, other = (measure(metric, subject(build(), batch_size=n)) for n in (2, batch_size))
    for name, value in one.values.items():
        assert other.values[name].value == pytest.approx(value.value, rel=1e-6)
        assert other.values[name].n == value.n
    for row, same in zip(one.examples["a"], other.examples["a"], strict=True):
        assert same == pytest.approx(row, rel=1e-5)


def test_perplexity_and_divergence_over_the_same_text_take_one_pass(
    build: Any, subject: Any, compress: Any, rows: Any, passes: Any, tokenizer: Any
) -> None:
    metrics = [Perplexity({"a": rows(WINDOWS)}), DistributionDivergence({"b": rows(WINDOWS)})]
    dense_model, model = build(), compress(build())
    dense, other = subject(dense_model, dense=True), subject(model)
    dense_passes, other_passes = passes(dense_model), passes(model)
    data = [metric.load(tokenizer) for metric in metrics]
    for metric, material in zip(metrics, data, strict=True):
        metric.prepare(dense, material, {})
    for metric, material in zip(metrics, data, strict=True):
        metric.measure(other, dense, material)
    # 7 windows in batches of 4: two passes, after a short one that checks the head
    assert dense_passes == [8, 9, 9]
    assert other_passes == [8, 9, 9]
    for metric, material in zip(metrics, data, strict=True):
        metric.measure(dense, dense, material)
    assert len(dense_passes) == 3


def test_the_dense_models_divergence_can_be_asked_after_its_perplexity(
    build: Any, subject: Any, rows: Any
) -> None:
    dense = subject(build(), dense=True)
    measure(Perplexity({"a": rows(WINDOWS)}), dense)
    found = measure(DistributionDivergence({"a": rows(WINDOWS)}), dense)
    assert found.values["jsd"].value == 0


def test_perplexity_alone_needs_nothing_of_the_dense_model(
    build: Any, subject: Any, compress: Any, rows: Any
) -> None:
    dense = subject(build(), dense=True)
    dense.leave()
    found = measure(Perplexity({"a": rows(WINDOWS)}), subject(compress(build())), dense)
    assert found.values["perplexity"].value > 1


def test_several_corpora_are_told_apart_by_name(build: Any, subject: Any, rows: Any) -> None:
    metric = Perplexity({"a": rows(WINDOWS[:3]), "b": rows(WINDOWS[3:])}, n_samples=2)
    found = measure(metric, subject(build()))
    assert found.columns == ("perplexity_a", "perplexity_b")
    assert set(found.values) == {"perplexity_a", "loss_a", "perplexity_b", "loss_b"}
    assert found.values["perplexity_a"].n == 2 * 8
    assert [len(rows) for rows in found.examples.values()] == [2, 2]
    assert measure(Perplexity({"b": rows(WINDOWS)}), subject(build())).columns == ("perplexity",)


def test_a_result_is_plain_data(build: Any, subject: Any, rows: Any) -> None:
    found = measure(Perplexity({"a": rows(WINDOWS)}), subject(build()))
    assert json.loads(json.dumps(found.examples["a"])) == found.examples["a"]
    assert json.loads(json.dumps(found.data)) == found.data


def test_the_perplexity_of_a_real_model_is_the_one_on_record(real: Path, subject: Any) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(real / "stories260K", dtype=torch.float32)
    source = TokenFile(str(real / "golden" / "tokens.safetensors"), "evaluation")
    found = measure(Perplexity({"tokens": source}), subject(model, batch_size=16))
    numbers = json.loads((real / "golden" / "golden.json").read_text())
    expected = next(entry for entry in numbers if entry["name"] == "dense")
    assert found.values["perplexity"].value == pytest.approx(expected["perplexity"], rel=1e-5)
    assert found.values["perplexity"].n == 32 * 255
