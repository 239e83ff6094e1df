from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count, pairwise
from typing import Any

import pytest
import torch

from sweep.calib import packing
from sweep.calib.calibration import Windows
from sweep.calib.packing import fixed, pack
from sweep.data import row as row_module
from sweep.data.row import Instruction, Row, Text, Tokens
from sweep.data.template import prompt
from sweep.refusal import Refusal

EOS = 2


def text(*tokens: int) -> Text:
    return Text(" ".join(f"w{token}" for token in tokens))


def document(number: int, length: int) -> Text:
    """A document whose tokens are 20 * number, and on."""
    return text(*range(20 * number, 20 * number + length))


def refusal(rows: Iterable[Row], tokenizer: Any, *rest: Any) -> str:
    with pytest.raises(Refusal) as caught:
        pack(rows, tokenizer, *rest)
    return str(caught.value)


def check_full(windows: Windows, n: int, time: int) -> None:
    assert windows.ids.shape == windows.mask.shape == (n, time)
    assert windows.ids.dtype == torch.long
    assert bool(windows.mask.all())


# sample


def test_a_sampled_window_lies_inside_one_document(tokenizer: Any) -> None:
    documents = [document(number, 15) for number in range(1, 41)]
    windows = pack(documents, tokenizer, "sample", 40, 6, seed=0)
    check_full(windows, 40, 6)
    starts = []
    for number, ids in enumerate(windows.ids.tolist(), 1):
        assert all(after == before + 1 for before, after in pairwise(ids))
        assert 20 * number <= ids[0]
        assert ids[-1] < 20 * number + 15
        starts.append(ids[0] - 20 * number)
    assert set(starts) == set(range(9)), "the published code never takes a document's last window"


def test_short_documents_are_skipped_and_counted(tokenizer: Any) -> None:
    documents = [document(1, 3), document(2, 6), document(3, 7), document(4, 2), document(5, 7)]
    windows = pack([*documents, document(6, 9)], tokenizer, "sample", 2, 6, seed=0)
    assert windows.ids.tolist() == [list(range(60, 66)), list(range(100, 106))]
    assert windows.skipped == 3
    assert windows.digests == {documents[2].digest, documents[4].digest}


def test_too_few_long_documents_are_refused(tokenizer: Any) -> None:
    documents = [document(number, 9 if number < 4 else 3) for number in range(1, 11)]
    said = refusal(documents, tokenizer, "sample", 5, 6, 0)
    assert said == (
        "n_samples=5: only 3 documents of more than 6 tokens among the first 10; lower seqlen or "
        "n_samples, or set packing=concat"
    )


def test_an_endless_corpus_of_short_documents_is_refused(tokenizer: Any) -> None:
    def endless() -> Iterator[Row]:
        for _ in range(packing.PATIENCE + 2 * packing.CHUNK):
            yield text(4, 5, 6)
        pytest.fail("goes on and on")

    said = refusal(endless(), tokenizer, "sample", 5, 6, 0)
    assert said.startswith("n_samples=5: only 0 documents of more than 6 tokens")


def test_patience_is_with_short_documents_in_a_row(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "PATIENCE", 5)
    documents = [document(1 + number % 40, 9 if number % 6 == 5 else 3) for number in range(60)]
    windows = pack(documents, tokenizer, "sample", 10, 6, seed=0)
    assert windows.skipped == 50


def test_the_seed_decides_where_in_a_document_the_window_lies(tokenizer: Any) -> None:
    documents = [document(number, 19) for number in range(1, 21)]
    one, again, other = (pack(documents, tokenizer, "sample", 20, 4, seed) for seed in (0, 0, 1))
    assert torch.equal(one.ids, again.ids)
    assert not torch.equal(one.ids, other.ids)


# concat


def test_concatenated_documents_are_each_closed_by_eos_and_cut_exactly(tokenizer: Any) -> None:
    documents = [text(10, 11, 12), text(20), text(30, 31, 32, 33, 34), text(40, 41), text(50)]
    windows = pack(documents, tokenizer, "concat", 3, 4, seed=0)
    check_full(windows, 3, 4)
    assert windows.ids.tolist() == [[10, 11, 12, EOS], [20, EOS, 30, 31], [32, 33, 34, EOS]]
    assert windows.digests == {row.digest for row in documents[:3]}
    assert windows.skipped == 0


def test_a_corpus_that_fills_too_few_windows_is_refused(tokenizer: Any) -> None:
    documents = [text(10, 11, 12), text(20), text(30)]  # nine or eight tokens: with EOS or without
    assert pack(documents, tokenizer, "concat", 2, 4, seed=0).ids.tolist()[1] == [20, EOS, 30, EOS]
    said = refusal(documents, tokenizer, "concat", 3, 4, 0)
    assert (
        said
        == "n_samples=3: the corpus fills only 2 windows of 4 tokens; lower n_samples or "
        + ("seqlen")
    )


def test_an_endless_corpus_is_read_no_further_than_needed(tokenizer: Any) -> None:
    taken = []

    def endless() -> Iterator[Row]:
        for number in count():
            taken.append(number)
            yield document(1 + number % 40, 5)

    pack(endless(), tokenizer, "concat", 3, 4, 0)
    pack(endless(), tokenizer, "pad", 3, 4, 0)
    assert len(taken) <= 2 * packing.CHUNK


def test_a_row_is_hashed_once_however_many_tokens_it_has(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = []
    plain = row_module._digest
    monkeypatch.setattr(row_module, "_digest", lambda *parts: hashed.append(parts) or plain(*parts))
    pack([document(1, 15), document(2, 15)], tokenizer, "concat", 4, 8, seed=0)
    assert len(hashed) == 2


def test_an_instruction_is_its_prompt_and_its_answer(tokenizer: Any) -> None:
    row = Instruction("w10 w11", "w12", "w20 w21")
    whole = tokenizer(prompt(row, "alpaca") + "w20 w21")["input_ids"]
    assert whole[-2:] == [20, 21]
    windows = pack([row], tokenizer, "concat", 1, len(whole) + 1, seed=0)
    assert windows.ids.tolist() == [[*whole, EOS]]
    padded = pack([row], tokenizer, "pad", 1, len(whole) + 3, seed=0)
    assert padded.ids[0][padded.mask[0]].tolist() == [*whole, EOS]


# pad


def test_padded_rows_stand_alone_with_their_padding_masked(tokenizer: Any) -> None:
    documents = [text(10, 11), text(20, 21, 22), text(30, 31, 32, 33, 34, 35), text(40)]
    windows = pack(documents, tokenizer, "pad", 3, 4, seed=0)
    assert windows.ids.tolist() == [[10, 11, EOS, 0], [20, 21, 22, EOS], [30, 31, 32, 33]]
    assert windows.mask.tolist() == [[True, True, True, False], [True] * 4, [True] * 4]
    assert windows.mask.dtype == torch.bool
    assert windows.digests == {row.digest for row in documents[:3]}


def test_too_few_rows_to_pad_are_refused(tokenizer: Any) -> None:
    said = refusal([text(10), text(20)], tokenizer, "pad", 3, 4, 0)
    assert said == "n_samples=3: the corpus has only 2 rows; lower n_samples"


# windows that are tokenised already


def test_tokenised_windows_are_taken_as_they_are() -> None:
    held = [Tokens((5, 6, 7)), Tokens((8, 9, 10)), Tokens((11, 12, 13))]
    windows = fixed(held, None)
    check_full(windows, 3, 3)
    assert windows.ids.tolist() == [[5, 6, 7], [8, 9, 10], [11, 12, 13]]
    assert fixed(held, 2).ids.tolist() == [[5, 6, 7], [8, 9, 10]]
    assert fixed(held, 2).digests == {held[0].digest, held[1].digest}
    with pytest.raises(Refusal, match="n_samples=4: the tensor holds 3 windows"):
        fixed(held, 4)


def test_tokenised_windows_cannot_be_packed(tokenizer: Any) -> None:
    with pytest.raises(TypeError, match="tokenised already"):
        pack([Tokens((5, 6, 7))], tokenizer, "concat", 1, 2, seed=0)


def test_the_template_is_how_an_instruction_is_put(tokenizer: Any) -> None:
    row = Instruction("Copy.", "fox", "fox")
    one, other = (
        pack([row], tokenizer, "pad", 1, 200, seed=0, template=template)
        for template in ("alpaca", "unnatural")
    )
    assert one.ids.tolist() != other.ids.tolist()
    assert one.digests == other.digests
