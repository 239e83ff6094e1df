"""Windows that go through a model block by block, and wait where there is room for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
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

    def bring(self, waiting: Tensor) -> passage.Brought:
        hidden = waiting.clone()
        self.brought.append(ref(hidden))
        self.most = max(self.most, sum(one() is not None for one in self.brought))
        return hidden, None

    def fetch(self, hidden: Tensor, waiting: Tensor | None = None) -> Tensor:
        return hidden.clone() if waiting is None else waiting.copy_(hidden)


class Line:
    """Stands for the host, a stream of CUDA, or an event: what is over before what comes next."""

    def __init__(self, past: Iterable[str] = ()) -> None:
        self.past = set(past)

    def wait_stream(self, other: Line) -> None:
        self.past |= other.past

    wait_event = wait_stream


class Cuda:
    """Stands for CUDA: work is done at once, and of each piece it is told behind which it waits.

    Pieces are called `bring 0`, `run 0`, `fetch 0`, …, by the batch.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host, self.running = Line(), Line()
        self.behind: dict[str, set[str]] = {}
        self.streams: list[Line] = []
        self._now = self.running
        self._counts: Counter[str] = Counter()
        cuda = self

        class Stream(Line):
            def __init__(self, device: torch.device) -> None:
                super().__init__()
                cuda.streams.append(self)

            def record_event(self) -> Event:
                return Event(self.past)

            def synchronize(self) -> None:
                cuda.host.wait_stream(self)

        class Event(Stream):
            def __init__(self, past: set[str]) -> None:
                Line.__init__(self, past)

        to, copy, like = Tensor.to, Tensor.copy_, torch.empty_like

        def moved(tensor: Tensor, *args: Any, **given: Any) -> Tensor:
            if args != (torch.device("cuda"),):
                return to(tensor, *args, **given)
            self.does("bring")
            return tensor.clone()

        def copied(tensor: Tensor, other: Tensor, non_blocking: bool = False) -> Tensor:
            if non_blocking:
                self.does("fetch")
            return copy(tensor, other)

        def pageable(tensor: Tensor, pin_memory: bool = False, **given: Any) -> Tensor:
            return like(tensor, **given)

        monkeypatch.setattr(torch.cuda, "Stream", Stream)
        monkeypatch.setattr(torch.cuda, "stream", self._on)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: self._now)
        monkeypatch.setattr(torch, "empty_like", pageable)
        monkeypatch.setattr(Tensor, "to", moved)
        monkeypatch.setattr(Tensor, "copy_", copied)
        monkeypatch.setattr(Tensor, "record_stream", lambda tensor, stream: None)

    @contextmanager
    def _on(self, stream: Line) -> Iterator[None]:
        before, self._now = self._now, stream
        yield
        self._now = before

    def does(self, what: str) -> None:
        piece = f"{what} {self._counts[what]}"
        self._counts[what] += 1
        self._now.past |= self.host.past
        self.behind[piece] = set(self._now.past)
        self._now.past.add(piece)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cuda]:
    passage._streams.cache_clear()
    monkeypatch.setattr(passage, "entrance", lambda model: torch.device("cuda"))
    yield Cuda(monkeypatch)
    passage._streams.cache_clear()


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
    parts = list(zip(ids.split(4), mask.split(4), strict=True))
    through = Passage(model, parts)
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
            for part, shown in parts
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


@torch.no_grad()
def test_on_cuda_batches_come_and_leave_while_another_runs_and_two_are_there_at_once(
    streamed: Callable[[str], Any], windows: Windows, cuda: Cuda
) -> None:
    model = streamed("llama")
    parts = [*zip(windows[0].split(1), windows[1].split(1), strict=True)]
    through = Passage(model, parts)  # which fetches each batch a first time
    blocks, each = anatomy.blocks(model), len(parts)
    turns = 2
    for block in blocks[:turns]:
        for batch in through.turns():
            cuda.does("run")
            batch.advance(block)
    for number in range(turns * each):
        run, bring = cuda.behind[f"run {number}"], cuda.behind[f"bring {number}"]
        assert f"bring {number}" in run
        assert f"run {number}" in cuda.behind[f"fetch {each + number}"]
        assert f"fetch {number}" in bring  # of the turn before: it reads what that has written
        if number % each:
            assert f"fetch {each + number - 1}" not in run
            assert f"run {number - 1}" not in bring
        if number % each > 1:
            assert f"fetch {each + number - 2}" in bring  # that batch has made room
    for block in blocks[turns:]:
        through.advance(block)
    found = torch.cat([through.left(batch).last_hidden_state for batch in through.turns()])
    expected = anatomy.decoder(model)(input_ids=windows[0], use_cache=False).last_hidden_state
    assert found.allclose(expected, atol=1e-5)


@torch.no_grad()
def test_on_cuda_batches_that_are_only_looked_at_make_room_too(
    streamed: Callable[[str], Any], windows: Windows, cuda: Cuda
) -> None:
    parts = [*zip(windows[0].split(1), windows[1].split(1), strict=True)]
    through = Passage(streamed("llama"), parts)
    for _ in through.turns():
        cuda.does("run")
    for number in range(2, len(parts)):
        assert f"run {number - 2}" in cuda.behind[f"bring {number}"]


def test_on_cuda_every_passage_copies_on_the_same_two_streams(
    streamed: Callable[[str], Any], windows: Windows, cuda: Cuda
) -> None:
    model = streamed("llama")
    for _ in range(3):
        Passage(model, [windows])
    assert len(cuda.streams) == 2


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
