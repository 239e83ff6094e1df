"""Thresholds of many scores: spread over threads, and exact all the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sweep.sparsity import lowest
from sweep.sparsity.lowest import counts_of_lowest, lowest_of_all

SIZE = 40960


@pytest.mark.parametrize("share", [0.0001, 0.3, 0.5, 0.9999])
@pytest.mark.parametrize(
    "kind", ["random", "sorted", "few values", "one value", "infinite", "no numbers"]
)
def test_a_rank_among_many_is_that_of_all_sorted(kind: str, share: float) -> None:
    random = np.random.default_rng(0)
    values = {
        "random": random.standard_normal(SIZE, np.float32) ** 2,
        "sorted": np.arange(SIZE, dtype=np.float32),
        "few values": random.integers(0, 3, SIZE).astype(np.float32),
        "one value": np.ones(SIZE, np.float32),
        "infinite": np.where(random.random(SIZE) < 0.2, np.inf, 1.0).astype(np.float32),
        "no numbers": np.where(random.random(SIZE) < 0.00005, np.nan, 1.0).astype(np.float32),
    }[kind]
    rank = int(share * SIZE)
    scores = torch.from_numpy(values)
    assert float(lowest._smallest(scores[None], rank + 1)) == np.sort(values)[rank]
    gone = lowest_of_all(scores.reshape(4096, -1), rank + 1)
    assert int(gone.sum()) == rank + 1


def test_rows_spread_over_threads_have_the_thresholds_of_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scores = torch.rand(37, 53, generator=torch.Generator().manual_seed(0))
    whole = lowest.lowest(scores, 20)
    monkeypatch.setattr(lowest, "CHUNK", 200)
    assert lowest.lowest(scores, 20).equal(whole)
    assert (whole.sum(dim=1) == 20).all()


@given(
    shapes=st.lists(st.tuples(st.integers(1, 7), st.integers(1, 9)), min_size=1, max_size=5),
    share=st.floats(0, 1),
    levels=st.sampled_from([1, 3, 1000]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    seed=st.integers(0, 2**16),
)
def test_the_lowest_of_many_tensors_are_counted_without_having_all_at_once(
    shapes: list[tuple[int, int]], share: float, levels: int, dtype: torch.dtype, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    weights = [
        (torch.randint(-levels, levels + 1, shape, generator=random) / 7).to(dtype)
        for shape in shapes
    ]
    every = torch.cat([weight.float().abs().flatten() for weight in weights])
    count = int(share * len(every))
    gone = lowest_of_all(every[None], count)[0]
    parts = torch.split(gone, [weight.numel() for weight in weights])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lowest, "PIECE", 5)
        assert counts_of_lowest(weights, count) == [int(part.sum()) for part in parts]


@pytest.mark.parametrize("size", [lowest.LONG - 1, lowest.LONG, lowest.LONG + 5])
def test_a_gpu_that_sorts_long_groups_finds_what_a_selection_does(size: int) -> None:
    scores = torch.randn(2, size, generator=torch.Generator().manual_seed(0)).round(decimals=2)
    for count in (1, 7, size // 2, size):
        found = lowest._selected(scores, count)
        assert found.equal(lowest._smallest(scores, count))
        assert found.untyped_storage().nbytes() == 8  # nothing else is kept alive
