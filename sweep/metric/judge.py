"""Answers graded by another model: accuracy, completeness, relevance, coherence, fluency, 1 to 10.

Single answer, reference-based, parsed strictly: a reply that is not what was asked for is counted
and never averaged in. Judges are noisy, so every answer can be judged several times, and the noise
stands next to the mean. A reply has its price, so it is kept at once and never asked for again:
neither by another cell with the same answer, nor after a stop or a failure.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain
from statistics import fmean
from typing import Annotated, Any, ClassVar, NamedTuple, final

from pydantic import Field

from sweep.data.row import Instruction
from sweep.data.source import Origin, Source
from sweep.data.template import Templates
from sweep.metric.generate import Answer
from sweep.metric.judge_address import check_address, is_near
from sweep.metric.judge_endpoint import KEPT, Unreached, ask, connected, look, one_line
from sweep.metric.judge_prompt import CRITERIA, Criterion, messages, scores
from sweep.metric.judge_values import columns_of, summary
from sweep.metric.metric import Examples, Known, Mean, Metric, Result, Value, column
from sweep.metric.parallel import in_parallel
from sweep.metric.questions import (
    Questions,
    answers,
    check_room,
    prepare_answers,
    read_questions,
)
from sweep.metric.subject import Memory, Subject
from sweep.refusal import Refusal

KIND = "judge"
"""Of what is kept in the memory."""

CHARACTERS_PER_TOKEN = 4
TOKENS_PER_SCORE = 8
"""For the estimate; what was really used is in the result."""

LOOK = 10.0
"""Seconds in which an endpoint must let itself be reached while a sweep is planned."""

log = logging.getLogger("sweep")

Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


@final
@dataclass(frozen=True)
class Judge(Metric[Questions]):
    """A judge's scores of greedy answers to held-out instructions.

    Attributes:
        source, n_samples, seqlen, template, max_new_tokens, stop: the questions; as for tasks.
        base_url: of an OpenAI-compatible endpoint, up to /chat/completions.
        model: the judge, as the endpoint calls it.
        criteria: what is graded.
        repeats: how often each answer is judged.
        temperature: of the judge.
        max_reply_tokens: length limit of its reply.
        parallel: requests at a time.
        timeout_s: seconds after which a request is given up: without a sign of the endpoint, and
            after its first one without the whole reply.
        retries: of one request.
        max_wait_s: seconds that the endpoint may ask for before each of them; if it asks for more,
            the cell fails.
        max_calls: a sweep that may need more is refused before anything runs, and a process that
            has made so many, retries included, makes no more.
        price_in, price_out: of a million tokens, in any currency; None: not known, which only an
            endpoint of this machine or of a private network may leave so.
    """

    source: dict[str, Source]
    base_url: str
    model: Annotated[str, Field(min_length=1)]
    n_samples: Count | None = None
    seqlen: Annotated[int, Field(ge=2)] | None = None
    template: Templates = "alpaca"
    max_new_tokens: Count = 128
    stop: tuple[str, ...] = ()
    criteria: tuple[Criterion, ...] = CRITERIA
    repeats: Count = 1
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.1
    max_reply_tokens: Count = 128
    parallel: Annotated[int, Field(ge=1, le=256)] = 4
    timeout_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 60.0
    retries: Annotated[int, Field(ge=0)] = 5
    max_wait_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 600.0
    max_calls: Count = 1000
    price_in: Number | None = None
    price_out: Number | None = None

    incidental: ClassVar[frozenset[str]] = frozenset(
        {"parallel", "timeout_s", "retries", "max_wait_s", "max_calls", "price_in", "price_out"}
    )

    def __post_init__(self) -> None:
        """Raises: Refusal: an address that is none, criteria that are none; see `check_room`."""
        check_room(self.seqlen, self.max_new_tokens, self.stop)
        check_address(self.base_url)
        if not self.criteria or len(set(self.criteria)) < len(self.criteria):
            reason = f"must be some of {', '.join(CRITERIA)}, each once"
            raise Refusal("criteria", list(self.criteria), reason)

    def origins(self) -> tuple[Origin, ...]:
        """See `Metric`."""
        return tuple(source.origin() for source in self.source.values())

    def load(self, tokenizer: Any) -> Mapping[str, Questions]:
        """See `Metric`; the package and the key are checked, too."""
        with connected(self.base_url, timeout_s=self.timeout_s):
            pass
        return read_questions(
            self.source,
            tokenizer,
            n_samples=self.n_samples,
            seqlen=self.seqlen,
            template=self.template,
            max_new_tokens=self.max_new_tokens,
            stop=self.stop,
        )

    def forecast(
        self,
        cells: Sequence[tuple[Mapping[str, Questions], Known]],
        memory: Memory,
        *,
        runs_here: bool,
    ) -> str:
        """See `Charged`: no more calls than that, but for retries, and at no unknown price.

        What a cell will answer is known where another metric has kept its answers; a reply to that
        which is there already costs nothing. Where it is not known yet, every question counts.
        """
        calls = letters = 0
        there: dict[str, bool] = {}
        for request, known in chain.from_iterable(self._expected(*cell) for cell in cells):
            if known and request.key in there:
                continue  # equal answers to equal questions are paid for once
            if known:
                there[request.key] = memory.recall(KIND, request.key) is not None
            if not known or not there[request.key]:
                calls += 1
                letters += _letters(request.body["messages"])
        kept = sum(there.values())
        if calls > self.max_calls:
            questions = sum(len(found.rows) for data, _ in cells for found in data.values())
            count = f"{_count(len(cells), 'cell')}, {_count(questions, 'answer')}"
            already = f", {kept} replies are there already" if kept else ""
            reason = f"{calls} calls may be needed ({count}, repeats={self.repeats}{already})"
            raise Refusal("max_calls", self.max_calls, f"{reason}; raise it, or lower n_samples")
        said = self._estimate(calls, letters // CHARACTERS_PER_TOKEN)
        if calls:
            self._check_price(f"up to {calls} calls, {said}")
            if runs_here:
                with connected(self.base_url, timeout_s=min(self.timeout_s, LOOK)) as client:
                    look(client)
        already = f" ({kept} replies are there already)" if kept else ""
        return f"{self.model} at {self.base_url}: up to {calls} calls{already}, {said}"

    def _check_price(self, said: str) -> None:
        """Raises: Refusal: a stranger's endpoint, and nobody has said what it takes for a token."""
        prices = {"price_in": self.price_in, "price_out": self.price_out}
        unknown = [name for name, price in prices.items() if price is None]
        if unknown and not is_near(self.base_url):
            reason = f"{self.model} at {self.base_url} may take money for {said}; give"
            reason += f" {' and '.join(unknown)}, of a million tokens (0 where nobody pays)"
            raise Refusal(unknown[0], None, reason)

    def _expected(
        self, data: Mapping[str, Questions], known: Known
    ) -> Iterator[tuple[Request, bool]]:
        """What a cell will ask, and whether that is known; an answer that is not is taken to be as
        long as the gold one."""
        longest = self.max_new_tokens * CHARACTERS_PER_TOKEN
        for questions in data.values():
            for row, asked in zip(questions.rows, questions.asked, strict=True):
                answer = known.get(asked, row.output[:longest])
                for repeat in range(self.repeats):
                    yield self._request(row, answer, repeat), asked in known

    def prepare(self, dense: Subject, data: Mapping[str, Questions], kept: Examples) -> None:
        """See `prepare_answers`."""
        prepare_answers(dense, data, kept)

    def measure(self, subject: Subject, dense: Subject, data: Mapping[str, Questions]) -> Result:
        """See `Metric`; the columns are `judge`, its noise if repeated, and the unparsable share.

        Raises:
            Refusal: the endpoint does not answer, or refuses, or as many calls were made as may be.
                What it has answered is kept. Who could not be reached is not asked again.
        """
        before = {name: answers(dense, questions) for name, questions in data.items()}
        said = {name: answers(subject, own, before[name]) for name, own in data.items()}
        asked = {
            name: [
                [self._request(row, answer.text, repeat) for repeat in range(self.repeats)]
                for row, answer in zip(questions.rows, said[name], strict=True)
            ]
            for name, questions in data.items()
        }
        given, paid = self._replies(subject, [r for rows in asked.values() for r in chain(*rows)])
        values: dict[str, Value] = {}
        columns: list[str] = []
        records: list[Mapping[str, Any]] = []
        examples: dict[str, list[dict[str, Any]]] = {}
        for name, questions in data.items():
            replies = [[given[request.key] for request in row] for row in asked[name]]
            examples[name] = [
                self._example(*row, settings=questions.settings)
                for row in zip(
                    questions.rows,
                    questions.prompts,
                    said[name],
                    before[name],
                    replies,
                    strict=True,
                )
            ]
            found = summary([row["scores"] for row in examples[name]], self.criteria)
            for score in {"judge", *self.criteria} & found.keys():
                found[score] = replace(found[score], better="higher", mean=Mean(name, score))
            values |= {column(key, name, data): value for key, value in found.items()}
            columns += [column(key, name, data) for key in columns_of(found)]
            keys = {request.key for request in chain(*asked[name])}
            spent = self._spent(
                [given[key] for key in keys & paid], [given[key] for key in keys - paid]
            )
            records.append({**questions.record(), **spent})
            self._warn(name, [*chain(*replies)])
        return Result(values, tuple(columns), records, examples)

    def _request(self, row: Instruction, answer: str, repeat: int) -> Request:
        """What is sent, and its key: of everything on which the reply depends."""
        body = {
            "model": self.model,
            "messages": messages(row, answer, self.criteria),
            "temperature": self.temperature,
            "max_tokens": self.max_reply_tokens,
        }
        whole = json.dumps([self.base_url.rstrip("/"), body, repeat], sort_keys=True)
        return Request(hashlib.sha256(whole.encode()).hexdigest(), body)

    def _replies(
        self, subject: Subject, requests: Sequence[Request]
    ) -> tuple[dict[str, dict[str, Any]], set[str]]:
        """Every reply by the key of its request, and the keys of those that were asked for now."""
        given: dict[str, dict[str, Any]] = {}
        missing: dict[str, Request] = {}
        for request in requests:
            kept = subject.memory.recall(KIND, request.key)
            if kept is None:
                missing[request.key] = request
            else:
                given[request.key] = kept
        away = subject.memory.unreached.get(self.base_url)
        if missing and away is not None:
            raise away
        self._announce(list(missing.values()), len(given))
        if not missing:
            return given, set()
        paid: set[str] = set()

        def count(more: int) -> None:
            if not subject.memory.spend(KIND, more, self.max_calls):
                reason = f"so many calls have been made, retries included; {KEPT}, or raise it"
                raise Refusal("max_calls", self.max_calls, reason)

        with connected(self.base_url, timeout_s=self.timeout_s, count=count) as client:

            def reply(request: Request) -> tuple[str, dict[str, Any]]:
                def pay() -> dict[str, Any]:
                    paid.add(request.key)
                    return ask(
                        client,
                        request.body,
                        retries=self.retries,
                        max_wait_s=self.max_wait_s,
                        count=count,
                    )

                found = subject.memory.once(KIND, request.key, pay, lasts=_completed)
                return request.key, found

            # closed before the client is: what is under way is paid for, and is to be kept
            try:
                with closing(in_parallel(reply, missing.values(), self.parallel)) as replies:
                    given |= dict(subject.progress(replies, "judge's replies", len(missing)))
            except Unreached as refusal:
                subject.memory.unreached[self.base_url] = refusal
                raise
        return given, paid

    def _announce(self, missing: Sequence[Request], kept: int) -> None:
        """What is going to be asked, before it is."""
        letters = sum(_letters(request.body["messages"]) for request in missing)
        said = self._estimate(len(missing), letters // CHARACTERS_PER_TOKEN)
        log.info("  judge: %d calls (%d replies are there already), %s", len(missing), kept, said)

    def _estimate(self, calls: int, tokens_in: int) -> str:
        tokens_out = calls * TOKENS_PER_SCORE * len(self.criteria)
        cost = self._cost(tokens_in, tokens_out)
        price = "cost unknown" if cost is None else f"cost about {cost:.2f}"
        return f"about {tokens_in} tokens in and {tokens_out} out, {price}"

    def _cost(self, tokens_in: int, tokens_out: int) -> float | None:
        if self.price_in is None or self.price_out is None:
            return None
        return (tokens_in * self.price_in + tokens_out * self.price_out) / 1e6

    def _spent(
        self, paid: Sequence[Mapping[str, Any]], kept: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        """What a corpus's replies were made by, and cost: those asked for now; apart, those
        that were there already, paid for before."""
        replies = [*paid, *kept]
        tokens = [
            [sum(reply[name] for reply in some) for name in ("tokens_in", "tokens_out")]
            for some in (paid, kept)
        ]
        return {
            "judged_by": sorted({reply["model"] for reply in replies if reply["model"]}),
            "replies": len(replies),
            "calls": len(paid),
            "retries": sum(reply["retries"] for reply in paid),
            "tokens_in": tokens[0][0],
            "tokens_out": tokens[0][1],
            "cost": self._cost(*tokens[0]),
            "kept": {
                "replies": len(kept),
                "tokens_in": tokens[1][0],
                "tokens_out": tokens[1][1],
                "cost": self._cost(*tokens[1]),
            },
        }

    def _warn(self, corpus: str, replies: Sequence[Mapping[str, Any]]) -> None:
        """Say how many replies could not be read, what one of them was, and what may help."""
        lost = [reply for reply in replies if scores(reply["reply"], self.criteria) is None]
        if not lost:
            return
        said = one_line(_said(lost[0]), 100) or "nothing was said"
        text = "  judge: %d of %d replies on %s are not the scores that were asked for: %s"
        log.warning(text, len(lost), len(replies), corpus, said)
        # replies that were kept by earlier versions do not tell
        if cut := sum(reply.get("cut", False) for reply in lost):
            text = "  judge: %d of them were cut at max_reply_tokens=%d, which counts what a judge"
            log.warning(f"{text} thinks, too; raise it", cut, self.max_reply_tokens)

    def _example(
        self,
        row: Instruction,
        asked: str,
        said: Answer,
        before: Answer,
        replies: Sequence[Mapping[str, Any]],
        *,
        settings: str,
    ) -> dict[str, Any]:
        """One answer with all that was said of it; `scores` has a None for an unparsable reply."""
        found = [scores(reply["reply"], self.criteria) for reply in replies]
        read = [grades for grades in found if grades is not None]
        return {
            "prompt": asked,
            "gold": row.output,
            "answer": said.text,
            "dense_answer": before.text,
            "judge": fmean(fmean(grades.values()) for grades in read) if read else None,
            **{c: fmean(grades[c] for grades in read) if read else None for c in self.criteria},
            "scores": found,
            "replies": [_said(reply) for reply in replies],
            "kind": row.kind,
            "family": row.family,
            "full": said.full,
            "settings": settings,
            "tokens": said.tokens,
        }


class Request(NamedTuple):
    """One question to the judge.

    Attributes:
        key: of its reply in the memory.
        body: what is sent.
    """

    key: str
    body: dict[str, Any]


def _letters(said: Sequence[Mapping[str, str]]) -> int:
    return sum(len(message["content"]) for message in said)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _said(reply: Mapping[str, Any]) -> str:
    """What came, whether or not it is a reply."""
    return str(reply.get("instead", reply["reply"]))


def _completed(reply: Mapping[str, Any]) -> bool:
    """Whether there is a message in it; where there is none, there may be one tomorrow."""
    return bool(reply["completed"])
