"""Sequences that the dense model samples: from its distribution, and the same ones every time."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from sweep import grid
from sweep import workshop as workshop_module
from sweep.calib.self_generated import SelfGenerated, sample
from sweep.cell import make
from sweep.check import check
from sweep.progress import Progress
from sweep.refusal import Refusal
from sweep.workshop import Workshop
from tests.conftest import FAMILIES
from tests.method.test_families import OTHERS


class Words:
    """A tokenizer of so many tokens."""

    bos_token_id: int | None = 1
    eos_token_id = 2

    def __init__(self, count: int = 40) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count


def dense(model: Any, batch_size: int = 4) -> Any:
    return SimpleNamespace(model=model, batch_size=batch_size, progress=lambda loop, *_: loop)


def by_the_textbook(model: Any, drawn: torch.Tensor, temperature: float) -> list[list[int]]:
    """One sequence after the other, each token with a forward pass over all that came before."""
    found = []
    for numbers in drawn.tolist():
        ids = [1]
        for number in numbers[1:]:
            with torch.no_grad():
                logits = model(torch.tensor([ids])).logits[0, -1].double().numpy() / temperature
            likely = np.exp(logits - logits.max())
            along = np.cumsum(likely / likely.sum())
            ids.append(next(i for i, sum_ in enumerate(along) if sum_ > number))
        found.append(ids)
    return found


OTHER_CACHES: dict[str, dict[str, Any]] = {
    "falcon_mamba": {"state_size": 4},
    "mamba": {"state_size": 4},
    "mamba2": {"state_size": 4, "num_heads": 8, "head_dim": 4, "n_groups": 1},
    "recurrent_gemma": {"lru_width": 16, "attention_window_size": 4},
    "rwkv": {"attention_hidden_size": 16},
}
"""Families that keep what they have read in other ways than most, or not at all."""


@pytest.mark.parametrize("family", [*OTHERS, *OTHER_CACHES])
def test_every_family_says_what_it_means_when_it_reads_the_whole_text_at_once(
    family: str, build: Any
) -> None:
    model = build(family, **{**OTHERS, **OTHER_CACHES}[family])
    drawn = torch.rand(3, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    found = sample(model, Words(), drawn, 1e-4)
    with torch.no_grad():
        meant = model(input_ids=found, use_cache=False).logits[:, :-1].argmax(-1)
    assert found[:, 1:].tolist() == meant.tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_token_lies_where_its_number_is_among_the_cumulated_probabilities(
    family: str, build: Any
) -> None:
    model = build(family)
    drawn = torch.rand(3, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    found = sample(model, Words(), drawn, 1.5)
    assert found.tolist() == by_the_textbook(model, drawn, 1.5)


def test_tokens_are_as_frequent_as_the_model_means_them(build: Any) -> None:
    model = build()
    windows = SelfGenerated(4000, 2, temperature=3.0).windows(Words(), 0, dense(model, 4000))
    said = torch.bincount(windows.ids[:, 1], minlength=40) / 4000
    with torch.no_grad():
        meant = (model(torch.tensor([[1]])).logits[0, -1] / 3.0).softmax(-1)
    assert (said - meant).abs().max() < 0.025  # three standard deviations of a share of one half
    assert (said > 0).sum() > 5


def test_the_seed_and_the_place_of_a_sequence_decide_it_and_nothing_else(build: Any) -> None:
    model = build()
    first = SelfGenerated(6, 9).windows(Words(), 3, dense(model))
    assert first.ids.shape == (6, 9)
    assert first.mask.all()
    assert len(first.digests) == 6
    alone = SelfGenerated(6, 9).windows(Words(), 3, dense(model, batch_size=1))
    assert torch.equal(first.ids, alone.ids)
    fewer = SelfGenerated(2, 5).windows(Words(), 3, dense(model))
    assert torch.equal(first.ids[:2, :5], fewer.ids)
    other = SelfGenerated(6, 9).windows(Words(), 4, dense(model))
    assert not torch.equal(first.ids, other.ids)


def test_a_cold_sample_is_what_the_model_finds_likeliest(build: Any) -> None:
    model = build()
    windows = SelfGenerated(2, 8, temperature=1e-4).windows(Words(), 0, dense(model))
    ids = [1]
    for _ in range(7):
        ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    assert windows.ids.tolist() == [ids, ids]


def test_no_entry_of_the_vocabulary_is_said_that_is_no_token(build: Any) -> None:
    windows = SelfGenerated(8, 16, temperature=50.0).windows(Words(20), 0, dense(build()))
    assert windows.ids.max() < 20


def test_a_text_begins_with_what_ends_one_where_nothing_begins_one(build: Any) -> None:
    words = Words()
    assert SelfGenerated(1, 3).windows(words, 0, dense(build())).ids[0, 0] == 1
    words.bos_token_id = None
    assert SelfGenerated(1, 3).windows(words, 0, dense(build())).ids[0, 0] == 2


@pytest.mark.parametrize("wrong", ["nan", "inf"])
def test_a_model_that_says_no_numbers_is_no_source_and_the_layer_is_named(
    build: Any, wrong: str
) -> None:
    model = build()
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3] = float(wrong)
    place = r"NaN or infinity at token 1; block 1, model\.layers\.1\.mlp\.up_proj makes the first"
    with pytest.raises(FloatingPointError, match=place):
        SelfGenerated(1, 4).windows(Words(), 0, dense(model))


def test_infinity_in_a_logit_is_no_certainty(build: Any) -> None:
    model = build()
    with torch.no_grad():
        model.lm_head.weight[7] = 0
    sign = [float("inf")]
    model.lm_head.register_forward_hook(
        lambda module, given, out: out.index_fill(-1, torch.tensor([7]), sign[0])
    )
    with pytest.raises(FloatingPointError, match="NaN or infinity at token 1; lm_head makes the"):
        SelfGenerated(1, 4).windows(Words(), 0, dense(model))
    sign[0] = -float("inf")
    assert 7 not in SelfGenerated(4, 8).windows(Words(), 0, dense(model)).ids


def test_without_the_model_nothing_is_known() -> None:
    with pytest.raises(ValueError, match="known when it is loaded"):
        SelfGenerated(1, 4).windows(Words(), 0)


# as a cell's calibration set


WORDS = (
    "method=wanda",
    "calib=self",
    "calib.n_samples=6",
    "calib.seqlen=32",
    "metric=[perplexity]",
    "metric.perplexity.n_samples=2",
)


def test_planning_loads_no_model(frozen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(checkpoint: Any) -> Any:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(workshop_module, "load", load)
    check([make(frozen(*WORDS), str)], Workshop(Progress()))


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("calib.temperature=0", "calib.temperature=0: must be greater than 0"),
        ("calib.temperature=hot", "calib.temperature=hot: must be a valid number"),
        ("calib.seqlen=100000", "calib.seqlen=100000: more than the model's 512 positions"),
        ("calib.n_samples=0", "calib.n_samples=0: must be greater than or equal to 1"),
        ("+calib.source=c4", "calib.source"),
    ],
)
def test_what_cannot_be_sampled_is_refused_before_a_model_is_loaded(
    frozen: Any, monkeypatch: pytest.MonkeyPatch, word: str, said: str
) -> None:
    monkeypatch.setattr(workshop_module, "load", lambda checkpoint: pytest.fail("it was loaded"))
    with pytest.raises(Refusal) as caught:
        check([make(frozen(*WORDS, word), str)], Workshop(Progress()))
    assert str(caught.value).startswith(said)


def test_its_settings_the_model_and_the_seed_make_another_cell(frozen: Any) -> None:
    def identity(model: str, *words: str) -> str:
        return make(frozen(*WORDS, *words), lambda folder: model).id

    changed = [(), ("calib.temperature=0.8",), ("calib.n_samples=5",), ("calib.seqlen=16",)]
    changed += [("seed=1",), ("model.dtype=bfloat16",)]
    found = [identity("one", *words) for words in changed] + [identity("other")]
    assert len(set(found)) == len(found)


def test_what_was_sampled_is_kept_and_taken_again(
    frozen: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def weights(outputs: str) -> tuple[str, dict[str, Any]]:
        grid.sweep([frozen(*WORDS, f"outputs={tmp_path / outputs}")])
        (file,) = (tmp_path / outputs).glob("cells/tiny-wanda-50-self-*/compression.json")
        written = json.loads(file.read_text())
        file.unlink()  # so that it must be compressed again
        for result in file.parent.glob("metrics/*.json"):
            result.unlink()
        return written["weights_sha256"], written["calibration"]

    first, calibration = weights("one")
    (data,) = calibration["data"]
    assert (data["corpus"], data["source"], data["revision"]) == ("self", "model", "sampling-2")
    assert (data["rows"], data["sha256"]) == (6, calibration["sha256"])
    assert (calibration["windows"], calibration["rows"], calibration["tokens"]) == (6, 6, 192)
    assert calibration["seed"] == 0
    assert weights("two") == (first, calibration), "sampled anew, in another folder"
    (kept,) = (tmp_path / "one" / "cache" / "self").glob("*.json")
    with monkeypatch.context() as patched:
        patched.setattr(SelfGenerated, "windows", lambda *_: pytest.fail("sampled again"))
        assert weights("one") == (first, calibration)
    assert len(json.loads(kept.read_text())["ids"]) == 6
    grid.sweep([frozen(*WORDS, "model.attention=eager", f"outputs={tmp_path / 'one'}")])
    assert (
        len(list(kept.parent.glob("*.json"))) == 2
    )  # computed in another way, it may say other things
