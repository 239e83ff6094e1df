from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from safetensors import safe_open

from sweep.calib.corpus import Corpus
from sweep.calib.mix import Mix, Share
from sweep.data.local import Local
from sweep.data.row import Text
from sweep.data.tokens import TokenFile
from sweep.refusal import Refusal

NOWHERE = Local("nowhere.txt")


def mix(weights: dict[str, float], n_samples: int) -> Mix:
    parts = {name: Share(NOWHERE, float(weight), "concat") for name, weight in weights.items()}
    return Mix(parts, n_samples, 4)


def documents(first: int, length: int, count: int = 20) -> list[Text]:
    """Every word of a corpus is the same."""
    return [Text(" ".join([f"w{first}"] * length) + f" w{first + i}") for i in range(count)]


@given(
    st.lists(st.floats(0.1, 100) | st.integers(1, 9).map(float), min_size=2, max_size=6),
    st.integers(1, 200),
)
def test_windows_are_shared_out_by_largest_remainder(weights: list[float], n: int) -> None:
    exact = [n * weight / sum(weights) for weight in weights]
    assume(min(exact) >= 1)
    found = list(mix({f"c{i}": weight for i, weight in enumerate(weights)}, n).counts().values())
    assert sum(found) == n
    fractions = [want - int(want) for want in exact]
    for count, want in zip(found, exact, strict=True):
        assert count in (int(want), int(want) + 1)
    up = [f for f, count, want in zip(fractions, found, exact, strict=True) if count > want]
    down = [f for f, count, want in zip(fractions, found, exact, strict=True) if count <= want]
    assert not up or not down or min(up) >= max(down) - 1e-9


@pytest.mark.parametrize(
    ("weights", "n", "expected"),
    [
        ({"a": 1, "b": 1}, 128, [64, 64]),
        ({"a": 1, "b": 1}, 5, [3, 2]),
        ({"a": 3, "b": 1}, 128, [96, 32]),
        ({"a": 1, "b": 1, "c": 1}, 10, [4, 3, 3]),
        ({"a": 0.1, "b": 0.2, "c": 0.7}, 10, [1, 2, 7]),
        ({"a": 0.3, "b": 0.3, "c": 0.4}, 4, [1, 1, 2]),
    ],
)
def test_shares_worked_by_hand(weights: dict[str, float], n: int, expected: list[int]) -> None:
    assert list(mix(weights, n).counts().values()) == expected


@pytest.mark.parametrize("packing", ["sample", "concat", "pad"])
def test_every_window_is_of_one_corpus(tokenizer: Any, rows: Any, packing: Any) -> None:
    held = {name: documents(100 * i, 9) for i, name in enumerate("abc", 1)}
    parts = {name: Share(rows(held[name]), 1.0 + (name == "c"), packing) for name in held}
    windows = Mix(parts, n_samples=8, seqlen=6).windows(tokenizer, 0)
    assert windows.ids.shape == windows.mask.shape == (8, 6)
    corpora = [{token // 100 for token in ids if token > 2} for ids in windows.ids.tolist()]
    assert corpora == [{1}] * 2 + [{2}] * 2 + [{3}] * 4
    used = {name: {row.digest for row in held[name]} & windows.digests for name in held}
    assert set().union(*used.values()) == windows.digests
    assert all(used.values())
    said = [part.record() for part in windows.parts]
    assert [part["windows"] for part in said] == [2, 2, 4]
    assert [part["rows"] for part in said] == [len(used[name]) for name in held]
    whole = windows.record()
    for count in ("windows", "tokens", "rows"):
        assert whole[count] == sum(part[count] for part in said)
    assert len({part["rows_sha256"] for part in (*said, whole)}) == 4


def test_the_hash_of_rows_is_theirs_in_whatever_order_and_tokens(tokenizer: Any, rows: Any) -> None:
    def record(held: Any, seqlen: int) -> dict[str, Any]:
        return Corpus(rows(held), 3, seqlen, "pad").windows(tokenizer, 0).record()

    held = documents(10, 3)[:3]
    one, turned, longer = record(held, 4), record(held[::-1], 4), record(held, 5)
    assert one["rows_sha256"] == turned["rows_sha256"] == longer["rows_sha256"]
    assert len({one["sha256"], turned["sha256"], longer["sha256"]}) == 3
    assert record(documents(70, 3)[:3], 4)["rows_sha256"] != one["rows_sha256"]


def test_documents_too_short_are_counted_over_all_corpora(tokenizer: Any, rows: Any) -> None:
    short_and_long = [*documents(100, 2, 3), *documents(200, 9)]
    parts = {name: Share(rows(short_and_long[::-1]), 1.0, "sample") for name in "ab"}
    assert Mix(parts, n_samples=4, seqlen=6).windows(tokenizer, 0).skipped == 6


def test_each_corpus_has_its_own_packing(tokenizer: Any, rows: Any) -> None:
    parts = {
        "a": Share(rows(documents(100, 3)), 1.0, "pad"),
        "b": Share(rows(documents(200, 3)), 1.0, "concat"),
    }
    windows = Mix(parts, n_samples=2, seqlen=6).windows(tokenizer, 0)
    assert windows.mask.sum(1).tolist() == [5, 6]


def test_a_mixture_of_one_or_with_an_empty_share_is_refused() -> None:
    with pytest.raises(Refusal, match="a mixture has at least two corpora"):
        mix({"a": 1}, 10)
    with pytest.raises(Refusal, match="n_samples=10: leaves no window for b, d"):
        mix({"a": 100, "b": 1, "c": 100, "d": 1}, 10)


def test_a_refusal_names_the_corpus(tokenizer: Any, rows: Any) -> None:
    parts = {"a": Share(rows(documents(100, 3)), 1.0, "concat"), "b": Share(NOWHERE, 1.0, "concat")}
    with pytest.raises(Refusal) as caught:
        Mix(parts, n_samples=2, seqlen=4).windows(tokenizer, 0)
    assert str(caught.value) == "parts.b.path=nowhere.txt: no such file"


def test_the_corpora_are_named_in_their_order(rows: Any) -> None:
    a, b = rows(documents(100, 3)), rows(documents(200, 3, 7))
    found = Mix({"a": Share(a, 1.0, "pad"), "b": Share(b, 3.0, "pad")}, 4, 6)
    assert found.sources() == {"parts.a.source": a, "parts.b.source": b}
    assert [origin.revision for origin in found.origins()] == ["20", "7"]
    assert found.length() == 6


def test_windows_that_are_tokenised_already_may_be_a_part(
    tokenizer: Any, files: dict[str, Path]
) -> None:
    tokens = Share(TokenFile(str(files["tokens"]), "calibration"), 1.0, None)
    text = Share(Local(str(files["text"])), 1.0, "concat")
    made = Mix({"tokens": tokens, "text": text}, 6, 32).windows(tokenizer, 0)
    with safe_open(files["tokens"], "pt") as file:
        given = file.get_tensor("calibration").tolist()
    assert all(window in given for window in made.ids[:3].tolist())
    assert not any(window in given for window in made.ids[3:].tolist())
    with pytest.raises(Refusal, match=r"parts\.tokens\.source=tokens: its windows have 32 tokens"):
        Mix({"tokens": tokens, "text": text}, 6, 16).windows(tokenizer, 0)
