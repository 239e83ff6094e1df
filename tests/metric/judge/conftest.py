"""The judge's metric, and an endpoint for it on this machine."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from sweep.metric import judge_endpoint, questions
from sweep.metric.generate import Answer
from sweep.metric.judge import Judge
from sweep.metric.metric import Result
from tests.judged import EXERCISES, KEY, SAID
from tests.loopback_judge import LoopbackJudge


@pytest.fixture(autouse=True)
def key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def endpoint() -> Iterator[LoopbackJudge]:
    with LoopbackJudge().listening() as judge:
        yield judge


@pytest.fixture
def judge(endpoint: LoopbackJudge, rows: Any) -> Callable[..., Judge]:
    """The metric, asking the endpoint one question at a time and with one retry."""

    def judge(exercises: Any = EXERCISES, **changes: Any) -> Judge:
        plain = {"base_url": endpoint.address, "model": "judge", "retries": 1, "parallel": 1}
        return Judge({"a": rows(exercises)}, **(plain | changes))

    return judge


@pytest.fixture
def measure(subject: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """What the metric finds of a model that says `SAID`; the dense one says "dense"."""

    def measure(metric: Judge, answers: Sequence[str] = SAID, progress: Any = None) -> Result:
        def generate(subject: Any, prompts: Sequence[str], **_: Any) -> list[Answer]:
            texts = ["dense"] * len(prompts) if subject.memo["is", "dense"] else answers
            return [Answer([i], text, False) for i, text in enumerate(texts)]

        monkeypatch.setattr(questions, "generate", generate)
        dense, asked = subject(None, dense=True), subject(None)
        asked.progress = progress or asked.progress
        data = metric.load(asked.tokenizer)
        metric.prepare(dense, data, {})
        return metric.measure(asked, dense, data)

    return measure


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    log = logging.getLogger("sweep")
    before = log.level
    log.addHandler(caplog.handler)
    log.setLevel(logging.INFO)
    yield caplog
    log.removeHandler(caplog.handler)
    log.setLevel(before)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that were to be slept for, which pass at once."""
    found: list[float] = []
    monkeypatch.setattr(judge_endpoint.time, "sleep", found.append)
    return found
