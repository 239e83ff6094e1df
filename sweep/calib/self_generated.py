"""Calibration without data: sequences that the dense model samples itself.

Williams, Chrysostomou and Aletras 2024, "Self-calibration for language model quantization and
pruning" (arXiv 2410.17170): what a model says by itself is close to what it was trained on, which
nobody else may have. Here every token is drawn from the model's whole distribution, from the first
one on, at one temperature; the paper also lets the temperature fall over the first tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Annotated, Any, ClassVar, final

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from sweep.calib.calibration import Calibration, DenseModel, Windows, check_size
from sweep.calib.packing import fixed
from sweep.data.row import Tokens
from sweep.data.source import Origin, Source
from sweep.model.finite import culprit
from sweep.model.offload import entrance

CACHES = ("past_key_values", "cache_params")
"""What a model may call that by which it need not read a text anew for every token. Not RWKV's
`state`, by which transformers mixes the sequences of a batch."""

AT_ONCE = 2**14
"""Tokens of sequences that are sampled together: their keys and values fill the device."""


@final
@dataclass(frozen=True)
class SelfGenerated(Calibration):
    """`n_samples` sequences of `seqlen` tokens, sampled from the dense model.

    Each begins with the token that begins a text (that which ends one, where there is none), and is
    full: what follows an end-of-sequence token is the next text, as in packed training data.

    Attributes:
        n_samples: number of sequences.
        seqlen: tokens in each, the first one included.
        temperature: by which the logits are divided; 1: what the model means.
    """

    n_samples: Annotated[int, Field(ge=1)] = 128
    seqlen: Annotated[int, Field(ge=2)] = 2048
    temperature: Annotated[float, Field(gt=0, le=100)] = 1.0
    sampled: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Raises: Refusal: see `check_size`."""
        check_size(self.n_samples, self.seqlen)

    def windows(
        self,
        tokenizer: Any,
        seed: int,
        dense: DenseModel | None = None,
        without: frozenset[str] = frozenset(),
    ) -> Windows:
        """See `Calibration`.

        Sequence `i` depends on the seed and on `i` only: not on how many there are, nor on which
        are sampled together (but for what the batch does to the last digit of a logit).

        Raises:
            ValueError: there is no model to be asked.
            FloatingPointError: what it says is no number.
        """
        if dense is None:
            raise ValueError("what the dense model says is known when it is loaded")
        size = max(1, min(dense.batch_size, AT_ONCE // self.seqlen))
        starts = range(0, self.n_samples, size)
        rows: list[Tokens] = []
        for start in dense.progress(starts, "sampling calib self", len(starts)):
            numbers = range(start, min(start + size, self.n_samples))
            drawn = torch.stack([_uniform(seed, number, self.seqlen) for number in numbers])
            ids = sample(dense.model, tokenizer, drawn, self.temperature)
            rows += [Tokens(tuple(sequence)) for sequence in ids.tolist()]
        return fixed(rows, self.n_samples)

    def name(self) -> None:
        """The option's."""

    def draws(self) -> bool:
        """Always."""
        return True

    def sources(self) -> Mapping[str, Source]:
        """None."""
        return {}

    def origins(self) -> tuple[Origin, ...]:
        """The model, which is in the cell's identity, and the version of the sampling here."""
        return (Origin("self", "model", "sampling-2", "sampled from the dense model"),)

    def length(self) -> int | None:
        """`seqlen`."""
        return self.seqlen


@torch.inference_mode()
def sample(
    model: Any, tokenizer: Any, drawn: Float[Tensor, "n time"], temperature: float
) -> Int[Tensor, "n time"]:
    """Sequences that the model says by itself; for the same numbers the same.

    Args:
        model: a causal language model in eval mode.
        tokenizer: its own: entries of the model's vocabulary that are no token of it are not said.
        drawn: numbers from 0 to 1, in double precision, one for each token: how far along the
            cumulated probabilities of the vocabulary the token lies. The first token's is not used.
        temperature: by which the logits are divided.

    Raises:
        FloatingPointError: a logit is NaN or infinity; names block and layer.
    """
    first = tokenizer.bos_token_id
    count, time = drawn.shape
    ids = torch.full((count, time), tokenizer.eos_token_id if first is None else first)
    ids = ids.to(entrance(model))
    mask = torch.ones_like(ids)
    places = torch.arange(time, device=ids.device).expand(count, -1)
    takes = signature(model.forward).parameters
    keeps = any(name in takes for name in CACHES)
    cache: dict[str, Any] = {}
    for step in range(1, time):
        new = slice(step - 1 if cache else 0, step)  # all of it, where a model keeps nothing
        # some do not count the tokens in their cache
        where = {"position_ids": places[:, new]} if "position_ids" in takes else {}
        said = model(
            input_ids=ids[:, new],
            attention_mask=mask[:, :step],
            use_cache=keeps,
            **where,
            **cache,
        )
        cache = {name: said[name] for name in CACHES if said.get(name) is not None}
        keeps = bool(cache)
        logits = said.logits[:, -1, : len(tokenizer)].cpu().double()
        if (logits.isnan() | logits.isposinf()).any():  # -inf is a token that is never said
            place = culprit(model, ids[:, :step])
            raise FloatingPointError(f"calib self: NaN or infinity at token {step}; {place}")
        along = (logits / temperature).softmax(-1).cumsum(-1)
        # the last of the sums is 1 but for rounding; no number may lie beyond it
        place = drawn[:, step, None] * along[:, -1:]
        chosen = torch.searchsorted(along, place, right=True).clamp(max=along.shape[1] - 1)
        ids[:, step] = chosen[:, 0].to(ids.device)
    return ids.cpu()


def _uniform(seed: int, number: int, time: int) -> Float[Tensor, " time"]:
    """The numbers of one sequence, on any device and in any company the same."""
    # not torch's own generator, which takes the lower 32 bits of a seed only
    return torch.from_numpy(np.random.default_rng([seed, number]).random(time))
