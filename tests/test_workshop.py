"""What cells share is made once, and never shared where it would be another thing."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch

from sweep import workshop as workshop_module
from sweep.cell import make
from sweep.model.contents import fingerprint
from sweep.progress import Progress
from sweep.refusal import Refusal
from sweep.workshop import Workshop

Frozen = Callable[..., dict[str, Any]]


@pytest.fixture
def cell(frozen: Frozen):  # type: ignore[no-untyped-def]
    def cell(*overrides: str) -> Any:
        return make(frozen("calib.n_samples=3", "metric=[perplexity]", *overrides), fingerprint)

    return cell


def test_windows_of_one_seed_are_drawn_once_and_of_another_anew(cell) -> None:  # type: ignore[no-untyped-def]
    workshop = Workshop(Progress())
    first, again = workshop.windows(cell()), workshop.windows(cell("method=wanda"))
    assert first is again
    other = workshop.windows(cell("seed=1"))
    assert not torch.equal(first.ids, other.ids)


def test_tokenizer_skeleton_and_texts_are_made_once(cell) -> None:  # type: ignore[no-untyped-def]
    workshop = Workshop(Progress())
    one, other = cell(), cell("method=wanda", "seed=3")
    checkpoint = one.parts.checkpoint
    assert workshop.tokenizer(checkpoint) is workshop.tokenizer(other.parts.checkpoint)
    assert workshop.skeleton(checkpoint) is workshop.skeleton(other.parts.checkpoint)
    assert workshop.material(one, "perplexity") is workshop.material(other, "perplexity")
    fewer = cell("metric.perplexity.n_samples=2")
    assert len(workshop.material(fewer, "perplexity")["c4"].ids) == 2


def test_the_hash_of_the_weights_is_of_every_weight_and_its_name(cell) -> None:  # type: ignore[no-untyped-def]
    workshop = Workshop(Progress())
    bench = workshop.bench(cell())
    dense = bench.weights_sha256()
    linears = bench.model.model.layers
    with bench.altered():
        linears[0].mlp.up_proj.weight[0, 0] += 1e-6
        assert bench.weights_sha256() != dense
    assert bench.weights_sha256() == dense
    with bench.altered():
        first, second = linears[0].mlp.up_proj.weight, linears[1].mlp.up_proj.weight
        swapped = first.clone(), second.clone()
        second.copy_(swapped[0])
        first.copy_(swapped[1])
        assert bench.weights_sha256() != dense


def test_a_model_is_gone_before_the_next_one_is_loaded(cell, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    old: list[weakref.ref[Any]] = []
    there: list[int] = []
    emptied: list[int] = []

    def load(*given: Any) -> Any:
        there.append(sum(model() is not None for model in old))
        old.append(weakref.ref(loaded(*given)))
        return old[-1]()

    def loaded(*given: Any) -> Any:
        model = original(*given)
        model.itself = [model]  # as a streamed one holds itself
        return model

    original = workshop_module.load
    monkeypatch.setattr(workshop_module, "load", load)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(len(old)))
    workshop = Workshop(Progress())
    for dtype in ("float32", "bfloat16"):
        with workshop.bench(cell(f"model.dtype={dtype}")).altered():
            pass
    assert there == [0, 0]
    assert emptied == [1]


def test_a_model_that_is_refused_is_gone_before_the_next_one_is_loaded(cell, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    old: list[weakref.ref[Any]] = []

    def refuse(*given: Any) -> Any:
        model = original(*given)
        model.itself = [model]
        old.append(weakref.ref(model))
        raise Refusal("path", "here", "holds no numbers")

    def load(*given: Any) -> Any:
        assert [model() for model in old] == [None]
        return original(*given)

    original = workshop_module.load
    monkeypatch.setattr(workshop_module, "load", refuse)
    workshop = Workshop(Progress())
    for _ in range(2):
        with pytest.raises(Refusal, match=r"^model.path=here: holds no numbers$"):
            workshop.bench(cell())
    monkeypatch.setattr(workshop_module, "load", load)
    workshop.bench(cell("model.dtype=bfloat16"))
    assert len(old) == 1


def test_a_bench_that_nobody_has_is_gone_at_once(cell) -> None:  # type: ignore[no-untyped-def]
    """Also where nobody collects garbage."""
    workshop = Workshop(Progress())
    bench = workshop.bench(cell())
    with bench.altered(), bench.dense.returned():
        pass
    gone = weakref.ref(bench)
    gc.disable()
    try:
        del bench
        workshop._resident = None
        assert gone() is None
    finally:
        gc.enable()
