from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BatchEncoding

from sweep.data.local import Local
from sweep.data.row import Instruction, Text, Tokens
from sweep.data.template import prompt
from sweep.metric.text import Scored, asks, responses, text_windows
from sweep.refusal import Refusal

EOS = 2

DOCUMENTS = [Text(f"Document {i} tells of the sea and of the {i}th ship in it.") for i in range(9)]

EXERCISES = [
    Instruction("Name the ship.", "", "It has no name."),
    Instruction("Add.", "1, 2", "3"),
    Instruction("Be silent.", "", "..."),
    Instruction("Tell the story of the keeper, of the mill and of the sea.", "In short.", "Late."),
    Instruction("Frown.", "", "( and :( again"),
]


def predicted(text: Scored, tokenizer: Any) -> list[list[int]]:
    """The tokens whose prediction is scored, sequence by sequence."""
    following = text.ids.roll(-1, dims=1)
    return [following[i][text.scored[i]].tolist() for i in range(len(text.ids))]


def sequences(text: Scored) -> list[list[int]]:
    return [ids[:length].tolist() for ids, length in zip(text.ids, text.lengths, strict=True)]


# running text


def test_windows_are_consecutive_and_do_not_overlap(tokenizer: Any, rows: Any) -> None:
    stream = [t for d in DOCUMENTS for t in (*tokenizer(d.text)["input_ids"], EOS)]
    text = text_windows(rows(DOCUMENTS), tokenizer, None, 8)
    count = len(stream) // 8
    assert len(stream) % 8 != 0, "something must be left over"
    assert text.ids.flatten().tolist() == stream[: count * 8]
    assert text.ids.shape == (count, 8)
    assert text.lengths.tolist() == [8] * count


def test_all_but_the_first_token_of_a_window_are_predicted(tokenizer: Any, rows: Any) -> None:
    text = text_windows(rows(DOCUMENTS), tokenizer, 3, 8)
    assert predicted(text, tokenizer) == [ids[1:] for ids in text.ids.tolist()]
    assert text.record()["scored_tokens"] == 3 * 7


@pytest.mark.parametrize("n_samples", [None, 1, 3])
def test_a_running_text_is_tokenised_in_one_piece(
    with_bos: Any, running: Any, n_samples: int | None
) -> None:
    whole = with_bos("\n\n".join(row.text for row in DOCUMENTS))["input_ids"]
    text = text_windows(running(DOCUMENTS), with_bos, n_samples, 8)
    count = n_samples or len(whole) // 8
    assert text.ids.tolist() == [whole[8 * i : 8 * i + 8] for i in range(count)]
    assert int((text.ids == 1).sum()) == 1, "one BOS, at the beginning of the text"
    assert int((text.ids == EOS).sum()) == 0


@pytest.mark.parametrize("asked_first", [False, True])
def test_a_text_of_documents_and_instructions_is_refused(
    tokenizer: Any, running: Any, asked_first: bool
) -> None:
    both = [[*DOCUMENTS, *EXERCISES], [*EXERCISES, *DOCUMENTS]][asked_first]
    said = ["its row 10 is an instruction, the first is a document",
            "its row 6 is a document, the first is an instruction"][asked_first]  # fmt: skip
    with pytest.raises(Refusal, match=said):
        text_windows(running(both), tokenizer, None, 8)


def test_a_long_corpus_is_read_as_far_as_is_needed(tokenizer: Any, running: Any) -> None:
    many = [Text(f"Row {i}.") for i in range(3000)]
    whole = tokenizer("\n\n".join(row.text for row in many))["input_ids"]
    window = len(whole) // 20
    text = text_windows(running(many), tokenizer, 8, window)
    assert text.ids.flatten().tolist() == whole[: 8 * window]
    assert len(text.digests) < 3000
    everything = text_windows(running(many), tokenizer, None, window)
    assert everything.ids.flatten().tolist() == whole[: 20 * window]
    assert len(everything.digests) == 3000


def test_a_txt_file_is_scored_as_it_is(with_bos: Any, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("\n = Title = \n \n Prose of the ship .\n\n\n\nMore prose of the sea .\n \n")
    text = text_windows(Local(str(file)), with_bos, None, 4)
    whole = with_bos(file.read_text())["input_ids"]
    assert text.ids.flatten().tolist() == whole[: len(whole) // 4 * 4]


def first_document_behind(limit: int, documents: list[Text], tokenizer: Any) -> int:
    """How many documents it takes until their joined text has so many tokens."""
    for count in range(1, len(documents)):
        joined = "\n\n".join(row.text for row in documents[:count])
        if len(tokenizer(joined)["input_ids"]) >= limit:
            return count
    return len(documents)


@pytest.mark.parametrize("kind", ["tokenizer", "with_bos", "letters"])
@pytest.mark.parametrize("n_samples", [1, 5, 40, None])
def test_only_documents_that_begin_before_the_last_windows_end_count(
    running: Any, kind: str, n_samples: int | None, request: pytest.FixtureRequest
) -> None:
    tokenizer = request.getfixturevalue(kind)
    many = [Text(f"Row {i} :( é ☂") for i in range(300)]
    text = text_windows(running(many), tokenizer, n_samples, 7)
    count = first_document_behind(len(text.ids) * 7, many, tokenizer)
    assert text.digests == {row.digest for row in many[:count]}
    assert text.record()["rows"] == count


def test_a_document_that_begins_where_the_last_window_ends_does_not_count(
    letters: Any, running: Any
) -> None:
    many = [Text("one."), Text("two."), Text("six.")]
    for tokens, count in ((6, 1), (7, 2), (12, 2), (13, 3)):  # each has four letters, and a gap
        text = text_windows(running(many), letters, 1, tokens)
        assert text.digests == {row.digest for row in many[:count]}


def test_a_tokenizer_that_knows_no_places_counts_all_documents_that_were_read(
    tokenizer: Any, running: Any
) -> None:
    class Slow:
        """As tokenizers that are written in Python answer."""

        def __call__(self, text: str, **options: Any) -> BatchEncoding:
            return BatchEncoding(dict(tokenizer(text, **options)))

    many = [Text(f"Row {i}.") for i in range(300)]
    text = text_windows(running(many), Slow(), 1, 7)
    assert torch.equal(text.ids, text_windows(running(many), tokenizer, 1, 7).ids)
    assert text.digests == {row.digest for row in many[:256]}


def test_windows_that_are_tokenised_already_are_taken_as_they_are(
    tokenizer: Any, rows: Any
) -> None:
    held = [Tokens((5, 6, 7)), Tokens((8, 9, 10)), Tokens((11, 12, 13))]
    text = text_windows(rows(held), tokenizer, 2, None)
    assert text.ids.tolist() == [[5, 6, 7], [8, 9, 10]]
    assert text.digests == {held[0].digest, held[1].digest}
    with pytest.raises(Refusal, match="seqlen=4: the tensor's windows have 3 tokens"):
        text_windows(rows(held), tokenizer, None, 4)


def test_instructions_can_be_read_as_running_text(tokenizer: Any, rows: Any) -> None:
    wholes = [prompt(row, "alpaca") + row.output for row in EXERCISES]
    stream = [t for whole in wholes for t in (*tokenizer(whole)["input_ids"], EOS)]
    text = text_windows(rows(EXERCISES), tokenizer, None, 16)
    assert text.ids.flatten().tolist() == stream[: len(stream) // 16 * 16]


@pytest.mark.parametrize("corpus", ["rows", "running"])
def test_a_text_that_fills_no_window_is_refused(
    tokenizer: Any, corpus: str, request: pytest.FixtureRequest
) -> None:
    source = request.getfixturevalue(corpus)
    with pytest.raises(Refusal, match="seqlen=500: the text fills no window"):
        text_windows(source(DOCUMENTS[:2]), tokenizer, None, 500)
    with pytest.raises(Refusal, match="seqlen=null: must be set"):
        text_windows(source(DOCUMENTS), tokenizer, None, None)
    with pytest.raises(Refusal, match="source=rows: has no row"):
        text_windows(source([]), tokenizer, None, 8)


def test_windows_of_one_token_predict_nothing_and_are_refused(tokenizer: Any, rows: Any) -> None:
    with pytest.raises(Refusal, match="at least two tokens"):
        text_windows(rows([Tokens((5,)), Tokens((6,))]), tokenizer, None, None)


# responses


@pytest.mark.parametrize("template", ["alpaca", "unnatural"])
@pytest.mark.parametrize("kind", ["tokenizer", "with_bos"])
def test_exactly_the_response_and_its_eos_are_scored(
    rows: Any, template: Any, kind: str, request: pytest.FixtureRequest
) -> None:
    tokenizer = request.getfixturevalue(kind)
    text = responses(rows(EXERCISES), tokenizer, template, None, None)
    for row, tokens in zip(EXERCISES, predicted(text, tokenizer), strict=True):
        assert tokens[-1] == EOS
        assert tokenizer.decode(tokens[:-1]) == row.output
    assert text.what == "responses"


@pytest.mark.parametrize("template", ["alpaca", "unnatural"])
def test_the_model_is_fed_prompt_response_and_eos(with_bos: Any, rows: Any, template: Any) -> None:
    text = responses(rows(EXERCISES), with_bos, template, None, None)
    for row, ids in zip(EXERCISES, sequences(text), strict=True):
        asked = with_bos(prompt(row, template))["input_ids"]
        assert ids[: len(asked)] == asked
        assert with_bos.decode(ids[1:-1]) == prompt(row, template) + row.output
        assert ids.count(1) == 1
        assert ids[-1] == EOS


def test_a_merge_across_the_border_does_not_move_it(tokenizer: Any) -> None:
    """The trap that the last of the exercises sets."""
    row = EXERCISES[-1]
    asked = tokenizer(prompt(row, "unnatural"))["input_ids"]
    whole = tokenizer(prompt(row, "unnatural") + row.output)["input_ids"]
    assert whole[: len(asked)] != asked


def test_padding_is_neither_counted_nor_scored(tokenizer: Any, rows: Any) -> None:
    text = responses(rows(EXERCISES), tokenizer, "alpaca", None, None)
    assert len(set(text.lengths.tolist())) > 2
    for ids, scored, length in zip(text.ids, text.scored, text.lengths, strict=True):
        assert not scored[length - 1 :].any()
        assert (ids[length:] == tokenizer.pad_token_id).all()
        assert not (ids[:length] == tokenizer.pad_token_id).any()
    assert text.longest == max(text.lengths)


def test_a_sequence_is_cut_and_one_without_response_left_out(tokenizer: Any, rows: Any) -> None:
    whole = responses(rows(EXERCISES), tokenizer, "unnatural", None, None)
    begins = [int(scored.nonzero()[0]) + 1 for scored in whole.scored]
    for limit in (begins[0], begins[0] + 1, begins[0] + 2):
        cut = responses(rows(EXERCISES), tokenizer, "unnatural", None, limit)
        kept = [i for i, begin in enumerate(begins) if begin < limit]
        assert 0 < len(kept) < len(EXERCISES)
        assert sequences(cut) == [sequences(whole)[i][:limit] for i in kept]
        assert cut.digests == {EXERCISES[i].digest for i in kept}
        assert cut.record()["left_out"] == len(EXERCISES) - len(kept)
        longer = [i for i in kept if len(sequences(whole)[i]) > limit]
        assert cut.record()["cut"] == len(longer) > 0
        expected = [sequences(whole)[i][begins[i] : limit] for i in kept]
        assert predicted(cut, tokenizer) == expected
    exactly = responses(rows(EXERCISES), tokenizer, "unnatural", None, whole.longest)
    for text in (whole, exactly):
        assert (text.record()["left_out"], text.record()["cut"]) == (0, 0)
    with pytest.raises(Refusal, match="seqlen=4: no response begins within so many tokens"):
        responses(rows(EXERCISES), tokenizer, "unnatural", None, 4)


def test_so_many_examples_as_asked_are_taken(tokenizer: Any, rows: Any) -> None:
    assert len(responses(rows(EXERCISES), tokenizer, "alpaca", 2, None).ids) == 2
    assert len(responses(rows(EXERCISES), tokenizer, "alpaca", 99, None).ids) == len(EXERCISES)


def test_a_corpus_says_what_it_consists_of(tokenizer: Any, rows: Any) -> None:
    assert asks(rows(EXERCISES))
    assert not asks(rows(DOCUMENTS))
    assert not asks(rows([Tokens((5, 6))]))
    with pytest.raises(Refusal, match="source=rows: has no row"):
        asks(rows([]))
    with pytest.raises(Refusal, match="must hold instructions"):
        responses(rows([*EXERCISES, *DOCUMENTS]), tokenizer, "alpaca", None, None)


# what one pass is known by


def test_what_is_fed_and_what_is_scored_are_the_key(tokenizer: Any, rows: Any) -> None:
    text = responses(rows(EXERCISES), tokenizer, "alpaca", None, None)
    again = responses(rows(EXERCISES), tokenizer, "alpaca", None, None)
    assert again.key == text.key
    ids, scored, lengths = text.ids.clone(), text.scored.clone(), text.lengths.clone()
    ids[0, 0] += 1
    scored[0] = torch.roll(scored[0], -1)
    lengths[0] -= 1
    others = [replace(text, ids=ids), replace(text, scored=scored), replace(text, lengths=lengths)]
    others.append(text_windows(rows(EXERCISES), tokenizer, None, 8))
    assert len({text.key, *(other.key for other in others)}) == 5


def test_what_nobody_has_answered_is_no_response_and_no_text_but_counted(
    tokenizer: Any, rows: Any
) -> None:
    unanswered = Instruction("Say it.", "", " ")
    mixed = rows([unanswered, *EXERCISES[:2], unanswered, *EXERCISES[2:]])
    for n_samples, count in ((2, 1), (3, 2), (None, 2)):
        found = responses(mixed, tokenizer, "alpaca", n_samples, None)
        plain = responses(rows(EXERCISES), tokenizer, "alpaca", n_samples, None)
        assert found.key == plain.key
        assert (found.unanswered, plain.unanswered) == (count, 0)
        assert found.record()["unanswered"] == count
        assert found.digests == plain.digests
    running, plain = (text_windows(one, tokenizer, None, 8) for one in (mixed, rows(EXERCISES)))
    assert running.key == plain.key


def test_a_result_says_on_what_it_is_measured(tokenizer: Any, rows: Any) -> None:
    text = text_windows(rows(DOCUMENTS), tokenizer, 3, 8)
    assert text.record() == {
        "corpus": "rows",
        "source": "memory",
        "location": "here",
        "revision": "9",
        "sha256": text.key,
        "rows": len(text.digests),
        "sequences": 3,
        "seqlen": 8,
        "scored_tokens": 21,
        "scored": "windows",
        "left_out": 0,
        "unanswered": 0,
        "cut": 0,
    }
