"""Downstream answers: exact match, F1, ROUGE-1, the signs of collapse, and what changed.

Instruction following on held-out instructions: greedy answers, scored against gold. Against the
dense model: flips (right to wrong plus wrong to right; Dutta et al. 2024, arXiv 2407.09141) and how
soon the compressed model's answer departs from the dense model's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Annotated, Any, final

import numpy as np
from pydantic import Field

from sweep.data.row import Instruction
from sweep.data.source import Origin, Source
from sweep.data.template import Templates
from sweep.metric.answers import exact_match, f1, first_difference, repeats, rouge1
from sweep.metric.generate import Answer
from sweep.metric.metric import Examples, Mean, Metric, Result, Value, column
from sweep.metric.questions import (
    Questions,
    answers,
    check_room,
    prepare_answers,
    read_questions,
)
from sweep.metric.subject import Subject
from sweep.numerics.bootstrap import Ends, interval

SCORES = {"em": exact_match, "f1": f1, "rouge1": rouge1}

SIGNS = {"empty": "empty", "hit_length_limit": "full", "repeated_4gram": "repeats"}
"""Name of a share of collapsed answers, and the field of an answer that says whether it is."""


@final
@dataclass(frozen=True)
class Tasks(Metric[Questions]):
    """Task scores on corpora of instructions.

    Attributes:
        source: the corpora by name.
        n_samples: at most so many examples of each; None: all.
        seqlen: at most so many tokens in prompt and answer together; longer prompts are left out,
            and the result says how many.
        template: how an instruction becomes a prompt; one, or one for each corpus.
        max_new_tokens: length limit of an answer.
        stop: strings that end an answer.
    """

    source: dict[str, Source]
    n_samples: Annotated[int, Field(ge=1)] | None = None
    seqlen: Annotated[int, Field(ge=2)] | None = None
    template: Templates = "alpaca"
    max_new_tokens: Annotated[int, Field(ge=1)] = 128
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """See `check_room`."""
        check_room(self.seqlen, self.max_new_tokens, self.stop)

    def origins(self) -> tuple[Origin, ...]:
        """See `Metric`."""
        return tuple(source.origin() for source in self.source.values())

    def load(self, tokenizer: Any) -> Mapping[str, Questions]:
        """See `Metric`."""
        return read_questions(
            self.source,
            tokenizer,
            n_samples=self.n_samples,
            seqlen=self.seqlen,
            template=self.template,
            max_new_tokens=self.max_new_tokens,
            stop=self.stop,
        )

    def prepare(self, dense: Subject, data: Mapping[str, Questions], kept: Examples) -> None:
        """See `prepare_answers`."""
        prepare_answers(dense, data, kept)

    def measure(self, subject: Subject, dense: Subject, data: Mapping[str, Questions]) -> Result:
        """See `Metric`; the columns are `em`, `f1` and `rouge1`, means over examples."""
        values: dict[str, Value] = {}
        examples: dict[str, Sequence[Mapping[str, Any]]] = {}
        for name, questions in data.items():
            before = answers(dense, questions)
            said = answers(subject, questions, before)
            rows = [
                _example(*row) | {"settings": questions.settings}
                for row in zip(questions.rows, questions.prompts, said, before, strict=True)
            ]
            for key, value in _values(name, rows).items():
                values[column(key, name, data)] = value
            examples[name] = rows
        return Result(
            values=values,
            columns=tuple(column(score, name, data) for name in data for score in SCORES),
            data=[questions.record() for questions in data.values()],
            examples=examples,
        )


def _example(row: Instruction, asked: str, said: Answer, before: Answer) -> dict[str, Any]:
    """Everything about one answer that a reader of the generations wants to see."""
    scores = {name: score(said.text, row.output) for name, score in SCORES.items()}
    dense = {f"dense_{name}": score(before.text, row.output) for name, score in SCORES.items()}
    return {
        "prompt": asked,
        "gold": row.output,
        "answer": said.text,
        "dense_answer": before.text,
        **scores,
        **dense,
        "empty": not said.text,
        "full": said.full,
        "repeats": repeats(said.text),
        "words": len(said.text.split()),
        "gold_words": len(row.output.split()),
        "first_difference": first_difference(said.tokens, before.tokens),
        "kind": row.kind,
        "family": row.family,
        "tokens": said.tokens,
    }


def _values(corpus: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for score in SCORES:
        own = _share([row[score] for row in rows], Mean(corpus, score))
        values[score] = replace(own, better="higher")
    # recall of closed facts and skill on unseen input are two things, reported apart
    for kind in sorted({row["kind"] for row in rows} - {""}):
        of_kind = [row for row in rows if row["kind"] == kind]
        for score in SCORES:
            mean = Mean(corpus, score, where=("kind", kind))
            values[f"{score}_{kind}"] = _share([row[score] for row in of_kind], mean)
    for name, field in SIGNS.items():
        values[name] = _share([row[field] for row in rows], Mean(corpus, field))
    ratios = [row["words"] / row["gold_words"] for row in rows]
    low, high = _bounds(ratios)
    values["length_ratio"] = Value(fmean(ratios), "1", len(ratios), "examples", low, high)
    values["right_to_wrong"] = _share([row["dense_em"] > row["em"] for row in rows])
    values["wrong_to_right"] = _share([row["dense_em"] < row["em"] for row in rows])
    values["flips"] = _share([row["dense_em"] != row["em"] for row in rows])
    departed = [row["first_difference"] for row in rows if row["first_difference"] is not None]
    values["answers_that_differ"] = _share([row["first_difference"] is not None for row in rows])
    if departed:
        values["first_difference"] = Value(
            fmean(departed), "tokens", len(departed), "examples that differ", *_bounds(departed)
        )
    return values


def _share(numbers: Sequence[float | int], mean: Mean | None = None) -> Value:
    """The mean of scores between 0 and 1."""
    low, high = _bounds(numbers, (0.0, 1.0))
    return Value(fmean(numbers), "1", len(numbers), "examples", low, high, mean=mean)


def _bounds(numbers: Sequence[float | int], scale: Ends | None = None) -> Ends | tuple[None, None]:
    return interval(np.asarray(numbers, dtype=float), np.ones(len(numbers)), scale)
