"""Nothing is paid twice, and no more than is allowed; what is said of it before."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from sweep.data.row import Instruction
from sweep.files import Kept
from sweep.metric.judge_prompt import CRITERIA
from sweep.refusal import Interrupted, Refusal
from tests.judged import EXERCISES, SAID, values
from tests.loopback_judge import LoopbackJudge, body, completion, grades, says


def test_nothing_is_asked_twice(endpoint: LoopbackJudge, judge: Any, measure: Any) -> None:
    first = measure(judge(repeats=2))
    assert len(endpoint.asked) == 6
    assert first.data[0]["calls"] == 6
    again = measure(judge(repeats=2, parallel=3, price_in=1.0, price_out=1.0))
    assert len(endpoint.asked) == 6
    assert again.values == first.values
    assert again.examples == first.examples
    assert again.data[0]["calls"] == 0
    assert (again.data[0]["tokens_in"], again.data[0]["tokens_out"]) == (0, 0)
    kept = again.data[0]["kept"]  # paid for before, and said apart
    assert (kept["replies"], kept["tokens_in"], kept["tokens_out"]) == (6, 1800, 240)
    measure(judge(repeats=3), [*SAID[:2], "two one"])  # another answer, and one more repeat
    assert len(endpoint.asked) == 6 + 2 + 3


def test_equal_answers_to_equal_questions_are_one_question(
    endpoint: LoopbackJudge, judge: Any, measure: Any
) -> None:
    found = measure(judge([EXERCISES[0]] * 3, parallel=3), ["Paris"] * 3)
    assert len(endpoint.asked) == 1
    assert found.values["judge"].n == 3


@pytest.mark.parametrize(
    "change",
    [{"model": "other"}, {"temperature": 0.2}, {"max_reply_tokens": 9}, {"criteria": ("fluency",)}],
)
def test_whatever_changes_a_reply_is_another_question(
    change: dict[str, Any], endpoint: LoopbackJudge, judge: Any, measure: Any
) -> None:
    measure(judge())
    measure(judge(**change))
    assert len(endpoint.asked) == 6


def test_a_reply_that_was_damaged_on_disk_is_asked_for_again(
    endpoint: LoopbackJudge, judge: Any, measure: Any, tmp_path: Path
) -> None:
    measure(judge())
    damaged, *_ = (tmp_path / "cache" / "judge").glob("*.json")
    damaged.write_text('{"reply": ')
    assert values(measure(judge()))["judge"] == 8
    assert len(endpoint.asked) == 4


@pytest.mark.parametrize(
    ("reply", "asked"),
    [
        (says("No."), 3),
        (says(None), 3),
        (says("x" * 3000), 3),
        (body(completion("", choices=[])), 6),
    ],
    ids=["text", "null", "long", "no choices"],
)
def test_a_reply_is_kept_and_a_completion_without_one_is_not(
    reply: Any, asked: int, endpoint: LoopbackJudge, judge: Any, measure: Any
) -> None:
    endpoint.usual = reply
    assert [values(measure(judge()))["judge_unparsable"] for _ in range(2)] == [1, 1]
    assert len(endpoint.asked) == asked


def test_a_stop_keeps_what_is_under_way(endpoint: LoopbackJudge, judge: Any, measure: Any) -> None:
    endpoint.thinks = 0.1

    def stops(items: Any, what: str, total: int) -> Iterator[Any]:
        yield next(items)
        raise Interrupted("stopped as asked")

    many = [Instruction(f"Say {i}.", "", f"{i}") for i in range(20)]
    said = [str(i) for i in range(20)]
    with pytest.raises(Interrupted):
        measure(judge(many, parallel=3), said, progress=stops)
    before = len(endpoint.asked)
    assert 1 <= before < 20
    found = measure(judge(many, parallel=3), said)
    assert len(endpoint.asked) == 20
    assert found.data[0]["calls"] == 20 - before


def test_so_many_are_asked_at_a_time_as_is_said(
    endpoint: LoopbackJudge, judge: Any, measure: Any
) -> None:
    endpoint.thinks = 0.1
    many = [Instruction(f"Say {i}.", "", f"{i}") for i in range(12)]
    measure(judge(many, parallel=3), [str(i) for i in range(12)])
    assert endpoint.most == 3


ONCE = """
import sys, time
from sweep.files import Kept
def compute():
    with open(sys.argv[2], "a") as file: file.write("paid\\n")
    time.sleep(0.5)
    return {"reply": "x"}
assert Kept(sys.argv[1]).once("judge", "abcd", compute, lasts=bool) == {"reply": "x"}
"""


def test_two_processes_that_want_the_same_at_once_pay_once(tmp_path: Path) -> None:
    words = [sys.executable, "-c", ONCE, str(tmp_path), str(tmp_path / "paid")]
    both = [subprocess.Popen(words) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert (tmp_path / "paid").read_text() == "paid\n"
    assert Kept(tmp_path).recall("judge", "abcd") == {"reply": "x"}


def test_the_estimate_comes_before_the_first_call(
    endpoint: LoopbackJudge, judge: Any, measure: Any, logged: Any
) -> None:
    endpoint.usual = body(b"{}", 400)
    with pytest.raises(Refusal):
        measure(judge(price_in=1000.0, price_out=2000.0))
    request = endpoint.asked[0]
    letters = sum(len(said["content"]) for said in request["messages"])
    line = next(line for line in logged.messages if "3 calls (0 replies are there" in line)
    tokens = int(line.split("about ")[1].split()[0])
    assert tokens == pytest.approx(3 * letters / 4, rel=0.02)
    assert "and 120 out" in line
    assert f"cost about {(tokens * 1000 + 120 * 2000) / 1e6:.2f}" in line


def test_a_result_says_what_it_cost(judge: Any, measure: Any) -> None:
    (record,) = measure(judge(price_in=2.0, price_out=10.0)).data
    assert record["judged_by"] == ["judge-2026"]
    assert (record["replies"], record["calls"], record["retries"]) == (3, 3, 0)
    assert (record["tokens_in"], record["tokens_out"]) == (900, 120)
    assert record["cost"] == pytest.approx((900 * 2 + 120 * 10) / 1e6)
    assert record["rows"] == 3
    assert measure(judge(price_in=2.0)).data[0]["cost"] is None


def test_every_criterion_can_be_compared_row_by_row(judge: Any, measure: Any) -> None:
    found = measure(judge(repeats=2))
    for name in ("judge", *CRITERIA):
        value = found.values[name]
        assert (value.better, value.mean.field) == ("higher", name)
        rows = [row[name] for row in found.examples[value.mean.corpus] if row[name] is not None]
        assert value.value == pytest.approx(fmean(rows))


def test_a_sweep_that_needs_more_calls_than_allowed_is_refused_at_once(
    endpoint: LoopbackJudge, judge: Any, tokenizer: Any, tmp_path: Path
) -> None:
    allowed = judge(repeats=2, max_calls=12, price_in=1.0, price_out=2.0)
    cell = (allowed.load(tokenizer), {})
    forecast = allowed.forecast([cell, cell], Kept(tmp_path), runs_here=False)
    said = re.search(r"up to 12 calls, about (\d+) tokens in and (\d+) out", forecast)
    assert said is not None
    tokens_in, tokens_out = map(int, said.groups())
    spent = judge(repeats=2)._estimate(12, tokens_in)
    assert f"about {tokens_in} tokens in and {tokens_out} out, cost unknown" in spent
    assert f"cost about {(tokens_in + 2 * tokens_out) / 1e6:.2f}" in forecast
    reason = r"max_calls=11: 12 calls may be needed \(2 cells, 6 answers, repeats=2\); raise it"
    with pytest.raises(Refusal, match=reason):
        judge(repeats=2, max_calls=11).forecast([cell, cell], Kept(tmp_path), runs_here=False)
    assert endpoint.asked == []


def test_what_is_there_already_counts_neither_in_the_cap_nor_in_the_estimate(
    endpoint: LoopbackJudge, judge: Any, measure: Any, tokenizer: Any, tmp_path: Path
) -> None:
    measure(judge())  # of every answer the first repeat
    price = {"repeats": 2, "price_in": 1e6, "price_out": 0.0}
    data = judge().load(tokenizer)
    known = dict(zip(data["a"].asked, SAID, strict=True))
    found = judge(max_calls=3, **price).forecast([(data, known)], Kept(tmp_path), runs_here=False)
    assert "up to 3 calls (3 replies are there already), about " in found
    tokens = sum(len(said["content"]) for r in endpoint.asked for said in r["messages"]) // 4
    assert f"about {tokens} tokens in and 120 out, cost about {tokens}.00" in found
    # two cells with the same answers pay once; of one whose answers nobody knows all are counted
    twice = judge(max_calls=3, **price).forecast(
        [(data, known)] * 2, Kept(tmp_path), runs_here=False
    )
    assert twice == found
    counted = (
        r"9 calls may be needed \(2 cells, 6 answers, repeats=2, 3 replies are there already\)"
    )
    with pytest.raises(Refusal, match=counted):
        judge(max_calls=3, **price).forecast(
            [(data, known), (data, {})], Kept(tmp_path), runs_here=False
        )


def test_as_many_calls_are_made_as_may_be_retries_included_and_nothing_is_lost(
    endpoint: LoopbackJudge, judge: Any, measure: Any, subject: Any, tmp_path: Path
) -> None:
    capped = judge(max_calls=3, retries=5)
    busy = body(b"{}", 429, Retry_After="0.01")
    endpoint.script.extend([grades(), busy, grades()])
    line = (
        r"max_calls=3: so many calls have been made, retries included; the same command asks only"
    )
    with pytest.raises(Refusal, match=line) as refused:
        measure(capped)
    assert len(endpoint.asked) == 3
    assert "\n" not in str(refused.value)
    assert len(list((tmp_path / "cache" / "judge").glob("*.json"))) == 2
    again = measure(capped)  # as another process: the rest, and no more
    assert len(endpoint.asked) == 4
    assert (again.data[0]["calls"], again.data[0]["kept"]["replies"]) == (1, 2)


def test_a_retry_is_not_made_beyond_the_cap(
    endpoint: LoopbackJudge, judge: Any, measure: Any
) -> None:
    endpoint.usual = body(b"{}", 500)
    with pytest.raises(Refusal, match="max_calls=2: so many calls have been made"):
        measure(judge(max_calls=2, retries=9))
    assert len(endpoint.asked) == 2


def test_threads_together_keep_to_the_cap(
    endpoint: LoopbackJudge, judge: Any, measure: Any, tmp_path: Path
) -> None:
    many = [Instruction(f"Say {i}.", "", f"{i}") for i in range(20)]
    with pytest.raises(Refusal, match="max_calls=7"):
        measure(judge(many, parallel=5, max_calls=7), [str(i) for i in range(20)])
    assert len(endpoint.asked) == 7
    assert len(list((tmp_path / "cache" / "judge").glob("*.json"))) == 7
