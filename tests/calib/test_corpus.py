from __future__ import annotations

from typing import Any

import pytest
import torch

from sweep.calib.corpus import Corpus
from sweep.data.embedded import Prose
from sweep.data.local import Local
from sweep.data.row import Text, Tokens
from sweep.refusal import Refusal

DOCUMENTS = [Text(f"w{10 * i} w{10 * i + 1} w{10 * i + 2}") for i in range(1, 9)]
WINDOWS = [Tokens((10 * i, 10 * i + 1)) for i in range(1, 5)]


def test_rows_are_drawn_with_the_seed_and_packed(tokenizer: Any, rows: Any) -> None:
    corpus = Corpus(rows(DOCUMENTS), n_samples=2, seqlen=4, packing="concat")
    assert corpus.windows(tokenizer, 0).ids.tolist() == [[80, 81, 82, 2], [70, 71, 72, 2]]
    assert corpus.length() == 4
    assert [origin.corpus for origin in corpus.origins()] == ["rows"]


def test_another_seed_is_another_sample(tokenizer: Any) -> None:
    corpus = Corpus(Prose("c4"), n_samples=3, seqlen=20, packing="concat")
    zero, again, one = (corpus.windows(tokenizer, seed) for seed in (0, 0, 1))
    assert torch.equal(zero.ids, again.ids)
    assert zero.digests == again.digests
    assert not zero.digests & one.digests


def test_calibration_reads_the_calibration_part(
    tokenizer: Any, rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    source = rows(DOCUMENTS)
    plain = type(source).rows

    def listening(self: Any, part: Any, seed: Any) -> Any:
        asked.append((part, seed))
        return plain(self, part, seed)

    monkeypatch.setattr(type(source), "rows", listening)
    Corpus(source, n_samples=2, seqlen=4, packing="pad").windows(tokenizer, 5)
    assert asked == [("calibration", 5)]


@pytest.mark.parametrize("missing", ["n_samples", "seqlen", "packing"])
def test_rows_need_every_setting(rows: Any, missing: str) -> None:
    settings: dict[str, Any] = {"n_samples": 2, "seqlen": 4, "packing": "concat", missing: None}
    with pytest.raises(Refusal, match=f"{missing}=null: must be set"):
        Corpus(rows(DOCUMENTS), **settings)


def test_tokenised_windows_keep_their_order_unless_a_part_is_drawn(
    tokenizer: Any, tokenised: Any
) -> None:
    every = Corpus(tokenised(WINDOWS), n_samples=None).windows(tokenizer, 3)
    assert every.ids.tolist() == [[10, 11], [20, 21], [30, 31], [40, 41]]
    part = Corpus(tokenised(WINDOWS), n_samples=2, seqlen=2).windows(tokenizer, 3)
    assert part.ids.tolist() == [[40, 41], [30, 31]]


def test_tokenised_windows_are_neither_packed_nor_cut(tokenizer: Any, tokenised: Any) -> None:
    with pytest.raises(Refusal, match="packing=pad: the windows are tokenised already"):
        Corpus(tokenised(WINDOWS), packing="pad")
    corpus = Corpus(tokenised(WINDOWS), n_samples=None, seqlen=3)
    with pytest.raises(Refusal, match="seqlen=3: the tensor's windows have 2 tokens"):
        corpus.windows(tokenizer, 0)


def test_constructing_reads_nothing() -> None:
    Corpus(Local("no/such/file.jsonl"), n_samples=2, seqlen=4, packing="concat")
