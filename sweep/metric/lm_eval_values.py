"""Values of lm-evaluation-harness with intervals, and what changed against the dense model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from sweep.metric.lm_eval_rows import corpus_of
from sweep.metric.lm_eval_tasks import Task, pools
from sweep.metric.metric import Examples, Mean, Value
from sweep.numerics.bootstrap import bounded, interval, resampled, spread, weighed

Bounds = tuple[float, float] | tuple[None, None]

MEANS = ("mean", "nanmean")
"""The harness's names of means; of the latter it is one where all rows have a number."""


@dataclass(frozen=True)
class Score:
    """A number that the harness has found, and what it is made of.

    Attributes:
        corpus: of the task, or the group.
        metric: the harness's.
        number: what it has found.
        size: over how many questions.
        better: whether more is better; None: nobody says.
        aggregation: what makes it of the rows; None: it is not known.
        rows: those that make it; of a group there are some only where all count alike.
        pooled: whether they are those of several tasks.
    """

    corpus: str
    metric: str
    number: float
    size: int
    better: bool | None
    aggregation: str | None
    rows: Sequence[Mapping[str, Any]]
    pooled: bool

    @property
    def name(self) -> str:
        """Of its value."""
        return f"{self.metric}_{self.corpus}"

    def value(self) -> Value:
        """With an interval, where it is known how it comes from its rows."""
        way: Literal["higher", "lower"] | None = None
        if self.better is not None:
            way = "higher" if self.better else "lower"
        scored = [row[self.metric] for row in self.rows]
        low, high = _bounds(scored, self.aggregation)
        plain = self.aggregation in MEANS and all(map(_is_number, scored))
        mean = Mean(self.corpus, self.metric) if plain and scored and not self.pooled else None
        of = (float(self.number), "1", self.size, "examples")
        return Value(*of, low, high, better=way, mean=mean)

    def changes(self) -> Iterator[tuple[str, Value]]:
        """Where it is of right and wrong: how many answers changed sides against dense."""
        pairs = [(row[self.metric], row[f"dense_{self.metric}"]) for row in self.rows]
        if not pairs or not all(score in (0, 1) for pair in pairs for score in pair):
            return
        sides = {
            "flips": [now != then for now, then in pairs],
            "right_to_wrong": [then > now for now, then in pairs],
            "wrong_to_right": [now > then for now, then in pairs],
        }
        for what, changed in sides.items():
            share = np.asarray(changed, dtype=float)
            bounds = interval(share, np.ones(len(share)), (0.0, 1.0))
            value = Value(float(share.mean()), "1", len(share), "examples", *bounds)
            yield f"{what}_{self.name}", value


def scores(
    found: Mapping[str, Any], examples: Examples, tasks: Mapping[str, Task]
) -> Iterator[Score]:
    """What the harness has found for every task and group.

    Args:
        found: see `sweep.metric.harness`.
        examples: rows, with the dense model's scores, by corpus.
        tasks: by name.
    """
    together = pools(tasks)
    for name, result in found["results"].items():
        for key, number in result.items():
            metric, _, filter = key.partition(",")
            if not filter or metric.endswith("_stderr") or not _is_number(number):
                continue
            members = together.get((name, metric), [name] if name in tasks else [])
            rows = [
                row
                for member in members
                for row in examples.get(corpus_of(member, filter), ())
                if metric in row
            ]
            yield Score(
                corpus_of(name, filter),
                metric,
                number,
                result.get("sample_count", {}).get(key, result["sample_len"]),
                found["higher_is_better"].get(name, {}).get(metric),
                tasks[members[0]].aggregation(metric) if members else None,
                rows,
                pooled=name not in tasks,
            )


def _bounds(scored: Sequence[Any], aggregation: str | None) -> Bounds:
    """The interval of what an aggregation makes of rows; none where that is not known.

    Args:
        scored: of each row a number or a pair of them, as the aggregation takes it.
        aggregation: the harness's name of it.
    """
    rows = [score if isinstance(score, list) else [score] for score in scored]
    made = BOUNDS.get(aggregation or "")
    if not rows or made is None or not all(_is_number(number) for row in rows for number in row):
        return None, None
    return made(*np.asarray(rows, dtype=float).T)


def _of_a_mean(scored: Float[ndarray, " row"]) -> Bounds:
    within = (scored >= 0).all() and (scored <= 1).all()
    return interval(scored, np.ones(len(scored)), (0.0, 1.0) if within else None)


def _of_a_perplexity(
    logs: Float[ndarray, " row"], counts: Float[ndarray, " row"] | None = None
) -> Bounds:
    """Of log-likelihoods, with the words or bytes that each is of; None: each counts once."""
    low, high = interval(logs, np.ones(len(logs)) if counts is None else counts)
    if low is None or high is None or low < -700:  # of which `exp` has no number
        return None, None
    return exp(-high), exp(-low)


def _of_bits(logs: Float[ndarray, " row"], counts: Float[ndarray, " row"]) -> Bounds:
    low, high = interval(logs, counts)
    if low is None or high is None:
        return None, None
    return -high / log(2), -low / log(2)


def _of_f1(gold: Float[ndarray, " row"], said: Float[ndarray, " row"]) -> Bounds:
    """F1 is 2s / (1 + s) of a share: of the rows that either calls positive, those that both do."""
    some = gold + said > 0
    if not (_are_binary(gold, said) and some.any()):
        return None, None
    both = (gold * said)[some]
    low, high = bounded(weighed(both, np.ones(len(both))), len(both), (0.0, 1.0))
    return 2 * low / (1 + low), 2 * high / (1 + high)


def _of_matthews(gold: Float[ndarray, " row"], said: Float[ndarray, " row"]) -> Bounds:
    """Matthews' coefficient is the correlation of two classes; where one alone is there, 0."""
    if not _are_binary(gold, said):
        return None, None
    ones = np.ones(len(gold))
    both, a, b = (resampled(column, ones) for column in (gold * said, gold, said))
    scale = np.sqrt(a * (1 - a) * b * (1 - b))
    found = np.divide(both - a * b, scale, out=np.zeros_like(scale), where=scale > 0)
    return spread(found) or (None, None)


BOUNDS: Mapping[str, Callable[..., Bounds]] = {
    **dict.fromkeys(MEANS, _of_a_mean),
    "perplexity": _of_a_perplexity,
    "weighted_perplexity": _of_a_perplexity,
    "bits_per_byte": _of_bits,
    "f1": _of_f1,
    "matthews_corrcoef": _of_matthews,
}
"""By the harness's name of an aggregation: the interval of what it makes of rows."""


def _are_binary(*columns: Float[ndarray, " row"]) -> bool:
    return bool(np.isin(columns, (0, 1)).all())


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)
