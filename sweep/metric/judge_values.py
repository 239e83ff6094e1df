"""From a judge's scores to the numbers of a result: means, and how far the judge is to be trusted.

The noise of a question is the standard deviation of its scores over the repeats (of these very
repeats, so divided by their number); it differs if not all of them are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from sweep.metric.judge_prompt import HIGHEST, LOWEST, Criterion
from sweep.metric.metric import Value
from sweep.numerics.bootstrap import Ends, interval

GRADES, SHARE = (float(LOWEST), float(HIGHEST)), (0.0, 1.0)
"""Scales: few questions say little of those that they are not, which may be at either end."""


def summary(
    rows: Sequence[Sequence[Mapping[str, int] | None]], criteria: Sequence[Criterion]
) -> dict[str, Value]:
    """Means over questions, each the mean over its replies that could be read; and the noise.

    Args:
        rows: per question, the scores of each repeat; None: unparsable.
        criteria: in what order the scores are.
    """
    nothing = [float("nan")] * len(criteria)
    grades: Float[ndarray, "question repeat criterion"] = np.array(
        [[nothing if s is None else [s[name] for name in criteria] for s in row] for row in rows],
        dtype=float,
    )
    values: dict[str, Value] = {}
    own: Float[ndarray, "question repeat"]
    for name, own in (
        ("judge", grades.mean(2)),
        *((name, grades[:, :, i]) for i, name in enumerate(criteria)),
    ):
        counts = (~np.isnan(own)).sum(1)
        if counts.any():
            values[name] = _mean(np.nanmean(own[counts > 0], 1), "points", GRADES)
        if (counts > 1).any():
            several = own[counts > 1]
            values[f"{name}_noise"] = _mean(np.nanstd(several, 1), "points")
            differs = np.nanmax(several, 1) > np.nanmin(several, 1)
            values[f"{name}_differs"] = _mean(differs.astype(float), "1", SHARE)
    lost = np.isnan(grades[:, :, 0])
    counts = np.full(len(lost), float(lost.shape[1]))
    bounds = interval(lost.sum(1).astype(float), counts, SHARE)
    values["judge_unparsable"] = Value(float(lost.mean()), "1", lost.size, "replies", *bounds)
    return values


def columns_of(values: Mapping[str, Value]) -> list[str]:
    """The mean, its noise next to it, and the share that is in neither, if there is one."""
    shown = [name for name in ("judge", "judge_noise") if name in values]
    return shown + (["judge_unparsable"] if values["judge_unparsable"].value else [])


def _mean(numbers: Float[ndarray, " question"], unit: str, scale: Ends | None = None) -> Value:
    bounds = interval(numbers, np.ones(len(numbers)), scale)
    return Value(float(numbers.mean()), unit, len(numbers), "questions", *bounds)
