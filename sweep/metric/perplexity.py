"""Perplexity: `exp` of the mean negative log-likelihood of the tokens of a text.

Over all predicted tokens of consecutive windows of `seqlen` tokens that do not overlap. The length
of the windows belongs to the number: LLaMA-2-7B on WikiText-2 has 5.12 at 4,096 and 5.47 at 2,048.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, final

import numpy as np
from pydantic import Field

from sweep.data.source import Origin, Source
from sweep.metric.metric import Examples, Mean, Metric, Result, Value, column
from sweep.metric.scan import scan
from sweep.metric.subject import Subject
from sweep.metric.text import Scored, text_windows
from sweep.numerics.bootstrap import interval


@final
@dataclass(frozen=True)
class Perplexity(Metric[Scored]):
    """Perplexity on running text.

    Attributes:
        source: the corpora by name.
        n_samples: at most so many windows of each; None: the whole text.
        seqlen: tokens in a window; None: as a tokenised source has them.
    """

    source: dict[str, Source]
    n_samples: Annotated[int, Field(ge=1)] | None = None
    seqlen: Annotated[int, Field(ge=2)] | None = None

    def origins(self) -> tuple[Origin, ...]:
        """See `Metric`."""
        return tuple(source.origin() for source in self.source.values())

    def load(self, tokenizer: Any) -> Mapping[str, Scored]:
        """See `Metric`."""
        return {
            name: text_windows(source, tokenizer, self.n_samples, self.seqlen)
            for name, source in self.source.items()
        }

    def prepare(self, dense: Subject, data: Mapping[str, Scored], kept: Examples) -> None:
        """The dense model's own perplexity is the dense cell's result: nothing is needed of it."""

    def measure(self, subject: Subject, dense: Subject, data: Mapping[str, Scored]) -> Result:
        """See `Metric`; values `perplexity` and `loss` (nats per token)."""
        values: dict[str, Value] = {}
        examples: dict[str, list[dict[str, Any]]] = {}
        for name, text in data.items():
            seen = scan(subject, text, dense)
            sums, counts = seen.by_sequence(seen.loss)
            low, high = interval(sums, counts)
            loss = float(sums.sum() / counts.sum())
            n = int(counts.sum())
            values[column("perplexity", name, data)] = Value(
                float(np.exp(loss)),
                *("1", n, "tokens"),
                low=None if low is None else float(np.exp(low)),
                high=None if high is None else float(np.exp(high)),
                better="lower",
                mean=Mean(name, "loss", "tokens", exp=True),
            )
            values[column("loss", name, data)] = Value(
                loss, "nats", n, "tokens", low, high, mean=Mean(name, "loss", "tokens")
            )
            examples[name] = [
                {"sequence": i, "tokens": int(count), "loss": total / count}
                for i, (total, count) in enumerate(zip(sums, counts, strict=True))
            ]
        return Result(
            values=values,
            columns=tuple(column("perplexity", name, data) for name in data),
            data=[text.record() for text in data.values()],
            examples=examples,
        )
