"""Windows on their way through a model: all of them through one block, then through the next.

This is how a model is compressed, and how one is measured whose blocks come from disk, so that each
is read once and not once per batch. It knows no architecture: a block is called with exactly the
arguments with which the model calls it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import zip_longest
from typing import Any, NamedTuple, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sweep.model import anatomy
from sweep.model.finite import UNFOUND, culprit
from sweep.model.offload import entrance, resident, streams
from sweep.model.placement import batches
from sweep.refusal import Refusal

Part = tuple[Int[Tensor, "_ _"], Bool[Tensor, "_ _"]]
"""Token ids `[n, time]` and a mask, True on tokens and False on padding, which is on the right."""

Like = Callable[[Tensor], Any]
"""Makes of hidden states what a block would have answered, had they come out of it."""


class _Call(NamedTuple):
    """What the model hands a block besides the hidden states."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass
class Batch:
    """Windows at the entrance of a block.

    Attributes:
        ids: their tokens.
        hidden: the next block's input (of several streams, where a family has them: Gemma 3n).
        mask: True on tokens, False on padding.
        padded: whether there is any padding.
        calls: what the blocks to come are handed beside it.
    """

    ids: Int[Tensor, "n time"]
    hidden: Float[Tensor, "*streams n time hidden"]
    mask: Bool[Tensor, "n time"]
    padded: bool
    calls: deque[_Call]

    def run(self, block: nn.Module) -> Float[Tensor, "*streams n time hidden"]:
        """What comes out of the block, which is the next one."""
        call = self.calls[0]
        answer = block(self.hidden, *call.args, **call.kwargs)
        hidden: Tensor = answer[0] if isinstance(answer, tuple | list) else answer
        return hidden

    def advance(self, block: nn.Module) -> None:
        """It goes through the block, to the next one."""
        self.hidden = self.run(block)
        self.calls.popleft()


Brought = tuple[Tensor, Any]
"""Hidden states on the device, and the event on CUDA after which they are there."""


@cache
def _streams(device: torch.device) -> tuple[Any, Any]:
    """For copies to a CUDA device and from it: two for the process, since what the allocator has
    given to a stream serves no other."""
    up, down = (torch.cuda.Stream(device) for _ in range(2))  # type: ignore[no-untyped-call]
    return up, down


class Ferry:
    """Brings hidden states from the CPU to the device and back while another batch runs there.

    On CUDA the copies of either direction have a stream of their own, and what waits on the CPU is
    in pinned memory; elsewhere a copy is made when it is asked for, if the device is not the CPU
    itself.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._up: Any = None
        self._down: Any = None
        self._last: Any = None  # the event after which the last batch has left
        if device.type == "cuda":
            self._up, self._down = _streams(device)

    def bring(self, waiting: Tensor) -> Brought:
        """To the device; not to be used before `arrived`."""
        if self._up is None:
            return waiting.to(self._device), None
        with torch.cuda.stream(self._up):
            hidden = waiting.to(self._device, non_blocking=True)
            return hidden, self._up.record_event()

    def arrived(self, brought: Brought) -> Tensor:
        """What follows on the device has the states that were brought."""
        hidden, there = brought
        if there is not None:
            now = torch.cuda.current_stream(self._device)
            now.wait_event(there)
            hidden.record_stream(now)
        return hidden

    def fetch(self, hidden: Tensor, waiting: Tensor | None = None) -> Tensor:
        """To the CPU, in the place of what waited there before, from where `hidden` was made; not
        to be read before `done`."""
        if self._down is None:
            return hidden.to("cpu")
        self._down.wait_stream(torch.cuda.current_stream(self._device))
        if waiting is None or (waiting.shape, waiting.dtype) != (hidden.shape, hidden.dtype):
            waiting = torch.empty_like(hidden, device="cpu", pin_memory=True)
        with torch.cuda.stream(self._down):
            waiting.copy_(hidden, non_blocking=True)
        hidden.record_stream(self._down)
        return waiting

    def make_room(self) -> None:
        """All batches but the last one have left the device: the host, which is far ahead of it,
        would else bring more than there is room for."""
        if self._down is None:
            return
        self._down.wait_stream(torch.cuda.current_stream(self._device))  # one may not be fetched
        before, self._last = self._last, self._down.record_event()
        if before is not None:
            before.synchronize()

    def done(self) -> None:
        """All copies are made."""
        if self._up is not None:
            self._up.synchronize()
            self._down.synchronize()
            self._last = None


@final
class Passage:
    """Batches that go through a model's blocks together.

    The hidden states are on the device; those of a model whose blocks come from disk
    (`sweep.model.stream`) wait on the CPU, and two batches at a time are on the device: the one
    that runs, and the next.

    Args:
        model: a causal language model; each of its blocks is on one device.
        parts: what the batches are of.

    Raises:
        Refusal: a model that does not run its blocks one after the other.
    """

    def __init__(self, model: nn.Module, parts: Iterable[Part]) -> None:
        self._model = model
        blocks = anatomy.blocks(model)
        self._ferry = Ferry(entrance(model)) if streams(blocks[0]) else None
        self._like: Like | None = None
        self._batches: list[Batch] = []
        with resident(blocks[0]):
            for ids, mask in parts:
                if not self._batches:
                    *_, self._like = _arrivals(model, ids[:1, :2], mask[:1, :2], None)
                hidden, calls, _ = _arrivals(model, ids, mask, self._like)
                if self._ferry is not None:
                    hidden = self._ferry.fetch(hidden)
                    self._ferry.make_room()
                self._batches.append(Batch(ids, hidden, mask, not bool(mask.all()), calls))
        if self._ferry is not None:
            self._ferry.done()

    def culprit(self) -> str:
        """Where in the model, as it is now, NaN or infinity first comes from."""
        places = (culprit(self._model, batch.ids, batch.mask) for batch in self._batches)
        found = [place for place in places if not place.startswith(UNFOUND)]
        return found[0] if found else UNFOUND

    @classmethod
    def of_windows(cls, model: nn.Module, windows: Part | None, batch_size: int) -> Passage:
        """Windows in batches, each as wide as its longest one: padding beyond is never run.

        Raises:
            ValueError: windows that are missing or not padded on the right.
            Refusal: as `Passage`.
        """
        if windows is None or len(windows[0]) == 0:
            raise ValueError("windows: the method reads calibration data, and none were given")
        device = entrance(model)
        ids, mask = (tensor.to(device) for tensor in windows)
        if not mask[:, 0].all() or (mask[:, 1:] & ~mask[:, :-1]).any():
            reason = "every window must open with a token and be padded on the right"
            raise ValueError(f"windows: {reason}")
        lengths = mask.sum(dim=1)
        parts: list[Part] = []
        for rows in batches(lengths, batch_size, anatomy.widest(model), device):
            width = int(lengths[rows].max())
            parts.append((ids[rows, :width], mask[rows, :width]))
        return cls(model, parts)

    @property
    def tokens(self) -> int:
        """How many there are, padding left out."""
        return sum(int(batch.mask.sum()) for batch in self._batches)

    def turns(self) -> Iterator[Batch]:
        """Each batch, with its hidden states on the device."""
        if self._ferry is None:
            yield from self._batches
            return
        brought = self._ferry.bring(self._batches[0].hidden)
        for batch, following in zip_longest(self._batches, self._batches[1:]):
            waiting, given = batch.hidden, self._ferry.arrived(brought)
            batch.hidden = given
            try:
                yield batch
            finally:
                same = batch.hidden is given
                batch.hidden = waiting if same else self._ferry.fetch(batch.hidden, waiting)
            self._ferry.make_room()
            if following is not None:  # it comes while the device still runs this one
                brought = self._ferry.bring(following.hidden)
        self._ferry.done()

    def advance(self, block: nn.Module) -> None:
        """Every batch goes through the block, which is the next one."""
        for batch in self.turns():
            batch.advance(block)

    @property
    def leaves(self) -> bool:
        """Whether `left` can be asked: not if a block answers more than hidden states."""
        return self._like is not None

    def left(self, batch: Batch) -> Any:
        """What the model's decoder answers when this came out of its last block."""
        assert self._like is not None
        answer = self._like(batch.hidden)

        def stand_in_for(_: Callable[..., Any]) -> Callable[..., Any]:
            return lambda *args, **kwargs: answer

        with _replaced_forward(anatomy.blocks(self._model), stand_in_for):
            return _decoded(self._model, batch.ids, batch.mask)


def _decoded(model: nn.Module, ids: Int[Tensor, "n time"], mask: Bool[Tensor, "n time"]) -> Any:
    return anatomy.decoder(model)(input_ids=ids, attention_mask=mask.long(), use_cache=False)


def _like(hidden: Tensor, answer: Any) -> Like | None:
    """Makes of other hidden states what a block answered to these; None if it is not that alone."""
    match answer:
        case Tensor() if answer.shape == hidden.shape:
            return lambda other: other
        case (Tensor() as first, *rest) if isinstance(answer, tuple) and all(
            one is None for one in rest
        ):
            return (lambda other: (other, *rest)) if first.shape == hidden.shape else None
    return None


def _arrivals(
    model: nn.Module, ids: Int[Tensor, "n time"], mask: Bool[Tensor, "n time"], like: Like | None
) -> tuple[Float[Tensor, "*streams n time hidden"], deque[_Call], Like | None]:
    """The first block's input, the model's calls of all its blocks, and what an answer is like.

    Blocks may be called differently (models that mix full and sliding attention hand over different
    masks), so each is asked. None is run where it is known what an answer is `like`: its form is
    enough, for nothing is made of the states behind. Else the first one is, and the others return
    what it returned.
    """
    blocks = anatomy.blocks(model)
    inputs: list[Tensor] = []
    answers: list[Any] = []
    calls: deque[_Call] = deque()

    order: list[int] = []
    numbers = iter(range(len(blocks)))

    def stand_in_for(forward: Callable[..., Any]) -> Callable[..., Any]:
        number = next(numbers)

        def stand_in(hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
            order.append(number)
            calls.append(_Call(args, kwargs))
            if not answers:
                inputs.append(hidden)
                known = None if like is None else like(hidden.clone())
                answers.append(forward(hidden, *args, **kwargs) if known is None else known)
            return answers[0]

        return stand_in

    with _replaced_forward(blocks, stand_in_for):
        _decoded(model, ids, mask)
    if order != list(range(len(blocks))):
        reason = (
            f"{type(model).__name__}: does not run each of its {len(blocks)} blocks once, in their "
            "order; such a model cannot be calibrated block by block"
        )
        raise Refusal("", "", reason)
    return inputs[0], calls, _like(inputs[0], answers[0])


@contextmanager
def _replaced_forward(
    modules: Iterable[nn.Module], replace: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> Iterator[None]:
    """Other forward methods for a while, on the same modules, so that their attributes stay."""
    before = [(module, module.__dict__.get("forward")) for module in modules]
    try:
        for module, _ in before:
            module.__dict__["forward"] = replace(module.forward)
        yield
    finally:
        for module, own in before:
            del module.__dict__["forward"]
            if own is not None:
                module.__dict__["forward"] = own
