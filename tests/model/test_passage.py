"""Windows that go through a model block by block, and wait where there is room for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import ref

import pytest
import torch
from torch import Tensor

from sweep.method.sparsegpt import SparseGPT
from sweep.method.walk import walk
from sweep.model import anatomy, passage
from sweep.model.local import Local
from sweep.model.passage import Passage
from sweep.model.weights import load
from sweep.sparsity.n_of_m import NofM

FAMILIES = ["llama", "gemma3_text", "opt", "gpt2", "gpt_neox", "qwen3_moe", "falcon", "gemma3"]

Windows = tuple[Tensor, Tensor]


class Crossing(passage.Ferry):
    """Between the CPU and a device of its own; counts what is there at once."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self.brought: list[ref[Tensor]] = []
        self.most = 0

    def bring(self, waiting: Tensor) -> Tensor:
        hidden = waiting.clone()
        self.brought.append(ref(hidden))
        self.most = max(self.most, sum(one() is not None for one in self.brought))
        return hidden

    def fetch(self, hidden: Tensor, waiting: Tensor | None = None) -> Tensor:
        return hidden.clone() if waiting is None else waiting.copy_(hidden)


@pytest.fixture
def streamed(build: Callable[..., Any], tmp_path: Path) -> Callable[[str], Any]:
    def streamed(family: str) -> Any:
        build(family).save_pretrained(tmp_path / family)
        path = str(tmp_path / family)
        return load(Local(path, device="cpu", load="stream"), tmp_path / "scratch")

    return streamed


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_what_went_through_all_blocks_leaves_as_the_decoder_has_it(
    build: Callable[..., Any], windows: Windows, family: str
) -> None:
    model = build(family)
    ids, mask = windows
    mask = mask.clone()
    mask[1, 7:] = False
    through = Passage.of_windows(model, (ids, mask), 4)
    for block in anatomy.blocks(model):
        through.advance(block)
    if not through.leaves:
        pytest.fail(f"{family}: its blocks answer more than hidden states")
    found = torch.cat([through.left(batch).last_hidden_state for batch in through.turns()])
    expected = torch.cat(
        [
            anatomy.decoder(model)(
                input_ids=part, attention_mask=shown, use_cache=False
            ).last_hidden_state
            for part, shown in zip(ids.split(4), mask.split(4), strict=True)
        ]
    )
    assert found[mask].equal(expected[mask])


def test_states_that_wait_elsewhere_are_the_same_and_few_are_on_the_device(
    streamed: Callable[[str], Any], windows: Windows, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = walk(streamed("llama"), SparseGPT(), NofM(2, 4), windows=windows, batch_size=2)
    ferries: list[Crossing] = []

    def ferry(device: torch.device) -> Crossing:
        ferries.append(Crossing(device))
        return ferries[-1]

    monkeypatch.setattr(passage, "Ferry", ferry)
    model = streamed("llama")
    assert walk(model, SparseGPT(), NofM(2, 4), windows=windows, batch_size=2) == expected
    (one,) = ferries
    assert one.most == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda_states_wait_in_pinned_memory_and_come_out_as_on_the_device(
    build: Callable[..., Any], windows: Windows, tmp_path: Path
) -> None:
    build("llama").save_pretrained(tmp_path)
    ways = {
        way: load(Local(str(tmp_path), device="cuda", load=way), tmp_path / "scratch")
        for way in ("whole", "stream")
    }
    records = {
        way: walk(model, SparseGPT(), NofM(2, 4), windows=windows, batch_size=1)
        for way, model in ways.items()
    }
    assert records["whole"] == records["stream"]
    through = Passage.of_windows(ways["stream"], windows, 1)
    assert all(batch.hidden.is_pinned() for batch in through._batches)
