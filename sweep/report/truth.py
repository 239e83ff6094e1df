"""Does a metric tell the truth? Whether it ranks a sweep's cells as their answers do.

Over the compressed cells of a model, the rank correlation of every distribution metric
(perplexity, JSD, KL, agreement: rows without answers) with every task metric (EM, F1, ROUGE-1, a
judge). Both are turned so that more is better: 1 means that the metric orders the cells as the task
does.

Cells that differ in nothing but the seed are no independent witnesses: what is resampled are
configurations. That one metric is better than another is said only where it holds with all pairs of
metrics and all tasks compared at once (`sweep.numerics.ranks.apart`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from sweep.numerics.bootstrap import LEVEL
from sweep.numerics.ranks import Correlation, apart, correlation, kendall, spearman
from sweep.report.entries import Entry, model_names

FEW = 6
"""Configurations below which nothing is said, and no interval is shown: of five, no order that two
figures share is rare enough (1 in 5! = 120, and a dozen pairs of figures are looked at)."""

ENOUGH = 20
"""Configurations below which an interval is said to be rough: few have few different draws."""


@dataclass(frozen=True)
class Link:
    """Two figures over the same cells.

    Attributes:
        model: whose cells.
        metric, task: names of the values.
        cells: over how many.
        configurations: how many of them differ in more than the seed.
        spearman, kendall: None where one of the two does not vary.
        over: names of these cells; only figures over the same ones are compared.
        text: what the metric was measured on: `alpaca responses`.
    """

    model: str
    metric: str
    task: str
    cells: int
    configurations: int
    spearman: Correlation | None
    kendall: Correlation | None
    over: tuple[str, ...] = ()
    text: str = ""


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
                both = alone if len(set(_configurations(common))) < FEW else common
                if len(both) < 2:
                    continue
                x, y = (np.array([_goodness(e, name) for e in both]) for name in (metric, task))
                groups = _configurations(both)
                numbers = np.array(groups)
                rho, tau = (correlation(x, y, kind, numbers) for kind in (spearman, kendall))
                over = tuple(e.name for e in both)
                several = len(set(groups))
                found.append(
                    Link(
                        *(model, metric, task, len(both), several, rho, tau, over),
                        _text(both[0], metric),
                    )
                )
    return found


def _text(entry: Entry, name: str) -> str:
    """What a value was measured on."""
    corpus = entry.corpus(name)
    data = entry.results[entry.values[name]["metric"]]["data"]
    scored = next((one.get("scored", "") for one in data if one["corpus"] == corpus), "")
    return f"{corpus} {scored}".strip()


def _configurations(entries: Sequence[Entry]) -> list[int]:
    """Of each cell the number of its configuration: of everything but the seed."""
    numbers: dict[str, int] = {}
    told = ("weights", "method", "sparsity", "calib")
    keys = [repr([[e.about[n] for n in told], sorted(e.settings.items())]) for e in entries]
    return [numbers.setdefault(key, len(numbers)) for key in keys]


def sentences(found: Sequence[Link]) -> list[str]:
    """What the numbers allow one to say, and what not."""
    if not found:
        return [
            "Nothing can be said: no compressed cells with both a distribution metric and a task."
        ]
    said: list[str] = []
    for model in dict.fromkeys(link.model for link in found):
        own = [link for link in found if link.model == model]
        less, ranking = _less(own), _ranking_at_all(own)
        for task, over in dict.fromkeys((link.task, link.over) for link in own):
            alike = [one for one in own if (one.task, one.over) == (task, over)]
            said.append(f"{model}: " + _of_task(task, alike, less, ranking))
        if len(less) > 1:
            said.append(
                f"{model}: every p is of Spearman's rho, corrected for all {len(less)} comparisons "
                f"of two metrics on a task of this model; only what is below "
                f"{1 - LEVEL:.2f} is called worse."
            )
        configurations = max(link.configurations for link in own)
        if FEW <= configurations < ENOUGH:
            said.append(
                f"{model}: {configurations} configurations are few. An interval from so few is "
                f"rough, and too short where they happen to agree; {ENOUGH} or more say something."
            )
        said.append(
            f"{model}: the cells of a sweep are no random sample of compressed models: what holds "
            "for these methods, sparsities and calibration sets need not hold for others."
        )
    return said


def _less(own: Sequence[Link]) -> dict[frozenset[int], float]:
    """The corrected p-value of every two figures that were taken over the same cells, by `id`."""
    alike: dict[tuple[str, tuple[str, ...]], list[Link]] = {}
    for link in own:
        if link.spearman is not None and link.configurations >= FEW:
            alike.setdefault((link.task, link.over), []).append(link)
    pairs = [pair for links in alike.values() for pair in combinations(links, 2)]
    found = apart([(a.spearman, b.spearman) for a, b in pairs if a.spearman and b.spearman])
    return {frozenset(map(id, pair)): p for pair, p in zip(pairs, found, strict=True)}


def _ranking_at_all(own: Sequence[Link]) -> set[int]:
    """The figures that go with their task better than by chance, all looked at at once; by `id`."""
    told = [link for link in own if link.configurations >= FEW and link.spearman is not None]
    found = apart([(link.spearman, None) for link in told if link.spearman])
    return {id(link) for link, p in zip(told, found, strict=True) if p < 1 - LEVEL}


def _of_task(
    task: str, own: Sequence[Link], less: dict[frozenset[int], float], ranking: set[int]
) -> str:
    """The metrics that rank the cells as a task does, the best first, and which are worse."""
    if own[0].configurations < FEW:
        return (
            f"{_over(own[0])} are too few to say what ranks them as {task} does; at least {FEW} "
            "configurations are needed."
        )
    varying = [link for link in own if link.spearman is not None]
    if not varying:
        return f"{task} is the same in all cells, so nothing can rank them as it does."
    ordered = sorted(varying, key=lambda link: -_value(link))
    best = ordered[0]
    if id(best) not in ranking or _value(best) <= 0:
        return (
            f"no metric can be said to rank {_over(best)} as {task} does; the nearest is "
            f"{best.metric} ({_said(best)})."
        )
    text = f"{best.metric} ranks {_over(best)} most like {task} does ({_said(best)})"
    worse: list[str] = []
    level: list[str] = []
    for link in ordered[1:]:
        p = less[frozenset((id(best), id(link)))]
        if p < 1 - LEVEL:
            chance = f"p = {p:.3f}" if p else "p < 0.001"
            worse.append(f"{link.metric} ({_said(link)}; {chance})")
        else:
            level.append(f"{link.metric} ({_bare(link)})")
    if worse:
        text += f"; worse: {', '.join(worse)}"
    if level:
        text += f"; not to be told apart from it (Spearman, Kendall): {', '.join(level)}"
    return text + "."


def _over(link: Link) -> str:
    """How many cells, and of how many configurations, if that is something else."""
    cells = f"{link.cells} compressed cells"
    several = link.configurations < link.cells
    return f"{cells} ({link.configurations} configurations)" if several else cells


def _said(link: Link) -> str:
    """Both coefficients; an interval without width would say that all is known, and is none."""
    said = []
    for name, found in (("Spearman", link.spearman), ("Kendall", link.kendall)):
        if found is not None:
            ends = f"[{found.low:.2f}, {found.high:.2f}]"
            ends = ends if found.high > found.low else "in every draw"
            said.append(f"{name} {found.value:.2f} {ends}")
    return ", ".join(said)


def _bare(link: Link) -> str:
    """Both coefficients, without intervals."""
    tau = "" if link.kendall is None else f", {link.kendall.value:.2f}"
    return f"{_value(link):.2f}{tau}"


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
