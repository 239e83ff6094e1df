"""What the dense and the compressed model answer to the same prompt, where they disagree most."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sweep.report.entries import Entry

LONGEST = 1500
"""Letters of a prompt or an answer that are shown; the files have all."""


FLIPS = {1: "wrong to right", -1: "right to wrong"}
"""By what exact match became less what it was."""


@dataclass(frozen=True)
class Exchange:
    """One question and the two answers.

    Attributes:
        cell: its name.
        metric, corpus, line: where the question is from: the corpus's file of the metric, and the
            line in it, from 1.
        prompt, gold, dense, compressed: texts, cut to `LONGEST`.
        scores: of the compressed answer, then of the dense one if it is there, by name.
        flip: `right to wrong`, `wrong to right`, or '' where exact match is the same.
        disagreement: share of the words that the two answers do not have in common, 0 to 1.
    """

    cell: str
    metric: str
    corpus: str
    line: int
    prompt: str
    gold: str
    dense: str
    compressed: str
    scores: Mapping[str, tuple[float, float | None]]
    flip: str
    disagreement: float


def exchanges(entries: Sequence[Entry], most: int) -> tuple[list[Exchange], int, int]:
    """Of every cell its answers that are furthest from the dense model's, and of its flips of
    either kind those; how many answers there are, and how many flips.

    Args:
        entries: the cells.
        most: of each cell and kind.
    """
    shown: list[Exchange] = []
    total = flips = 0
    for entry in entries:
        if not entry.about["compresses"]:
            continue
        own = _of(entry)
        total += len(own)
        flips += sum(bool(one.flip) for one in own)
        kept: dict[int, Exchange] = {}
        for flip in (None, *FLIPS.values()):
            kind = [one for one in own if flip in (None, one.flip)]
            furthest = heapq.nlargest(most, kind, key=lambda one: (one.disagreement, one.flip))
            kept |= {id(one): one for one in furthest}
        shown += kept.values()
    shown.sort(key=lambda one: (-one.disagreement, not one.flip, one.cell, one.prompt))
    return shown, total, flips


def _of(entry: Entry) -> list[Exchange]:
    """Every question of a cell, once with the same two answers: then with the scores of all metrics
    that have asked it. What was answered otherwise, at another length say, has its own."""
    found: dict[tuple[str, ...], Exchange] = {}
    for metric, rows in entry.answers():
        for corpus, examples in rows.items():
            for line, row in enumerate(examples, start=1):
                if "dense_answer" not in row:
                    continue
                one = _exchange(entry, metric, corpus, line, row)
                said = (str(row[name]) for name in ("prompt", "gold", "dense_answer", "answer"))
                key = (corpus, *said)
                before = found.get(key)
                if before is None:
                    found[key] = one
                else:
                    flip = before.flip or one.flip
                    found[key] = replace(before, scores={**before.scores, **one.scores}, flip=flip)
    return list(found.values())


def _exchange(
    entry: Entry, metric: str, corpus: str, line: int, row: Mapping[str, Any]
) -> Exchange:
    scores: dict[str, tuple[float, float | None]] = {
        name: (float(row[name]), float(row[f"dense_{name}"]))
        for name in row
        if name != "right" and f"dense_{name}" in row and isinstance(row[name], int | float)
    }
    if row.get("judge") is not None:
        scores["judge"] = (float(row["judge"]), None)
    right = next((name for name in ("em", "right") if f"dense_{name}" in row), None)
    change = 0 if right is None else round(row[right] - row[f"dense_{right}"])
    prompt, gold, dense, compressed = (
        _cut(str(row[name])) for name in ("prompt", "gold", "dense_answer", "answer")
    )
    return Exchange(
        cell=entry.name,
        metric=metric,
        corpus=corpus,
        line=line,
        prompt=prompt,
        gold=gold,
        dense=dense,
        compressed=compressed,
        scores=scores,
        flip=FLIPS.get(change, ""),
        disagreement=_apart(str(row["dense_answer"]), str(row["answer"])),
    )


def _apart(one: str, other: str) -> float:
    """One less the share of words in common (Dice's coefficient of the two multisets)."""
    a, b = Counter(one.split()), Counter(other.split())
    size = a.total() + b.total()
    return 1 - 2 * (a & b).total() / size if size else 0.0


def _cut(said: str) -> str:
    return said if len(said) <= LONGEST else f"{said[:LONGEST]} … ({len(said)} letters)"
