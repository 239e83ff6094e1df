"""Downstream answers: exact match, F1, ROUGE-1, the signs of collapse, and what changed.

Instruction following on held-out instructions: greedy answers, scored against gold. Against the
dense model: flips (right to wrong plus wrong to right; Dutta et al. 2024, arXiv 2407.09141) and how
soon the compressed model's answer departs from the dense model's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from statistics import fmean
from typing import Annotated, Any, final

import numpy as np
from pydantic import Field

from sweep.data.row import Contents, Instruction
from sweep.data.source import Origin, Source
from sweep.data.template import Template, prompt
from sweep.metric.answers import exact_match, f1, first_difference, repeats, rouge1
from sweep.metric.generate import Answer, generate
from sweep.metric.metric import Examples, Metric, Result, Value, column
from sweep.metric.subject import Subject
from sweep.numerics.bootstrap import interval
from sweep.refusal import Refusal

SCORES = {"em": exact_match, "f1": f1, "rouge1": rouge1}


@dataclass(frozen=True)
class Questions:
    """Held-out instructions of one corpus, as prompts.

    Attributes:
        rows: the instructions with their gold answers.
        prompts: what the model is given.
        origin: where the rows are from.
        longest: longest prompt plus the length limit of an answer, in tokens.
        settings: what else an answer depends on.
        left_out: instructions that are not here because their prompts are too long.
    """

    rows: tuple[Instruction, ...]
    prompts: tuple[str, ...]
    origin: Origin
    longest: int
    settings: str
    left_out: int

    @cached_property
    def contents(self) -> Contents:
        """Of the rows."""
        return Contents.of(self.rows)

    @property
    def digests(self) -> frozenset[str]:
        """Content hashes of the rows."""
        return self.contents.rows

    @property
    def asked(self) -> list[tuple[str, str, str]]:
        """Every prompt with its gold answer and the settings."""
        pairs = zip(self.prompts, self.rows, strict=True)
        return [(text, row.output, self.settings) for text, row in pairs]

    @cached_property
    def key(self) -> str:
        """sha256 of everything on which a model's answers depend, the gold answers included."""
        text = "\xff".join((self.settings, *self.prompts, *(row.output for row in self.rows)))
        return hashlib.sha256(text.encode()).hexdigest()


@final
@dataclass(frozen=True)
class Tasks(Metric[Questions]):
    """Task scores on corpora of instructions.

    Attributes:
        source: the corpora by name.
        n_samples: at most so many examples of each; None: all.
        seqlen: at most so many tokens in prompt and answer together; longer prompts are left out,
            and the result says how many.
        template: how an instruction becomes a prompt.
        max_new_tokens: length limit of an answer.
        stop: strings that end an answer.
    """

    source: dict[str, Source]
    n_samples: Annotated[int, Field(ge=1)] | None = None
    seqlen: Annotated[int, Field(ge=2)] | None = None
    template: Template = "alpaca"
    max_new_tokens: Annotated[int, Field(ge=1)] = 128
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises: Refusal: an answer that leaves no room for its prompt, or that cannot begin."""
        if "" in self.stop:
            raise Refusal("stop", list(self.stop), "an empty string would end every answer")
        if self.seqlen is not None and self.max_new_tokens >= self.seqlen:
            reason = f"leaves no room for a prompt within seqlen={self.seqlen}; lower it"
            raise Refusal("max_new_tokens", self.max_new_tokens, reason)

    def origins(self) -> tuple[Origin, ...]:
        """See `Metric`."""
        return tuple(source.origin() for source in self.source.values())

    def load(self, tokenizer: Any) -> Mapping[str, Questions]:
        """See `Metric`."""
        return {name: self._questions(source, tokenizer) for name, source in self.source.items()}

    def prepare(self, dense: Subject, data: Mapping[str, Questions], kept: Examples) -> None:
        """The dense model's answers, taken from what is kept where that is of these questions."""
        for name, questions in data.items():
            rows = kept.get(name, ())
            asked = [(row["prompt"], row["gold"], row.get("settings")) for row in rows]
            if asked == questions.asked:
                said = [Answer(row["tokens"], row["answer"], row["full"]) for row in rows]
                dense.once("answers", questions.key, partial(list, said))
            self._answers(dense, questions)

    def measure(self, subject: Subject, dense: Subject, data: Mapping[str, Questions]) -> Result:
        """See `Metric`; the columns are `em`, `f1` and `rouge1`, means over examples."""
        values: dict[str, Value] = {}
        examples: dict[str, Sequence[Mapping[str, Any]]] = {}
        for name, questions in data.items():
            said, before = self._answers(subject, questions), self._answers(dense, questions)
            rows = [
                _example(*row) | {"settings": questions.settings}
                for row in zip(questions.rows, questions.prompts, said, before, strict=True)
            ]
            for key, value in _values(rows).items():
                values[column(key, name, data)] = value
            examples[name] = rows
        return Result(
            values=values,
            columns=tuple(column(score, name, data) for name in data for score in SCORES),
            data=[self._record(questions) for questions in data.values()],
            examples=examples,
        )

    def _questions(self, source: Source, tokenizer: Any) -> Questions:
        rows: list[Instruction] = []
        for row in islice(source.rows("evaluation", None), self.n_samples):
            if not isinstance(row, Instruction):
                reason = "must hold instructions: fields instruction, input and output"
                raise Refusal("source", source.origin().corpus, reason)
            rows.append(row)
        if not rows:
            raise Refusal("source", source.origin().corpus, "has no row for evaluation")
        room = None if self.seqlen is None else self.seqlen - self.max_new_tokens
        prompts = [prompt(row, self.template) for row in rows]
        lengths = [len(ids) for ids in tokenizer(prompts)["input_ids"]]
        kept = [i for i, length in enumerate(lengths) if room is None or length <= room]
        if not kept:
            reason = f"every prompt is longer than {room} tokens; raise it"
            raise Refusal("seqlen", self.seqlen, reason)
        return Questions(
            rows=tuple(rows[i] for i in kept),
            prompts=tuple(prompts[i] for i in kept),
            origin=source.origin(),
            longest=max(lengths[i] for i in kept) + self.max_new_tokens,
            settings=f"max_new_tokens={self.max_new_tokens} stop={list(self.stop)}",
            left_out=len(rows) - len(kept),
        )

    def _answers(self, subject: Subject, questions: Questions) -> list[Answer]:
        name = f"{questions.origin.corpus} answers"
        return subject.once(
            "answers",
            questions.key,
            lambda: generate(
                subject,
                questions.prompts,
                max_new_tokens=self.max_new_tokens,
                stop=self.stop,
                name=name,
            ),
        )

    def _record(self, questions: Questions) -> dict[str, Any]:
        origin = questions.origin
        return {
            "corpus": origin.corpus,
            "source": origin.source,
            "location": origin.location,
            "revision": origin.revision,
            "sha256": questions.key,
            "rows": len(questions.rows),
            "left_out": questions.left_out,
            "template": self.template,
            "max_new_tokens": self.max_new_tokens,
            "stop": list(self.stop),
            "decoding": "greedy",
        }


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


def _values(rows: Sequence[Mapping[str, Any]]) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for score in SCORES:
        values[score] = _mean([row[score] for row in rows])
    # recall of closed facts and skill on unseen input are two things, reported apart
    for kind in sorted({row["kind"] for row in rows} - {""}):
        of_kind = [row for row in rows if row["kind"] == kind]
        for score in SCORES:
            values[f"{score}_{kind}"] = _mean([row[score] for row in of_kind])
    values["empty"] = _mean([row["empty"] for row in rows])
    values["hit_length_limit"] = _mean([row["full"] for row in rows])
    values["repeated_4gram"] = _mean([row["repeats"] for row in rows])
    ratios = [row["words"] / row["gold_words"] for row in rows if row["gold_words"]]
    if ratios:
        values["length_ratio"] = _mean(ratios)
    values["right_to_wrong"] = _mean([row["dense_em"] > row["em"] for row in rows])
    values["wrong_to_right"] = _mean([row["dense_em"] < row["em"] for row in rows])
    values["flips"] = _mean([row["dense_em"] != row["em"] for row in rows])
    departed = [row["first_difference"] for row in rows if row["first_difference"] is not None]
    values["answers_that_differ"] = _mean([row["first_difference"] is not None for row in rows])
    if departed:
        values["first_difference"] = Value(
            fmean(departed), "tokens", len(departed), "examples that differ", *_bounds(departed)
        )
    return values


def _mean(numbers: Sequence[float | int]) -> Value:
    return Value(fmean(numbers), "1", len(numbers), "examples", *_bounds(numbers))


def _bounds(numbers: Sequence[float | int]) -> tuple[float, float]:
    return interval(np.asarray(numbers, dtype=float), np.ones(len(numbers)))
