"""Values of lm-evaluation-harness with intervals, and what changed against the dense model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import exp, isclose, log
from typing import Any, Literal

import numpy as np

from sweep.metric.lm_eval_rows import corpus_of
from sweep.metric.metric import Examples, Mean, Value
from sweep.numerics.bootstrap import interval


def values(found: Mapping[str, Any], examples: Examples) -> Iterator[tuple[str, Value]]:
    """The values of every task and group, as the harness has them."""
    for of in ("results", "groups"):
        for name, result in found.get(of, {}).items():
            for key, number in result.items():
                metric, _, filter = key.partition(",")
                if not filter or metric.endswith("_stderr") or not _is_number(number):
                    continue
                corpus = corpus_of(name, filter)
                if of == "groups" or corpus in examples:
                    better = found["higher_is_better"].get(name, {}).get(metric)
                    rows = examples.get(corpus, ()) if of == "results" else ()
                    size = found["n-samples"].get(name, {}).get("effective")
                    size = size or result.get("sample_len", 0)
                    yield f"{metric}_{corpus}", _value(corpus, metric, number, rows, better, size)


def _value(
    corpus: str,
    metric: str,
    number: float,
    rows: Sequence[Mapping[str, Any]],
    better: bool | None,
    size: int,
) -> Value:
    """A value; with an interval where it is known how it comes from its rows."""
    way: Literal["higher", "lower"] | None = None
    if better is not None:
        way = "higher" if better else "lower"
    scores = [row[metric] for row in rows]
    low, high = _bounds(scores, number) if scores else (None, None)
    plain = bool(scores) and all(map(_is_number, scores)) and isclose(_mean(scores), number)
    mean = Mean(corpus, metric) if plain else None
    return Value(float(number), "1", size, "examples", low, high, better=way, mean=mean)


def _bounds(scores: Sequence[Any], number: float) -> tuple[float, float] | tuple[None, None]:
    """The interval of a mean, of a perplexity or of bits per byte; which of them, the rows say.

    Args:
        scores: of each row: a number, or a log-likelihood with the words or bytes it is of.
        number: what the harness makes of them.
    """
    if all(map(_is_number, scores)):
        sums, counts = np.asarray(scores, dtype=float), np.ones(len(scores))
    elif all(isinstance(s, list) and len(s) == 2 and all(map(_is_number, s)) for s in scores):
        sums, counts = np.asarray(scores, dtype=float).T
    else:
        return None, None
    ratio = sums.sum() / counts.sum()
    if counts.max() == 1 and isclose(ratio, number):
        scored = (sums >= 0).all() and (sums <= 1).all()
        return interval(sums, counts, (0.0, 1.0) if scored else None)
    low, high = interval(sums, counts)
    if low is None or high is None:
        return None, None
    if ratio > -700 and isclose(exp(-ratio), number):
        return exp(-high), exp(-low)
    if isclose(-ratio / log(2), number):
        return -high / log(2), -low / log(2)
    return None, None


def changes(name: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Value]]:
    """Of each score that is right or wrong: how many answers changed sides against dense."""
    for metric in (key[len("dense_") :] for key in rows[0] if key.startswith("dense_")):
        if metric == "right":  # is one of the others again
            continue
        pairs = [(row[metric], row[f"dense_{metric}"]) for row in rows]
        if not all(score in (0, 1) for pair in pairs for score in pair if _is_number(score)):
            continue
        if not all(_is_number(score) for pair in pairs for score in pair):
            continue
        sides = {
            "flips": [now != then for now, then in pairs],
            "right_to_wrong": [then > now for now, then in pairs],
            "wrong_to_right": [now > then for now, then in pairs],
        }
        for what, changed in sides.items():
            share = np.asarray(changed, dtype=float)
            bounds = interval(share, np.ones(len(share)), (0.0, 1.0))
            value = Value(float(share.mean()), "1", len(share), "examples", *bounds)
            yield f"{what}_{metric}_{name}", value


def _mean(scores: Sequence[float]) -> float:
    return sum(scores) / len(scores)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)
