"""Held-out instructions as questions to a model, and its greedy answers: what some metrics share.

Metrics that ask a cell the same questions share one set of answers, generated once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from sweep.data.row import Contents, Instruction
from sweep.data.source import Origin, Source
from sweep.data.template import (
    Template,
    Templates,
    check_template,
    prompt,
    template_of,
    tokenizing,
)
from sweep.metric.generate import Answer, generate
from sweep.metric.metric import Examples
from sweep.metric.subject import Subject
from sweep.metric.text import check_end, instructions, teacher_forced
from sweep.refusal import Refusal


@dataclass(frozen=True)
class Questions:
    """Held-out instructions of one corpus, as prompts.

    Attributes:
        rows: the instructions with their gold answers.
        prompts: what the model is given.
        origin: where the rows are from.
        longest: longest prompt plus the length limit of an answer, in tokens.
        template: by which the instructions became prompts.
        max_new_tokens: length limit of an answer.
        stop: strings that end an answer.
        left_out: instructions that are not here because their prompts are too long.
        unanswered: those that were passed over because nobody has answered them.
    """

    rows: tuple[Instruction, ...]
    prompts: tuple[str, ...]
    origin: Origin
    longest: int
    template: Template
    max_new_tokens: int
    stop: tuple[str, ...]
    left_out: int
    unanswered: int

    @cached_property
    def contents(self) -> Contents:
        """Of the rows."""
        return Contents.of(self.rows)

    @property
    def digests(self) -> frozenset[str]:
        """Content hashes of the rows."""
        return self.contents.rows

    @property
    def settings(self) -> str:
        """What else an answer depends on."""
        return f"max_new_tokens={self.max_new_tokens} stop={list(self.stop)}"

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

    def record(self) -> dict[str, Any]:
        """What a result says of the data."""
        return {
            "corpus": self.origin.corpus,
            "source": self.origin.source,
            "location": self.origin.location,
            "revision": self.origin.revision,
            "sha256": self.key,
            "rows": len(self.rows),
            "left_out": self.left_out,
            "unanswered": self.unanswered,
            "template": self.template,
            "max_new_tokens": self.max_new_tokens,
            "stop": list(self.stop),
            "decoding": "greedy",
        }


def check_room(seqlen: int | None, max_new_tokens: int, stop: Sequence[str]) -> None:
    """Raises: Refusal: an answer that leaves no room for its prompt, or that cannot begin."""
    if "" in stop:
        raise Refusal("stop", list(stop), "an empty string would end every answer")
    if seqlen is not None and max_new_tokens >= seqlen:
        reason = f"leaves no room for a prompt within seqlen={seqlen}; lower it"
        raise Refusal("max_new_tokens", max_new_tokens, reason)


def read_questions(
    sources: Mapping[str, Source],
    tokenizer: Any,
    *,
    n_samples: int | None,
    seqlen: int | None,
    template: Templates,
    max_new_tokens: int,
    stop: tuple[str, ...],
) -> dict[str, Questions]:
    """The questions of corpora, by name.

    Args:
        sources: corpora of instructions.
        tokenizer: the model's.
        n_samples: at most so many of each; None: all.
        seqlen: at most so many tokens in prompt and answer together; longer prompts are left out.
        template: how an instruction becomes a prompt; one, or one for each corpus.
        max_new_tokens: length limit of an answer.
        stop: strings that end an answer.

    Raises:
        Refusal: a corpus has none.
    """

    def read(source: Source, template: Template) -> Questions:
        check_template(template, tokenizer)
        check_end(source, n_samples)
        rows, unanswered = instructions(source, n_samples)
        room = None if seqlen is None else seqlen - max_new_tokens
        prompts = [prompt(row, template, tokenizer) for row in rows]
        lengths = [len(ids) for ids in tokenizer(prompts, **tokenizing(template))["input_ids"]]
        kept = [i for i, length in enumerate(lengths) if room is None or length <= room]
        if not kept:
            reason = f"every prompt is longer than {room} tokens; raise it"
            raise Refusal("seqlen", seqlen, reason)
        return Questions(
            rows=tuple(rows[i] for i in kept),
            prompts=tuple(prompts[i] for i in kept),
            origin=source.origin(),
            longest=max(lengths[i] for i in kept) + max_new_tokens,
            template=template,
            max_new_tokens=max_new_tokens,
            stop=stop,
            left_out=len(rows) - len(kept),
            unanswered=unanswered,
        )

    return {name: read(source, template_of(template, name)) for name, source in sources.items()}


def prepare_answers(dense: Subject, data: Mapping[str, Questions], kept: Examples) -> None:
    """The dense model's answers, taken from what is kept where that is of these questions."""
    for name, questions in data.items():
        rows = kept.get(name, ())
        asked = [(row["prompt"], row["gold"], row.get("settings")) for row in rows]
        if asked == questions.asked:
            said = [Answer(row["tokens"], row["answer"], row["full"]) for row in rows]
            dense.once("answers", questions.key, partial(list, said))
        answers(dense, questions)


def answers(
    subject: Subject, questions: Questions, dense: Sequence[Answer] | None = None
) -> list[Answer]:
    """The subject's greedy answers, generated the first time only.

    Args:
        subject: who is asked.
        questions: what.
        dense: the dense model's answers, of which a compressed model gives many; the dense model
            itself gives many of the gold ones. They change how soon its own are there, not what
            they are.
    """
    tokenizer = subject.tokenizer

    def drafts() -> list[list[int]]:
        if dense is not None:
            end = [tokenizer.eos_token_id]
            return [said.tokens if said.full else said.tokens + end for said in dense]
        gold = teacher_forced(questions.rows, tokenizer, questions.template)
        return [whole[start:] for start, whole in gold]

    return subject.once(
        "answers",
        questions.key,
        lambda: generate(
            subject,
            questions.prompts,
            max_new_tokens=questions.max_new_tokens,
            stop=questions.stop,
            name=f"{questions.origin.corpus} answers",
            options=tokenizing(questions.template),
            drafts=drafts(),
        ),
    )
