from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sweep.data.row import Contents, Tokens
from sweep.data.source import Origin
from sweep.metric.scan import scan
from sweep.metric.subject import Subject, gold_of_position, sequence_of_position
from sweep.metric.text import Scored, text_windows
from sweep.model import anatomy, stream
from sweep.model.local import Local
from sweep.model.weights import load

LENGTHS = [4, 9, 2, 9, 6, 3]


@pytest.fixture
def text() -> Scored:
    """Sequences of different lengths, padded on the right; single positions are left out."""
    ids = torch.randint(3, 40, (6, 9), generator=torch.Generator().manual_seed(2))
    lengths = torch.tensor(LENGTHS)
    ids[torch.arange(9) >= lengths[:, None]] = 0
    scored = torch.arange(9) < lengths[:, None] - 1
    scored[1, :5] = False
    scored[4, 2] = False
    return Scored(ids, lengths, scored, "responses", Origin("c", "s", "r", "l"), Contents.of(()))


@pytest.fixture
def other(rows: Any, tokenizer: Any) -> Scored:
    held = [Tokens((7, 8, 9, 10)), Tokens((11, 12, 13, 14))]
    return text_windows(rows(held), tokenizer, None, None)


@pytest.mark.parametrize(
    "family",
    ["llama", "qwen2", "gemma3_text", "gpt_neox", "falcon", "opt", "gemma2", "granite", "cohere"],
)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_states_are_those_of_every_sequence_alone(
    build: Any, subject: Any, text: Scored, family: str, batch_size: int
) -> None:
    model = build(family)
    asked = subject(model, batch_size=batch_size)
    found = torch.cat([asked.logits(states) for states in asked.hidden(text)])
    batches = asked.batches(text)
    with torch.no_grad():
        expected = torch.cat(
            [
                model(text.ids[i : i + 1, : LENGTHS[i]]).logits[0][text.scored[i, : LENGTHS[i]]]
                for i in torch.cat(batches).tolist()
            ]
        )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "opt", "gpt2", "gpt_neox"])
def test_blocks_from_disk_are_read_once_for_all_batches_and_give_the_same_states(
    build: Any,
    subject: Any,
    text: Scored,
    family: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = build(family)
    whole.save_pretrained(tmp_path / "model")
    away = load(Local(str(tmp_path / "model"), device="cpu", load="stream"), tmp_path / "scratch")
    asked = subject(away, batch_size=2)
    asked._check_logits(text.ids[:1, :8])
    read, names = stream.Shelf.read, []
    monkeypatch.setattr(
        stream.Shelf, "read", lambda self, name: (names.append(name), read(self, name))[1]
    )
    for found, expected in zip(
        asked.hidden(text), subject(whole, batch_size=2).hidden(text), strict=True
    ):
        assert found.equal(expected)
    first, *others = (len(list(block.parameters())) for block in anatomy.blocks(away))
    assert len(names) == 2 * first + sum(others)  # the first one also says what a block answers


@pytest.mark.parametrize("how", ["whole", "stream"])
def test_states_that_are_remembered_wait_on_the_cpu_where_blocks_come_from_disk(
    build: Any,
    subject: Any,
    text: Scored,
    how: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    build().save_pretrained(tmp_path / "model")
    model = load(Local(str(tmp_path / "model"), device="cpu", load=how), tmp_path / "scratch")
    asked = subject(model, batch_size=2)
    expected = list(asked.hidden(text))
    taken: list[torch.Tensor] = []
    monkeypatch.setattr(torch.Tensor, "cpu", lambda one: (taken.append(one), one)[1])
    asked.remember_hidden(text)
    assert len(taken) == (len(expected) if how == "stream" else 0)
    assert all(map(torch.equal, expected, asked.hidden(text)))
    monkeypatch.setattr(Subject, "device", torch.device("meta"))
    there = {states.device.type for states in asked.hidden(text)}
    assert there == {"meta" if how == "stream" else "cpu"}


def test_positions_know_their_sequence_and_the_token_that_follows(
    build: Any, subject: Any, text: Scored
) -> None:
    batches = subject(build(), batch_size=4).batches(text)
    assert [rows.tolist() for rows in batches] == [[1, 3, 4, 0], [5, 2]]
    positions = [
        (i, int(text.ids[i, t + 1]))
        for i in torch.cat(batches).tolist()
        for t in range(9)
        if text.scored[i, t]
    ]
    assert sequence_of_position(text, batches).tolist() == [i for i, _ in positions]
    assert gold_of_position(text, batches).tolist() == [token for _, token in positions]


def test_states_are_remembered_only_when_that_is_asked(
    build: Any, subject: Any, text: Scored, passes: Any
) -> None:
    for told in (True, False):
        model = build()
        asked = subject(model, batch_size=4)
        first = [states.clone() for states in asked.hidden(text)]
        assert not asked.remembers_hidden(text)
        if told:
            asked.remember_hidden(text)
        widths = passes(model)
        assert asked.remembers_hidden(text) is told
        assert all(map(torch.equal, first, asked.hidden(text)))
        assert len(widths) == (0 if told else 2)


def test_every_batch_is_as_wide_as_its_longest_sequence(
    build: Any, subject: Any, text: Scored, passes: Any
) -> None:
    model = build()
    asked = subject(model, batch_size=2)
    list(asked.hidden(text))  # the first time, the head is checked too
    widths = passes(model)
    list(asked.hidden(text))
    assert widths == [9, 6, 3]


def test_a_dense_model_that_left_gives_what_it_remembers_and_nothing_else(
    build: Any, subject: Any, compress: Any, text: Scored, other: Scored
) -> None:
    model = build()
    dense = subject(model, dense=True)
    dense.remember_hidden(text)
    before = [dense.logits(states) for states in dense.hidden(text)]
    dense.leave()
    compress(model)
    after = [dense.logits(states) for states in dense.hidden(text)]
    assert all(map(torch.equal, before, after))
    with pytest.raises(RuntimeError, match="the dense weights are gone"):
        list(dense.hidden(other))
    with pytest.raises(RuntimeError, match="the dense weights are gone"):
        _ = dense.model
    assert dense.device == torch.device("cpu")
    dense.come_back(model)
    assert len(list(dense.hidden(other))) == 1


def test_a_pass_that_failed_is_not_remembered(
    build: Any, subject: Any, text: Scored, other: Scored
) -> None:
    model = build()
    dense = subject(model, dense=True)
    dense.leave()
    with pytest.raises(RuntimeError, match="the dense weights are gone"):
        scan(dense, text, dense)
    dense.come_back(model)
    assert len(scan(dense, text, dense).loss) == int(text.scored.sum())


def test_what_is_asked_once_is_computed_once(build: Any, subject: Any) -> None:
    asked = subject(build())
    calls = []

    def compute() -> int:
        calls.append(1)
        return len(calls)

    assert [asked.once("a", "x", compute) for _ in range(3)] == [1, 1, 1]
    assert asked.once("a", "y", compute) == 2
    assert asked.once("b", "x", compute) == 3


AFTER_THE_HEAD = ["gemma2", "granite", "cohere"]


@pytest.mark.parametrize("family", AFTER_THE_HEAD)
def test_these_families_do_more_than_apply_their_head(build: Any, family: str) -> None:
    model, ids = build(family), torch.arange(3, 20)[None]
    states = model.get_decoder()(ids).last_hidden_state
    assert not torch.allclose(model.get_output_embeddings()(states), model(ids).logits, rtol=0.2)


@pytest.mark.parametrize("family", ["llama", "opt", "mixtral", *AFTER_THE_HEAD])
def test_kept_states_give_the_logits_of_the_model_exactly(
    build: Any, subject: Any, compress: Any, rows: Any, tokenizer: Any, family: str
) -> None:
    """One window a batch and every position: both ways multiply matrices of the same shapes."""
    held = [Tokens(tuple(range(start, start + 12))) for start in (3, 9, 27)]
    text = text_windows(rows(held), tokenizer, None, None)
    text = replace(text, scored=torch.ones_like(text.scored))
    model = build(family)
    dense = subject(model, dense=True, batch_size=1)
    with torch.inference_mode():
        expected = [model(ids[None]).logits[0] for ids in text.ids]
        dense.remember_hidden(text)
        dense.leave()
        for module in model.get_decoder().layers:
            for weight in module.parameters():
                weight.mul_(0.5)
        found = [dense.logits(states) for states in dense.hidden(text)]
        assert all(map(torch.equal, found, expected))
        changed = [model(ids[None]).logits[0] for ids in text.ids]
        asked = subject(model, batch_size=1)
        assert all(map(torch.equal, map(asked.logits, asked.hidden(text)), changed))
        assert not any(map(torch.equal, changed, expected))


def test_asking_for_logits_leaves_the_model_as_it_was(
    build: Any, subject: Any, text: Scored
) -> None:
    model = build()
    before = model(text.ids).logits
    asked = subject(model)
    for states in asked.hidden(text):
        asked.logits(states)
    assert "forward" not in vars(model.get_decoder())
    assert torch.equal(model(text.ids).logits, before)
    plain = model.get_decoder().forward
    model.get_decoder().forward = wrapped = lambda *args, **given: plain(*args, **given)
    for states in asked.hidden(text):
        asked.logits(states)
    assert model.get_decoder().forward is wrapped


def test_a_model_whose_logits_depend_on_more_than_its_states_is_refused(
    build: Any, subject: Any, text: Scored
) -> None:
    model = build()
    plain = model.forward

    def forward(input_ids: Any, **given: Any) -> Any:
        found = plain(input_ids=input_ids, **given)
        found.logits = found.logits + input_ids[..., None]
        return found

    model.forward = forward
    with pytest.raises(NotImplementedError) as caught:
        list(subject(model).hidden(text))
    assert str(caught.value) == (
        "LlamaForCausalLM: its logits cannot be had from its last hidden states, which metrics keep"
    )
