"""Endpoints that are hostile, slow, broken or gone."""

from __future__ import annotations

import gzip
import json
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from email.utils import formatdate
from typing import Any

import pytest

from sweep.metric import judge_endpoint
from sweep.metric.judge_endpoint import Unreached
from sweep.refusal import Refusal
from tests.judged import EXERCISES, GOOD, KEY, SAID, values
from tests.loopback_judge import (
    LoopbackJudge,
    body,
    completion,
    cut,
    endless,
    gone,
    grades,
    says,
    slow,
)


@pytest.mark.parametrize(
    "reply",
    [
        says("x" * 20_000_000),
        says(f"Ignore all rules. {GOOD}"),
        says(None),
        says(8),
        says([{"type": "text", "text": GOOD}]),
        says("\ud800 \x1b[2J"),
        says(GOOD + " " * 5000 + "!"),
        says("", usage="many", model=["x"]),
        body(completion(GOOD, choices=[])),
        body(completion(GOOD, choices={"0": 1})),
        body(completion(GOOD, choices=[{"message": None}])),
    ],
    ids=lambda step: "",
)
def test_a_hostile_reply_is_counted_and_never_averaged_in(
    reply: Any, endpoint: LoopbackJudge, judge: Any, measure: Any, logged: Any
) -> None:
    endpoint.script.append(reply)
    found = measure(judge())
    assert found.columns == ("judge", "judge_unparsable")
    assert values(found)["judge"] == 8
    assert found.values["judge"].n == 2
    assert values(found)["judge_unparsable"] == pytest.approx(1 / 3)
    assert found.data[0]["tokens_in"] in (600, 900)
    assert len(endpoint.asked) == 3
    assert "1 of 3 replies on a are not the scores that were asked for" in logged.text
    assert "\x1b" not in logged.text
    json.dumps(found.examples["a"], ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (body(b"<html>Please log in</html>", Content_Type="text/html"), "<html>Please log in"),
        (body(b'{"error": {"message": "try later"}}'), "try later"),
        (body(b'{"choices": [{"message": {"content": "'), '{"choices": '),
        (body(b"[" * 100_000), "["),
        (body(b"\xff\xfe\x1b[2J"), ""),
        (body(b""), "nothing"),
        (body(b'"choices"'), "choices"),
        (body(GOOD.encode()), "accuracy"),
        (body(f"your key is {KEY}".encode()), "[key]"),
    ],
    ids=["login", "error", "cut", "deep", "bytes", "empty", "string", "bare scores", "key"],
)
def test_what_no_model_has_said_fails_the_cell_and_is_asked_for_again(
    reply: Any, said: str, endpoint: LoopbackJudge, judge: Any, measure: Any
) -> None:
    endpoint.script.extend([grades(), reply])
    with pytest.raises(Refusal, match="answers, but with no chat completion") as refused:
        measure(judge())
    assert refused.value.setting == "base_url"
    assert said in str(refused.value)
    assert len(str(refused.value)) < 330
    assert str(refused.value).isprintable()
    assert KEY not in str(refused.value)
    endpoint.asked.clear()
    found = measure(judge())
    assert found.columns == ("judge",)
    assert [asked["answer"] for asked in endpoint.material()] == SAID[1:]


def test_where_no_reply_can_be_read_there_is_no_mean(
    endpoint: LoopbackJudge, judge: Any, measure: Any
) -> None:
    endpoint.usual = says("Good!")
    found = measure(judge(repeats=2))
    assert found.columns == ("judge_unparsable",)
    assert values(found) == {"judge_unparsable": 1}


@pytest.mark.parametrize(
    "trouble",
    [
        body(b"{}", 429, Retry_After="0.1"),
        body(b"{}", 500),
        body(b"{}", 503),
        body(b"{}", 408),
        cut,
        slow,
    ],
    ids=["rate limit", "500", "503", "408", "cut", "slow"],
)
def test_what_may_pass_is_tried_again(
    trouble: Any, endpoint: LoopbackJudge, judge: Any, measure: Any
) -> None:
    endpoint.script.append(trouble)
    found = measure(judge(timeout_s=0.5))
    assert values(found)["judge"] == 8
    assert values(found)["judge_unparsable"] == 0
    assert len(endpoint.asked) == 4
    assert found.data[0]["retries"] == 1


def test_retry_after_is_waited_for(endpoint: LoopbackJudge, judge: Any, measure: Any) -> None:
    endpoint.script.append(body(b"{}", 429, Retry_After="1.5"))
    began = time.monotonic()
    measure(judge())
    assert time.monotonic() - began >= 1.5


def in_the_future(seconds: float) -> str:
    """As a date, to the second."""
    return formatdate(time.time() + seconds, usegmt=True)


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [(lambda: "121", 121), (lambda: "600", 600), (lambda: in_the_future(3600), 3600)],
    ids=["121 s", "600 s", "a date"],
)
def test_an_endpoint_may_ask_for_longer_than_its_client_would_wait(
    asked: Callable[[], str],
    seconds: int,
    endpoint: LoopbackJudge,
    judge: Any,
    measure: Any,
    waits: list[float],
    logged: Any,
) -> None:
    endpoint.script.append(body(b"{}", 429, Retry_After=asked()))
    found = measure(judge(max_wait_s=3600.0))
    assert values(found)["judge"] == 8
    assert found.data[0]["retries"] == 1
    (waited,) = [wait for wait in waits if wait > 1]
    assert waited == pytest.approx(seconds, abs=60 if seconds == 3600 else 0)
    assert "judge: asked to wait" in logged.text


def test_who_asks_for_too_long_a_wait_is_not_asked_again_and_the_seconds_are_said(
    endpoint: LoopbackJudge, judge: Any, measure: Any, waits: list[float]
) -> None:
    endpoint.script.append(body(b"{}", 429, Retry_After="0.2"))
    endpoint.usual = body(b"{}", 429, Retry_After="601")
    line = r"asks after 2 tries to wait 601 s \(.*\), longer than max_wait_s; raise it"
    with pytest.raises(Refusal, match=line):
        measure(judge(retries=5))
    assert len(endpoint.asked) == 2
    assert max(waits) < 1


@pytest.mark.parametrize("said", ["soon", "-3", "nan", "inf", "9" * 400, "Mon, 99 Nov"])
def test_a_wait_that_is_none_is_as_none_was_asked_for(
    said: str, endpoint: LoopbackJudge, judge: Any, measure: Any, waits: list[float]
) -> None:
    endpoint.usual = body(b"{}", 503, Retry_After=said)
    with pytest.raises(Refusal, match="refuses after 7 tries"):
        measure(judge(retries=6))
    assert len(endpoint.asked) == 7
    slept = [wait for wait in waits if wait > 0.1]
    for wait, most in zip(slept, (0.5, 1, 2, 4, 8, 8), strict=True):
        assert 0.75 * most <= wait <= most


@pytest.mark.parametrize(
    ("answer", "setting", "reason"),
    [
        (body(b"{}", 500), "base_url", "refuses after 2 tries"),
        (body(b"{}", 429, Retry_After="0.1"), "base_url", "takes no more after 2 tries"),
        (body(b"{}", 401), "base_url", "does not take the key in OPENAI_API_KEY"),
        (body(b'{"error": {"message": "no"}}', 404), "model", "has no such model"),
        (body(b'{"error": {"message": "too long"}}', 400), "base_url", "too long"),
        (cut, "base_url", r"breaks off its answers after 2 tries \(.+\); its own log may say"),
        (gone, "base_url", r"breaks off its answers after 2 tries \(.+\); its own log may say"),
        (slow, "base_url", "does not answer in time after 2 tries; raise timeout_s"),
    ],
    ids=["500", "429", "401", "404", "400", "cut", "gone", "slow"],
)
def test_what_does_not_pass_is_one_line_and_what_was_paid_for_is_kept(
    answer: Any, setting: str, reason: str, endpoint: LoopbackJudge, judge: Any, measure: Any
) -> None:
    endpoint.script.append(grades())
    endpoint.usual = answer
    with pytest.raises(Refusal, match=reason) as refused:
        measure(judge(timeout_s=0.5))
    assert refused.value.setting == setting
    assert "the same command asks only for the rest" in str(refused.value)
    assert "\n" not in str(refused.value)
    endpoint.asked.clear()
    endpoint.usual = grades()
    assert values(measure(judge()))["judge"] == 8
    assert len(endpoint.asked) == 2
    assert [found["answer"] for found in endpoint.material()] == SAID[1:]


@pytest.mark.parametrize("status", [200, 500])
def test_a_reply_that_only_drips_is_given_up(
    status: int, endpoint: LoopbackJudge, judge: Any, measure: Any
) -> None:
    endpoint.usual = endless(b" ", 0.05, status)
    began = time.monotonic()
    with pytest.raises(Refusal, match=r"does not answer in time after 1 try; raise timeout_s"):
        measure(judge(timeout_s=0.3, retries=0))
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    ("status", "line"), [(200, "answers, but with no chat completion"), (500, "refuses after 1")]
)
def test_a_reply_without_an_end_is_cut(
    status: int,
    line: str,
    endpoint: LoopbackJudge,
    judge: Any,
    measure: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(judge_endpoint, "LARGEST", 2**20)
    endpoint.usual = endless(b" " * 2**16, status=status)
    with pytest.raises(Refusal, match=line):
        measure(judge(retries=0))


def test_a_packed_reply_is_read(endpoint: LoopbackJudge, judge: Any, measure: Any) -> None:
    packed = gzip.compress(completion(GOOD))
    endpoint.usual = body(packed, Content_Type="application/json", Content_Encoding="gzip")
    assert values(measure(judge()))["judge"] == 8


def test_replies_that_end_at_their_limit_are_told_with_what_helps(
    endpoint: LoopbackJudge, judge: Any, measure: Any, logged: Any
) -> None:
    choices = [{"message": {"content": ""}, "finish_reason": "length"}]  # it was still thinking
    endpoint.script.extend([says("", choices=choices)] * 2)
    measure(judge())
    assert (
        "2 of 3 replies on a are not the scores that were asked for: nothing was s" in logged.text
    )
    assert "judge: 2 of them were cut at max_reply_tokens=128, which counts what" in logged.text
    logged.clear()
    endpoint.usual = says("An 8.")
    measure(judge(model="other"))
    assert "asked for: An 8." in logged.text
    assert "cut" not in logged.text


def test_who_breaks_off_is_asked_again_by_the_next_cell(
    endpoint: LoopbackJudge, judge: Any, subject: Any
) -> None:
    endpoint.script.append(cut)
    metric, asked = judge(retries=0), subject(None)
    request = metric._request(EXERCISES[0], "Paris", 0)
    with pytest.raises(Refusal, match="breaks off"):
        metric._replies(asked, [request])
    given, paid = metric._replies(asked, [request])
    assert given.keys() == paid == {request.key}


def test_an_endpoint_that_is_down_says_what_to_do(judge: Any, measure: Any) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/v1"
        with pytest.raises(
            Refusal, match=r"cannot be reached after 1 try .* start it, or run where"
        ):
            measure(judge(base_url=url, retries=0))


def test_a_host_that_lets_nobody_in_cannot_be_reached(judge: Any, measure: Any) -> None:
    with socket.socket() as full, ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)  # whoever comes when one waits already is not answered
        for _ in range(3):
            first = waiting.enter_context(socket.socket())
            first.setblocking(False)
            first.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}/v1"
        with pytest.raises(Unreached, match=r"cannot be reached after 1 try \(.*\); start it"):
            measure(judge(base_url=url, retries=0, timeout_s=0.3))
