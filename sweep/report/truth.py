"""Does a metric tell the truth? Whether it ranks a sweep's cells as their answers do.

Over the compressed cells of a model, the rank correlation of every distribution metric
(perplexity, JSD, KL, agreement: rows without answers) with every task metric (EM, F1, ROUGE-1, a
judge). Both are turned so that more is better: 1 means that the metric orders the cells as the task
does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sweep.numerics.bootstrap import tails
from sweep.numerics.ranks import Correlation, correlation, kendall, spearman
from sweep.report.entries import Entry, model_names

FEW = 5
"""Cells below which nothing is said, and no interval is shown."""

ENOUGH = 20
"""Cells below which an interval is said to be rough: few cells have few different draws."""


@dataclass(frozen=True)
class Link:
    """Two figures over the same cells.

    Attributes:
        model: whose cells.
        metric, task: names of the values.
        cells: over how many.
        spearman, kendall: None where one of the two does not vary.
        over: names of these cells; only figures over the same ones are compared.
    """

    model: str
    metric: str
    task: str
    cells: int
    spearman: Correlation | None
    kendall: Correlation | None
    over: tuple[str, ...] = ()


def links(entries: Sequence[Entry]) -> list[Link]:
    """Every distribution metric with every task metric, model by model.

    With each task, over the cells that have it and all distribution metrics: what is compared is
    over the same cells. Where these are few (sweeps that have measured other things), each metric
    is taken over the cells that have it.
    """
    found: list[Link] = []
    names = model_names(entries)
    for weights, model in names.items():
        own = [e for e in entries if e.about["weights"] == weights and e.about["compresses"]]
        metrics = dict.fromkeys(n for e in own for n in _ranking(e, answers=False))
        tasks = dict.fromkeys(n for e in own for n in _ranking(e, answers=True))
        for task in tasks:
            asked = [e for e in own if task in e.values]
            common = [e for e in asked if metrics.keys() <= e.values.keys()]
            for metric in metrics:
                alone = [e for e in asked if metric in e.values]
                both = alone if len(common) < FEW else common
                if len(both) < 2:
                    continue
                x, y = (np.array([_goodness(e, name) for e in both]) for name in (metric, task))
                rho, tau = (correlation(x, y, kind) for kind in (spearman, kendall))
                over = tuple(e.name for e in both)
                found.append(Link(model, metric, task, len(both), rho, tau, over))
    return found


def sentences(found: Sequence[Link]) -> list[str]:
    """What the numbers allow one to say, and what not."""
    if not found:
        return [
            "Nothing can be said: no compressed cells with both a distribution metric and a task."
        ]
    said: list[str] = []
    for model in dict.fromkeys(link.model for link in found):
        own = [link for link in found if link.model == model]
        for task, over in dict.fromkeys((link.task, link.over) for link in own):
            alike = [one for one in own if (one.task, one.over) == (task, over)]
            said.append(f"{model}: " + _of_task(task, alike))
        cells = max(link.cells for link in own)
        if FEW <= cells < ENOUGH:
            said.append(
                f"{model}: {cells} cells are few. An interval from so few is rough, and too short "
                f"where they happen to agree; {ENOUGH} or more say something."
            )
        said.append(
            f"{model}: the cells of a sweep are no random sample of compressed models: what holds "
            "for these methods, sparsities and calibration sets need not hold for others."
        )
    return said


def _of_task(task: str, own: Sequence[Link]) -> str:
    """The metrics that rank the cells as a task does, the best first, and which are worse."""
    cells = own[0].cells
    if cells < FEW:
        return (
            f"{cells} compressed cells are too few to say what ranks them as {task} does; at least "
            f"{FEW} are needed."
        )
    varying = [link for link in own if link.spearman is not None]
    if not varying:
        return f"{task} is the same in all cells, so nothing can rank them as it does."
    ordered = sorted(varying, key=lambda link: -_value(link))
    best = ordered[0]
    if best.spearman is not None and best.spearman.low <= 0:
        return (
            f"no metric can be said to rank the {cells} cells as {task} does; the nearest is "
            f"{best.metric} ({_said(best)})."
        )
    text = f"{best.metric} ranks the {cells} cells most like {task} does ({_said(best)})"
    worse: list[str] = []
    level: list[str] = []
    for link in ordered[1:]:
        difference = _difference(best, link)
        if difference is not None and difference[0] > 0:
            low, high = difference
            worse.append(f"{link.metric} ({_said(link)}; less by {low:.2f} to {high:.2f})")
        else:
            level.append(f"{link.metric} ({_value(link):.2f})")
    if worse:
        # the best was picked by the same numbers, and no interval is widened for how many there are
        text += f"; worse, each compared by itself and not corrected for that: {', '.join(worse)}"
    if level:
        text += f"; not to be told apart from it: {', '.join(level)}"
    return text + "."


def _difference(one: Link, other: Link) -> tuple[float, float] | None:
    """The interval of the difference of two coefficients over the same cells."""
    if one.spearman is None or other.spearman is None:
        return None
    draws = one.spearman.draws - other.spearman.draws
    return tails(draws[np.isfinite(draws)])


def _said(link: Link) -> str:
    assert link.spearman is not None
    return f"Spearman {link.spearman.value:.2f} [{link.spearman.low:.2f}, {link.spearman.high:.2f}]"


def _value(link: Link) -> float:
    return 0.0 if link.spearman is None else link.spearman.value


def _ranking(entry: Entry, *, answers: bool) -> list[str]:
    """Values by which one may rank, of metrics that keep answers or of those that do not."""
    return [
        name
        for name, value in entry.values.items()
        if value.get("better")
        and ("generations" in entry.results[value["metric"]]["rows"].values()) == answers
    ]


def _goodness(entry: Entry, name: str) -> float:
    value = entry.values[name]
    return float(-value["value"] if value["better"] == "lower" else value["value"])
