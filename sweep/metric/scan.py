"""One forward pass over a text, for every metric that reads it.

Perplexity and divergence over the same text take their numbers from one scan. The vocabulary is
never held in float32 for more than a chunk of positions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray

from sweep.metric.subject import Subject, gold_of_position, sequence_of_position
from sweep.metric.text import Scored
from sweep.model.finite import culprit
from sweep.numerics.divergence import Divergence, compare, negative_log_likelihood

CHUNK_ON_CPU, CHUNK = 2**23, 2**26
"""Logits that are held in float32 at once: 32 MB for each of the few arrays in use, and on a GPU,
to which every chunk is a few dozen launches, 256 MB."""


@dataclass(frozen=True)
class Scan:
    """What was seen at every scored position.

    Attributes:
        sequence: number of the sequence to which a position belongs.
        loss: of the subject, in nats.
        divergence: from the dense model, by field of `Divergence`; None if that was not asked.
    """

    sequence: Int[ndarray, " position"]
    loss: Float[ndarray, " position"]
    divergence: dict[str, Float[ndarray, " position"]] | None

    def by_sequence(
        self, values: Float[ndarray, " position"]
    ) -> tuple[Float[ndarray, " n"], Float[ndarray, " n"]]:
        """Sum of the values and number of positions, per sequence."""
        return (
            np.bincount(self.sequence, weights=values),
            np.bincount(self.sequence).astype(float),
        )


def scan(subject: Subject, text: Scored, dense: Subject) -> Scan:
    """Score the text; against the dense model where that has been prepared for this text.

    Raises:
        FloatingPointError: what the model says somewhere is no number.
    """
    kind = "scan against dense" if dense.remembers_hidden(text) else "scan"
    return subject.once(kind, text.key, lambda: _scan(subject, text, dense))


@torch.inference_mode()
def _scan(subject: Subject, text: Scored, dense: Subject) -> Scan:
    batches = subject.batches(text)
    gold = gold_of_position(text, batches)
    against = dense.hidden(text) if dense.remembers_hidden(text) else None
    losses: list[ndarray] = []
    parts: list[Divergence] = []
    done = 0
    for states in subject.hidden(text):
        reference = None if against is None else next(against)
        most = CHUNK_ON_CPU if states.device.type == "cpu" else CHUNK
        size = max(1, most // subject.logits(states[:1]).shape[-1])
        for start in range(0, len(states), size):
            rows = slice(start, start + size)
            logits = subject.logits(states[rows])
            expected = gold[done : done + len(logits)].to(logits.device)
            done += len(logits)
            if reference is None:
                losses.append(_numpy(negative_log_likelihood(logits, expected)))
            else:
                part = compare(dense.logits(reference[rows]), logits, expected)
                parts.append(part)
                losses.append(_numpy(part.loss_compressed))
    found = Scan(
        sequence=sequence_of_position(text, batches).numpy(),
        loss=np.concatenate(losses),
        divergence=None
        if against is None
        else {
            name: np.concatenate([_numpy(getattr(one, name)) for one in parts])
            for name in Divergence._fields
        },
    )
    _check_finite(found, text, subject)
    return found


def _check_finite(found: Scan, text: Scored, subject: Subject) -> None:
    """Raises: FloatingPointError: names what is NaN or infinite, and where that begins."""
    for name, values in {"loss": found.loss, **(found.divergence or {})}.items():
        bad = ~np.isfinite(values)
        if bad.any():
            first = int(found.sequence[bad].min())
            place = culprit(subject.model, text.ids[None, first, : int(text.lengths[first])])
            raise FloatingPointError(
                f"{text.origin.corpus}: {name} is NaN or infinite at {bad.sum()} of {len(bad)} "
                f"positions, first in sequence {first}; {place}"
            )


def _numpy(values: torch.Tensor) -> ndarray:
    return values.double().cpu().numpy()
