from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.special import log_softmax
from scipy.stats import entropy
from torch import Tensor

from sweep.data.row import Instruction, Text, Tokens
from sweep.data.tokens import TokenFile
from sweep.metric.divergence import DistributionDivergence
from sweep.metric.metric import Result
from sweep.metric.text import Scored, responses

IDS = torch.randint(3, 40, (7, 9), generator=torch.Generator().manual_seed(4))
WINDOWS = [Tokens(tuple(ids)) for ids in IDS.tolist()]

EXERCISES = [
    Instruction("Name the ship.", "", "It has no name."),
    Instruction("Add the numbers.", "1, 2", "3"),
    Instruction("Be silent.", "", ""),
    Instruction("Tell the story of the keeper, of the mill and of the sea.", "In short.", "Late."),
    Instruction("Frown.", "", "( and :( again, and once more the bell rings twice"),
    Instruction("Say no.", "", "no"),
]


class Position(NamedTuple):
    """One scored position, computed from whole models in double precision."""

    sequence: int
    jsd: float
    kl_dense_compressed: float
    kl_compressed_dense: float
    agreement: float
    gold_probability_change: float
    loss_dense: float
    loss_compressed: float


@torch.no_grad()
def raw(dense: Any, compressed: Any, text: Scored) -> list[Position]:
    """Every scored position of every sequence, each sequence alone and without padding."""
    found = []
    for i, length in enumerate(text.lengths.tolist()):
        ids = text.ids[i : i + 1, :length]
        logs = [log_softmax(m(ids).logits[0].double().numpy(), -1) for m in (dense, compressed)]
        for t in range(length):
            if text.scored[i, t]:
                gold = int(ids[0, t + 1])
                (log_p, log_q), (p, q) = [log[t] for log in logs], [np.exp(log[t]) for log in logs]
                found.append(
                    Position(
                        i,
                        jensenshannon(p, q) ** 2,
                        entropy(p, q),
                        entropy(q, p),
                        float(p.argmax() == q.argmax()),
                        q[gold] - p[gold],
                        -log_p[gold],
                        -log_q[gold],
                    )
                )
    return found


def measure(metric: Any, asked: Any, dense: Any) -> Result:
    data = metric.load(asked.tokenizer)
    metric.prepare(dense, data, {})
    found: Result = metric.measure(asked, dense, data)
    return found


def in_place(metric: Any, subject: Any, model: Any, change: Callable[[Any], Any]) -> Result:
    """As a cell does it: one model, prepared while it is dense, measured when it is changed."""
    dense = subject(model, dense=True)
    data = metric.load(dense.tokenizer)
    metric.prepare(dense, data, {})
    dense.leave()
    change(model)
    found: Result = metric.measure(subject(model), dense, data)
    return found


def values(found: Result) -> dict[str, float]:
    return {name: value.value for name, value in found.values.items()}


@pytest.fixture
def metric(rows: Any) -> DistributionDivergence:
    return DistributionDivergence({"a": rows(EXERCISES)}, template="unnatural")


@pytest.fixture
def model(build: Any, tokenizer: Any) -> Callable[..., Any]:
    def model(family: str = "llama") -> Any:
        return build(family, vocab_size=len(tokenizer), max_position_embeddings=128)

    return model


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        ("llama", "windows"),
        ("llama", "responses"),
        ("gemma2", "windows"),
        ("granite", "responses"),
        ("cohere", "windows"),
    ],
)
def test_every_number_is_that_of_scipy_on_two_whole_models(
    model: Any, subject: Any, compress: Any, metric: Any, rows: Any, family: str, kind: str
) -> None:
    if kind == "windows":
        metric = DistributionDivergence({"a": rows(WINDOWS)})
    found = in_place(metric, subject, model(family), compress)
    (text,) = metric.load(subject(model()).tokenizer).values()
    expected = raw(model(family), compress(model(family)), text)
    assert text.what == kind
    assert found.data[0]["scored_tokens"] == len(expected)

    for name in Position._fields[1:]:
        mean = np.mean([getattr(position, name) for position in expected])
        assert found.values[name].value == pytest.approx(mean, rel=1e-4, abs=1e-6), name
        assert (found.values[name].n, found.values[name].of) == (len(expected), "tokens")
    for side in ("dense", "compressed"):
        loss = np.mean([getattr(position, f"loss_{side}") for position in expected])
        assert found.values[f"perplexity_{side}"].value == pytest.approx(np.exp(loss), rel=1e-4)

    jsd = np.array([position.jsd for position in expected])
    for percent in (50, 95, 99):
        value = found.values[f"jsd_p{percent}"].value
        assert value == pytest.approx(np.percentile(jsd, percent), rel=1e-4)
    assert found.values["jsd_max"].value == pytest.approx(jsd.max(), rel=1e-4)

    sequence = np.array([position.sequence for position in expected])
    means = [jsd[sequence == i].mean() for i in range(len(text.ids))]
    assert found.values["jsd_sequence_mean"].value == pytest.approx(np.mean(means), rel=1e-4)
    assert found.values["jsd_sequence_mean"].n == len(text.ids)
    assert [row["jsd"] for row in found.examples["a"]] == pytest.approx(means, rel=1e-4)
    assert [row["tokens"] for row in found.examples["a"]] == np.bincount(sequence).tolist()


def test_the_interval_is_the_bootstrap_over_sequences(
    model: Any, subject: Any, compress: Any, metric: Any
) -> None:
    found = in_place(metric, subject, model(), compress)
    rows = found.examples["a"]
    sums = np.array([row["jsd"] * row["tokens"] for row in rows])
    counts = np.array([row["tokens"] for row in rows])
    draws = np.random.default_rng(5).integers(0, len(rows), (20_000, len(rows)))
    ratios = sums[draws].sum(1) / counts[draws].sum(1)
    jsd = found.values["jsd"]
    low, high = np.quantile(ratios, [0.025, 0.975])
    assert jsd.low == pytest.approx(low, abs=0.3 * ratios.std())
    assert jsd.high == pytest.approx(high, abs=0.3 * ratios.std())
    assert jsd.low < jsd.value < jsd.high
    loss, perplexity = found.values["loss_compressed"], found.values["perplexity_compressed"]
    assert perplexity.low == pytest.approx(np.exp(loss.low))
    assert perplexity.high == pytest.approx(np.exp(loss.high))


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_dense_model_measured_against_itself_gives_exactly_zero(
    model: Any, subject: Any, metric: Any, batch_size: int
) -> None:
    dense = subject(model(), dense=True, batch_size=batch_size)
    found = values(measure(metric, dense, dense))
    for name in ("jsd", "kl_dense_compressed", "kl_compressed_dense", "gold_probability_change"):
        assert found[name] == 0, name
    assert found["jsd_max"] == found["jsd_p99"] == found["jsd_sequence_mean"] == 0
    assert found["agreement"] == 1
    assert found["loss_dense"] == found["loss_compressed"]


def test_an_unchanged_copy_gives_zero_too(model: Any, subject: Any, metric: Any) -> None:
    found = values(measure(metric, subject(model()), subject(model(), dense=True)))
    assert found["jsd_max"] == found["kl_dense_compressed"] == 0


def test_compressed_in_place_is_measured_like_two_separate_models(
    model: Any, subject: Any, compress: Any, metric: Any
) -> None:
    apart = measure(metric, subject(compress(model())), subject(model(), dense=True))
    assert values(in_place(metric, subject, model(), compress)) == values(apart)
    assert values(apart)["jsd"] > 0.01


def test_one_dense_model_serves_one_compressed_model_after_another(
    model: Any, subject: Any, compress: Any, metric: Any
) -> None:
    one = model()
    dense = subject(one, dense=True)
    data = metric.load(dense.tokenizer)
    metric.prepare(dense, data, {})
    weights = {name: weight.clone() for name, weight in one.state_dict().items()}
    found = []
    for _ in range(2):
        dense.leave()
        compress(one)
        found.append(values(metric.measure(subject(one), dense, data)))
        one.load_state_dict(weights)
        dense.come_back(one)
    assert found[0] == found[1]
    assert values(metric.measure(dense, dense, data))["jsd"] == 0


def test_what_was_not_prepared_is_refused_and_not_measured_on_changed_weights(
    model: Any, subject: Any, compress: Any, metric: Any
) -> None:
    one = model()
    dense = subject(one, dense=True)
    dense.leave()
    data = metric.load(dense.tokenizer)
    with pytest.raises(RuntimeError, match="not prepared"):
        metric.measure(subject(compress(one)), dense, data)
    with pytest.raises(RuntimeError, match="the dense weights are gone"):
        metric.prepare(dense, data, {})


class Disturbed:
    """Adds noise to the last hidden states at some positions of the sequences of a text."""

    def __init__(self, model: Any, text: Scored, where: Tensor) -> None:
        self.text, self.where, self.touched = text, where, 0
        self.known = {tuple(ids): i for i, ids in enumerate(text.ids.tolist())}
        model.get_decoder().register_forward_hook(self.disturb, with_kwargs=True)

    def disturb(self, module: Any, args: Any, given: dict[str, Any], out: Any) -> Any:
        ids, time = given["input_ids"], given["input_ids"].shape[1]
        for row, tokens in enumerate(ids.tolist()):
            padded = (*tokens, *[0] * (self.text.longest - time))
            if padded in self.known:
                chosen = self.where[self.known[padded], :time]
                out.last_hidden_state[row, chosen] += 5.0
                self.touched += int(chosen.sum())
        return out


def test_predictions_on_prompts_and_padding_change_nothing(
    model: Any, subject: Any, compress: Any, metric: Any, tokenizer: Any
) -> None:
    (text,) = metric.load(tokenizer).values()
    plain = values(measure(metric, subject(compress(model())), subject(model(), dense=True)))
    disturbed = compress(model())
    noise = Disturbed(disturbed, text, ~text.scored)
    found = values(measure(metric, subject(disturbed), subject(model(), dense=True)))
    assert noise.touched > 100
    assert found == plain


def test_predictions_of_the_response_and_of_its_eos_all_count(
    model: Any, subject: Any, compress: Any, metric: Any, tokenizer: Any
) -> None:
    (text,) = metric.load(tokenizer).values()
    plain = measure(metric, subject(compress(model())), subject(model(), dense=True))
    where = torch.zeros_like(text.scored)
    last = text.lengths - 2  # where EOS is predicted
    where[torch.arange(len(last)), last] = True
    disturbed = compress(model())
    Disturbed(disturbed, text, where)
    found = measure(metric, subject(disturbed), subject(model(), dense=True))
    for row, before in zip(found.examples["a"], plain.examples["a"], strict=True):
        assert row["jsd"] != before["jsd"]


@pytest.mark.parametrize("batch_size", [1, 3, 6])
def test_the_batch_size_changes_nothing(
    model: Any, subject: Any, compress: Any, metric: Any, batch_size: int
) -> None:
    one, other = (
        measure(
            metric,
            subject(compress(model()), batch_size=n),
            subject(model(), dense=True, batch_size=n),
        )
        for n in (4, batch_size)
    )
    assert values(other) == pytest.approx(values(one), rel=1e-4, abs=1e-6)
    for row, same in zip(one.examples["a"], other.examples["a"], strict=True):
        assert same == pytest.approx(row, rel=1e-4, abs=1e-6)


def test_a_constant_on_every_logit_changes_nothing_and_a_bias_per_token_does(
    model: Any, subject: Any, metric: Any
) -> None:
    def biased(bias: Tensor) -> float:
        other = model()
        head = torch.nn.Linear(16, len(bias))
        head.weight = other.get_output_embeddings().weight
        head.bias = torch.nn.Parameter(bias)
        other.set_output_embeddings(head)
        apart = subject(model(), dense=True)
        found = measure(metric, subject(other), apart)
        return found.values["jsd_max"].value

    size = len(subject(model()).tokenizer)
    assert biased(torch.full((size,), 7.0)) < 1e-6
    assert biased(torch.randn(size, generator=torch.Generator().manual_seed(0))) > 0.01


def test_the_divergence_grows_as_more_is_taken_away(model: Any, subject: Any, metric: Any) -> None:
    def shrink(share: float) -> Callable[[Any], Any]:
        def change(one: Any) -> Any:
            with torch.no_grad():
                for name, weight in one.named_parameters():
                    if "layers" in name:
                        weight *= 1 - share
            return one

        return change

    found = [in_place(metric, subject, model(), shrink(s)).values["jsd"].value for s in (0, 0.1, 1)]
    assert 0 == found[0] < found[1] < found[2] < np.log(2)


def test_the_template_belongs_to_the_data(tokenizer: Any, rows: Any) -> None:
    keys = {
        DistributionDivergence({"a": rows(EXERCISES)}, template=t).load(tokenizer)["a"].key
        for t in ("alpaca", "unnatural")
    }
    assert len(keys) == 2


def test_prose_is_scored_everywhere_and_instructions_on_their_responses(
    tokenizer: Any, rows: Any
) -> None:
    documents = [Text("Nobody in the village knew the name of the ship.")] * 9
    sources = {"text": rows(documents), "asked": rows(EXERCISES)}
    metric = DistributionDivergence(sources, n_samples=2, seqlen=50, template="unnatural")
    data = metric.load(tokenizer)
    assert data["text"].scored.sum(1).tolist() == [49, 49]
    assert data["asked"].what == "responses"
    whole = responses(rows(EXERCISES), tokenizer, "unnatural", 2, None)
    assert data["asked"].key == whole.key


def test_several_corpora_are_told_apart_by_name(
    model: Any, subject: Any, compress: Any, rows: Any
) -> None:
    metric = DistributionDivergence({"a": rows(WINDOWS[:4]), "b": rows(WINDOWS[4:])})
    found = in_place(metric, subject, model(), compress)
    assert found.columns == ("jsd_a", "jsd_b")
    assert found.values["jsd_a"].n == 4 * 8
    assert found.values["jsd_b"].n == 3 * 8
    assert {name.rsplit("_", 1)[1] for name in found.values} == {"a", "b"}
    assert json.loads(json.dumps(found.examples)) == found.examples


@pytest.mark.parametrize(
    "name",
    ["magnitude-u50", "wanda-u50", "wanda-2of4", "sparsegpt-u50", "sparsegpt-2of4"],
)
def test_divergences_of_a_real_model_are_those_on_record(
    real: Path, subject: Any, name: str
) -> None:
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(real / "stories260K", dtype=torch.float32)
    source = TokenFile(str(real / "golden" / "tokens.safetensors"), "evaluation")
    pruned = load_file(real / "golden" / f"{name}-seed0.safetensors")

    def prune(one: Any) -> None:
        assert pruned
        with torch.no_grad():
            for key, weight in pruned.items():
                one.get_parameter(key).copy_(weight)

    found = values(in_place(DistributionDivergence({"tokens": source}), subject, model, prune))
    numbers = json.loads((real / "golden" / "golden.json").read_text())
    expected = next(entry for entry in numbers if entry["name"] == f"{name}-seed0")
    assert found["jsd"] == pytest.approx(expected["jsd_nats_first_255"], rel=1e-5)
    assert found["kl_dense_compressed"] == pytest.approx(
        expected["kl_dense_compressed_nats_first_255"], rel=1e-5
    )
    assert found["agreement"] == pytest.approx(expected["top1_agreement_first_255"], abs=3e-4)
    assert found["perplexity_compressed"] == pytest.approx(expected["perplexity"], rel=1e-4)


def test_words_that_are_never_said_change_nothing(
    build: Any, subject: Any, compress: Any, rows: Any
) -> None:
    """Of a family that sets the logits of some entries of its vocabulary to -inf."""
    found = []
    for low in (-1e9, float("-inf")):
        models = [build(), compress(build())]
        for model in models:
            model.lm_head.register_forward_hook(
                lambda module, given, logits, low=low: logits.index_fill(-1, torch.tensor([1]), low)
            )
        dense, compressed = map(subject, models)
        found.append(measure(DistributionDivergence({"a": rows(WINDOWS)}), compressed, dense))
    finite, silent = ({name: one.value for name, one in result.values.items()} for result in found)
    assert silent == pytest.approx(finite, rel=1e-5)
    assert silent["jsd"] > 0
