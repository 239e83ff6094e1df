"""Cells that share the statistics of the dense model get what each would get alone."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sweep.method.gather import OnDisk, gather
from sweep.method.method import Method
from sweep.method.sparsegpt import SparseGPT
from sweep.method.walk import Seen, silent, walk
from sweep.method.wanda import Wanda
from sweep.model import anatomy
from sweep.numerics.moments import Shareable
from sweep.sparsity.n_of_m import NofM
from sweep.sparsity.pattern import Pattern
from sweep.sparsity.unstructured import Unstructured

Windows = tuple[Tensor, Tensor]
WANDA, SPARSEGPT = Wanda(propagate="dense"), SparseGPT(propagate="dense")


def _gathered(
    model: Any, methods: list[Method], windows: Windows, below: Path, batch_size: int = 4
) -> OnDisk:
    options: dict[str, Any] = {"batch_size": batch_size, "progress": silent, "below": below}
    return gather(model, methods, windows=windows, **options)


@pytest.mark.parametrize("family", ["llama", "mixtral"])
def test_one_pass_serves_every_pattern_of_both_methods(
    build: Callable[..., Any], windows: Windows, family: str, tmp_path: Path
) -> None:
    model = build(family)
    dense = copy.deepcopy(model.state_dict())
    shared = _gathered(model, [WANDA, SPARSEGPT, WANDA], windows, tmp_path)
    assert all(weight.equal(dense[name]) for name, weight in model.state_dict().items())
    cases: list[tuple[Method, Pattern]] = [
        (method, pattern)
        for method in (WANDA, SPARSEGPT)
        for pattern in (Unstructured(0.5), Unstructured(0.6), NofM(2, 4))
    ]
    for method, pattern in cases:
        alone, served = build(family), build(family)
        own = walk(alone, method, pattern, windows=windows, batch_size=4)
        same = walk(served, method, pattern, windows=windows, gathered=shared)
        for one, other in zip(own, same, strict=True):
            assert (one.name, one.zeros, one.remarks) == (other.name, other.zeros, other.remarks)
            assert one.output_error == pytest.approx(other.output_error, rel=1e-5)
        for name, matrix in anatomy.prunable(served).items():
            assert matrix.weight.equal(anatomy.prunable(alone)[name].weight), name


def test_the_pass_multiplies_with_the_widest_arithmetic_of_the_machine(
    build: Callable[..., Any], windows: Windows, tmp_path: Path, asked_always: list[Tensor]
) -> None:
    model = build("llama")
    _gathered(model, [WANDA], windows, tmp_path)
    wanted = {matrix.weight.shape for matrix in anatomy.prunable(model).values()}
    assert wanted <= {weight.shape for weight in asked_always}


def test_blocks_see_what_dense_blocks_say(build: Callable[..., Any], windows: Windows) -> None:
    """By its definition: the inputs of the last block's linears, of the untouched model."""
    model = build()
    fed: list[Tensor] = []
    last = model.model.layers[-1].mlp.down_proj
    last.register_forward_pre_hook(lambda _, args: fed.append(args[0].flatten(0, 1)))
    with torch.no_grad():
        model(windows[0])
    scores = last.weight.detach().abs() * fed[0].norm(dim=0)
    gone = Unstructured(0.5).drop(scores, per="row")
    walk(model, WANDA, Unstructured(0.5), windows=windows)
    assert (model.model.layers[-1].mlp.down_proj.weight == 0).equal(gone)
    other = build()
    walk(other, Wanda(), Unstructured(0.5), windows=windows)
    assert not (other.model.layers[-1].mlp.down_proj.weight == 0).equal(gone)


@pytest.mark.parametrize("scope", ["all", r".*layers\.1\..*"])
def test_what_stays_as_it_is_is_looked_at_and_passed_at_once(
    build: Callable[..., Any], windows: Windows, scope: str, tmp_path: Path
) -> None:
    """Each batch goes through a block once, and through none behind the last in scope."""
    model = build()
    ran = [0, 0, 0]
    for number, block in enumerate(model.model.layers):

        def count(*_: Any, number: int = number) -> None:
            ran[number] += 1

        block.mlp.gate_proj.register_forward_pre_hook(count)
    batches = -(-len(windows[0]) // 2)
    first = [1, 0, 0]  # once more to see what a block answers
    wanted = [batches + more if scope == "all" or n < 2 else 0 for n, more in enumerate(first)]
    method = SparseGPT(scope=scope, propagate="dense")
    shared = _gathered(model, [method], windows, tmp_path, batch_size=2)
    assert ran == wanted
    ran[:] = [0, 0, 0]
    walk(copy.deepcopy(model), method, Unstructured(0.5), windows=windows, gathered=shared)
    assert ran == [0, 0, 0]
    walk(model, method, Unstructured(0.5), windows=windows, batch_size=2)
    assert ran == wanted


@pytest.mark.parametrize("method", [WANDA, SPARSEGPT])
def test_they_come_back_where_the_inputs_were_and_no_weight_is_read_for_it(
    build: Callable[..., Any],
    windows: Windows,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: Method,
) -> None:
    """accelerate keeps weights on the CPU whose inputs are on a device."""
    keep = OnDisk.keep

    def kept(self: OnDisk, number: int, seen: Mapping[str, Seen]) -> None:
        for one in seen.values():
            one.device = torch.device("meta")
        keep(self, number, seen)

    monkeypatch.setattr(OnDisk, "keep", kept)
    model = build()
    shared = _gathered(model, [method], windows, tmp_path)
    linears = {
        name: matrix
        for name, matrix in anatomy.prunable(model).items()
        if name.startswith("model.layers.0.")
    }
    monkeypatch.setattr("sweep.model.matrix.read", lambda *_: pytest.fail("a weight is read"))
    taken = shared.take(0, linears, method)
    assert taken.keys() == linears.keys()
    for one in taken.values():
        assert one.tokens == 60
        assert one.device == torch.device("meta")
        assert isinstance(one.statistic, Shareable)
        assert {sums.device.type for sums in one.statistic.state().values() if sums.dim()} == {
            "meta"
        }


def test_they_go_with_whoever_has_them(
    build: Callable[..., Any], windows: Windows, tmp_path: Path
) -> None:
    shared = _gathered(build(), [WANDA], windows, tmp_path)
    assert list(tmp_path.rglob("*.safetensors"))
    shared.clear()
    assert not list(tmp_path.iterdir())
