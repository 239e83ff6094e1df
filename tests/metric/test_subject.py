from __future__ import annotations

from typing import Any

import pytest
import torch

from sweep.data.row import Tokens
from sweep.data.source import Origin
from sweep.metric.scan import scan
from sweep.metric.subject import gold_of_position, sequence_of_position
from sweep.metric.text import Scored, text_windows

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
    return Scored(ids, lengths, scored, Origin("c", "s", "r", "l"), frozenset(), "responses")


@pytest.fixture
def other(rows: Any, tokenizer: Any) -> Scored:
    held = [Tokens((7, 8, 9, 10)), Tokens((11, 12, 13, 14))]
    return text_windows(rows(held), tokenizer, None, None)


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3_text", "gpt_neox", "falcon", "opt"])
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


def test_a_model_that_changes_its_logits_after_the_head_is_refused(
    build: Any, subject: Any, text: Scored
) -> None:
    model = build("gemma3_text", final_logit_softcapping=0.5)
    with pytest.raises(NotImplementedError, match="changes its logits after the head"):
        list(subject(model).hidden(text))
