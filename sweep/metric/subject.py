"""A model under measurement: what is asked of it, once.

The dense model is a subject too. It is asked while its weights are dense and remembers the answers,
because a large model is compressed in place: there is no second copy of it. Of a text it remembers
the last hidden states, not the logits: for 4,096 wide states and 32,000 entries of vocabulary they
are 8 times smaller, and what the model does after its decoder (the head, which stays dense; with
some families a scaling or a soft capping too) gives the same logits again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sweep.metric.text import Sequences
from sweep.model import anatomy
from sweep.model.anatomy import decoder
from sweep.model.finite import culprit
from sweep.model.offload import entrance, resident, streams
from sweep.model.passage import Part, Passage
from sweep.model.placement import batches
from sweep.refusal import Refusal

T = TypeVar("T")
Progress = Callable[[Iterable[T], str, int], Iterable[T]]


@runtime_checkable
class Memory(Protocol):
    """What had its price and is kept for good, whichever process or cell asks for it again.

    Attributes:
        unreached: addresses where nobody was, each with what was said of it: in this process no
            other cell waits for them.
    """

    unreached: dict[str, Refusal]

    def recall(self, kind: str, key: str) -> dict[str, Any] | None:
        """What is kept under the key; None: nothing is."""

    def once(
        self,
        kind: str,
        key: str,
        compute: Callable[[], dict[str, Any]],
        *,
        lasts: Callable[[Mapping[str, Any]], bool],
    ) -> dict[str, Any]:
        """What is kept under the key; if nothing is, what `compute` gives; kept if it `lasts`."""

    def spend(self, kind: str, count: int, most: int) -> bool:
        """Count what a process pays for; False, and not counted: it would be more than `most`."""


class Subject:
    """A causal language model in eval mode.

    Args:
        model: the `transformers` model.
        tokenizer: its tokenizer, padding on the left.
        batch_size: sequences in one forward pass.
        progress: shows how far a loop is: called with the loop, its name and its length.
        memory: keeps what must not be asked for twice, of any subject.

    Attributes:
        returned: a context in which the weights are the subject's once more, while another is
            measured: at the price of copying them twice, for what cannot be remembered.
    """

    def __init__(
        self, model: Any, tokenizer: Any, *, batch_size: int, progress: Any, memory: Memory
    ) -> None:
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.progress = progress
        self.memory = memory
        self.memo: dict[tuple[str, str], Any] = {}
        self.returned: Callable[[], AbstractContextManager[None]] = nullcontext
        self._model: Any = model
        self._whole = model
        self._output: Any = None  # the type of the decoder's output, once that is seen and checked

    @property
    def model(self) -> Any:
        """The model, as long as its weights are the subject's.

        Raises:
            RuntimeError: they no longer are (a metric measures what it did not prepare).
        """
        if self._model is None:
            raise RuntimeError("the dense weights are gone: prepare() must ask for this before")
        return self._model

    @property
    def device(self) -> torch.device:
        """Where token ids go: where the model is, or where it begins."""
        return entrance(self._whole)

    @property
    def _streams(self) -> bool:
        return streams(anatomy.blocks(self._whole)[0])

    @property
    def away(self) -> bool:
        """Whether the weights are another subject's for now."""
        return self._model is None

    def leave(self) -> None:
        """From here on only what is remembered can be had: the weights are about to change."""
        self._model = None

    def come_back(self, model: Any) -> None:
        """The weights are the subject's again."""
        self._model = model

    def once(self, kind: str, key: str, compute: Callable[[], T]) -> T:
        """What `compute` gives, computed the first time only."""
        if (kind, key) not in self.memo:
            self.memo[kind, key] = compute()
        found: T = self.memo[kind, key]
        return found

    def remembers_hidden(self, text: Sequences) -> bool:
        """Whether the hidden states of a text are at hand without a forward pass."""
        return ("hidden", text.key) in self.memo

    def batches(self, text: Sequences) -> list[Int[Tensor, " _"]]:
        """Sequence numbers by batch: of like length together, the longest first."""
        width = anatomy.widest(self._whole)
        return batches(text.lengths, self.batch_size, width, self.device)

    def hidden(self, text: Sequences) -> Iterator[Float[Tensor, "position hidden"]]:
        """The last hidden states at the scored positions, batch by batch, row by row."""
        if self.remembers_hidden(text):
            for states in self.memo["hidden", text.key]:
                yield states.to(self.device) if self._streams else states
        else:
            yield from self._states(text)

    def remember_hidden(self, text: Sequences) -> None:
        """Keep the hidden states of a text, so that others can be compared with them later.

        Of a model whose blocks come from disk they wait on the CPU: the device lacks room as it is.
        """

        def compute() -> list[Tensor]:
            return [one.cpu() if self._streams else one for one in self._states(text)]

        self.once("hidden", text.key, compute)

    def logits(self, hidden: Float[Tensor, "position hidden"]) -> Float[Tensor, "position vocab"]:
        """What the model makes of last hidden states, whether or not its weights are dense now.

        Its own forward pass, in which the decoder answers with these states as one sequence: so the
        head is applied and whatever a family does after it (Gemma's soft capping, Granite's and
        Cohere's scaling). Nothing of that is ever compressed.
        """
        if self._output is None:
            raise RuntimeError("hidden states come first: only they say how the decoder answers")
        states = self._output(last_hidden_state=hidden[None])
        ids = torch.zeros(1, len(hidden), dtype=torch.long, device=hidden.device)
        with _answering(decoder(self._whole), states):
            found: Float[Tensor, "1 position vocab"] = self._whole(
                input_ids=ids, use_cache=False
            ).logits
        return found[0]

    @torch.inference_mode()
    def _states(self, text: Sequences) -> Iterator[Float[Tensor, "position hidden"]]:
        model = self.model
        self._check_logits(text.ids[:1, :8])
        batches = self.batches(text)
        parts = [self._part(text, rows) for rows in batches]
        for rows, found in zip(batches, self._decoded(model, parts, str(text)), strict=True):
            states = found.last_hidden_state
            yield states[text.scored[rows, : states.shape[1]].to(states.device)]

    def _part(self, text: Sequences, rows: Int[Tensor, " n"]) -> Part:
        """These sequences on the device, with their mask."""
        width = int(text.lengths[rows].max())
        mask = torch.arange(width) < text.lengths[rows, None]
        return text.ids[rows, :width].to(self.device), mask.to(self.device)

    def _decoded(self, model: Any, parts: list[Part], name: str) -> Iterator[Any]:
        """What the decoder answers to each part; of blocks on disk, each is read but once."""
        blocks = anatomy.blocks(model)
        if self._streams:
            passage = Passage(model, parts)
            if passage.leaves:
                for block in self.progress(blocks, f"{name}, blocks", len(blocks)):
                    with resident(block):
                        passage.advance(block)
                yield from (passage.left(batch) for batch in passage.turns())
                return
        for ids, mask in self.progress(parts, name, len(parts)):
            yield decoder(model)(input_ids=ids, attention_mask=mask, use_cache=False)

    def _check_logits(self, ids: Int[Tensor, "n time"]) -> None:
        """The model's logits are those of its hidden states.

        Raises:
            FloatingPointError: they are no numbers.
            NotImplementedError: they depend on more.
        """
        if self._output is not None:
            return
        ids = ids.to(self.device)
        outputs: list[Any] = []
        watched = decoder(self.model).register_forward_hook(lambda *call: outputs.append(call[2]))
        with watched:
            whole = self.model(input_ids=ids, use_cache=False).logits[0]
        *_, output = outputs
        if (whole.isnan() | whole.isposinf()).any():  # -inf is a word that is never said
            place = culprit(self.model, ids)
            raise FloatingPointError(f"the model's logits hold NaN or infinity; {place}")
        self._output = type(output)
        found = self.logits(output.last_hidden_state[0])
        if not torch.allclose(found.float(), whole.float(), rtol=1e-3, atol=1e-3):
            self._output = None
            name = type(self.model).__name__
            reason = "its logits cannot be had from its last hidden states, which metrics keep"
            raise NotImplementedError(f"{name}: {reason}")


@contextmanager
def _answering(part: Any, output: Any) -> Iterator[None]:
    """For a while this part, the decoder, does nothing but give this output."""
    own = vars(part).get("forward")  # of the instance, where something has wrapped it before
    part.forward = lambda *args, **given: output
    try:
        yield
    finally:
        if own is None:
            del part.forward
        else:
            part.forward = own


def sequence_of_position(
    text: Sequences, batches: list[Int[Tensor, " _"]]
) -> Int[Tensor, " position"]:
    """For every scored position, in the order of `Subject.hidden`, the number of its sequence."""
    counts = text.scored.sum(1)
    return torch.cat([rows.repeat_interleave(counts[rows]) for rows in batches])


def gold_of_position(text: Sequences, batches: list[Int[Tensor, " _"]]) -> Int[Tensor, " position"]:
    """For every scored position, in the order of `Subject.hidden`, the token that follows."""
    following = text.ids.roll(-1, dims=1)
    picked: list[Bool[Tensor, "_ time"]] = [text.scored[rows] for rows in batches]
    return torch.cat([following[rows][mask] for rows, mask in zip(batches, picked, strict=True)])
