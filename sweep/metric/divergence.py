"""How far the compressed model's next-token distributions are from the dense model's.

Jensen-Shannon divergence, both Kullback-Leibler divergences, agreement and the change of the loss,
all from one pass (see sweep/numerics/divergence.py for the formulas). On running text every
next-token position counts; on instructions only those of the gold response and of the EOS after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, final

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from pydantic import Field

from sweep.data.source import Origin, Source
from sweep.data.template import Templates, template_of
from sweep.metric.metric import Examples, Mean, Metric, Result, Value, column
from sweep.metric.scan import Scan, scan
from sweep.metric.subject import Subject
from sweep.metric.text import Scored, asks, responses, text_windows
from sweep.numerics.bootstrap import interval

MEANS = {
    "jsd": "jsd",
    "kl_dense_compressed": "kl_dense_compressed",
    "kl_compressed_dense": "kl_compressed_dense",
    "agreement": "agrees",
    "gold_probability_change": "gold_change",
    "loss_dense": "loss_dense",
    "loss_compressed": "loss_compressed",
}
"""Name of a mean over positions in the result, and the field of `Divergence` that is averaged."""

BETTER: dict[str, Literal["lower", "higher"]] = {
    "jsd": "lower",
    "kl_dense_compressed": "lower",
    "kl_compressed_dense": "lower",
    "agreement": "higher",
}
"""Means by which cells are ranked; the compressed model's perplexity on the same text is one more:
without it a divergence on a task's text would be compared with a perplexity on another text."""

UNITLESS = {"agreement", "gold_probability_change"}
PERCENTILES = (50, 95, 99)


@final
@dataclass(frozen=True)
class DistributionDivergence(Metric[Scored]):
    """Divergence from the dense model's distributions.

    Attributes:
        source: the corpora by name.
        n_samples: at most so many windows, or examples, of each; None: all.
        seqlen: tokens in a window, or at most in an example; None: as a tokenised source has them.
        template: how an instruction becomes a prompt; one, or one for each corpus.
    """

    source: dict[str, Source]
    n_samples: Annotated[int, Field(ge=1)] | None = None
    seqlen: Annotated[int, Field(ge=2)] | None = None
    template: Templates = "alpaca"

    def origins(self) -> tuple[Origin, ...]:
        """See `Metric`."""
        return tuple(source.origin() for source in self.source.values())

    def load(self, tokenizer: Any) -> Mapping[str, Scored]:
        """See `Metric`."""
        return {
            name: responses(
                source,
                tokenizer,
                template_of(self.template, name),
                self.n_samples,
                self.seqlen,
            )
            if asks(source)
            else text_windows(source, tokenizer, self.n_samples, self.seqlen)
            for name, source in self.source.items()
        }

    def prepare(self, dense: Subject, data: Mapping[str, Scored], kept: Examples) -> None:
        """The dense model's last hidden states at the scored positions."""
        for text in data.values():
            dense.remember_hidden(text)

    def measure(self, subject: Subject, dense: Subject, data: Mapping[str, Scored]) -> Result:
        """See `Metric`; the column is `jsd`, the mean over tokens in nats."""
        values: dict[str, Value] = {}
        examples: dict[str, list[dict[str, Any]]] = {}
        for name, text in data.items():
            seen = scan(subject, text, dense)
            for key, value in _values(name, seen).items():
                values[column(key, name, data)] = value
            examples[name] = _by_sequence(seen)
        return Result(
            values=values,
            columns=tuple(column("jsd", name, data) for name in data),
            data=[text.record() for text in data.values()],
            examples=examples,
        )


def _values(corpus: str, seen: Scan) -> dict[str, Value]:
    """Means over tokens and over sequences with intervals, percentiles of the JSD, perplexities."""
    fields = _fields(seen)
    n = len(seen.loss)
    values: dict[str, Value] = {}
    for name, field in MEANS.items():
        sums, counts = seen.by_sequence(fields[field])
        unit = "1" if name in UNITLESS else "nats"
        low, high = interval(sums, counts)
        values[name] = Value(
            *(float(sums.sum() / counts.sum()), unit, n, "tokens"),
            low=low,
            high=high,
            better=BETTER.get(name),
            mean=Mean(corpus, name, "tokens"),
        )
    for name in ("loss_dense", "loss_compressed"):
        loss = values[name]
        values[name.replace("loss", "perplexity")] = Value(
            *(float(np.exp(loss.value)), "1", n, "tokens"),
            low=None if loss.low is None else float(np.exp(loss.low)),
            high=None if loss.high is None else float(np.exp(loss.high)),
            better="lower" if name == "loss_compressed" else None,
            mean=Mean(corpus, name, "tokens", exp=True),
        )
    sums, counts = seen.by_sequence(fields["jsd"])
    means = sums / counts
    values["jsd_sequence_mean"] = Value(
        *(float(means.mean()), "nats", len(means), "sequences"),
        *interval(means, np.ones(len(means))),
    )
    for percent in PERCENTILES:
        found = float(np.percentile(fields["jsd"], percent))
        values[f"jsd_p{percent}"] = Value(found, "nats", n, "tokens")
    values["jsd_max"] = Value(float(fields["jsd"].max()), "nats", n, "tokens")
    return values


def _by_sequence(seen: Scan) -> list[dict[str, Any]]:
    fields = _fields(seen)
    sums = {name: seen.by_sequence(fields[field]) for name, field in MEANS.items()}
    _, counts = sums["jsd"]
    return [
        {"sequence": i, "tokens": int(count)}
        | {name: float(total[i] / count) for name, (total, _) in sums.items()}
        for i, count in enumerate(counts)
    ]


def _fields(seen: Scan) -> dict[str, Float[ndarray, " position"]]:
    if seen.divergence is None:
        raise RuntimeError("the dense model was not prepared for this text")
    return seen.divergence
