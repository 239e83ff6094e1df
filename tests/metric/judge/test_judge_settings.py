"""The two names of the length limit, wrong settings, and the key."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from sweep.cell import make
from sweep.refusal import Refusal
from tests.judged import KEY, no_key_below, values
from tests.loopback_judge import LoopbackJudge, body, grades, says

WANTS_NEWER = {
    "message": "Unsupported parameter: 'max_tokens' is not supported with this model. "
    "Use 'max_completion_tokens' instead.",
    "type": "invalid_request_error",
    "param": "max_tokens",
    "code": "unsupported_parameter",
}
"""As OpenAI's reasoning models answer."""


def test_an_endpoint_that_wants_the_newer_name_of_the_limit_gets_it(
    endpoint: LoopbackJudge, judge: Any, measure: Any, tmp_path: Path
) -> None:
    def only_newer(handler: Any) -> None:
        if "max_tokens" in endpoint.asked[-1]:
            body(json.dumps({"error": WANTS_NEWER}).encode(), 400)(handler)
        else:
            grades()(handler)

    endpoint.usual = only_newer
    assert values(measure(judge(max_calls=3)))["judge"] == 8  # what was refused asked no model
    assert [request.get("max_tokens") for request in endpoint.asked] == [128, None, None, None]
    assert [request.get("max_completion_tokens") for request in endpoint.asked[1:]] == [128] * 3
    for file in (tmp_path / "cache" / "judge").glob("*.json"):
        file.unlink()
    measure(judge())
    assert len(endpoint.asked) == 7  # it is asked once which one it wants


def test_what_was_paid_for_under_one_name_is_not_paid_for_under_the_other(
    endpoint: LoopbackJudge, judge: Any, measure: Any
) -> None:
    measure(judge())
    endpoint.usual = body(json.dumps({"error": WANTS_NEWER}).encode(), 400)
    assert measure(judge()).data[0]["calls"] == 0
    assert all("max_completion_tokens" not in request for request in endpoint.asked)


def test_an_endpoint_that_wants_neither_name_is_one_line(
    endpoint: LoopbackJudge, judge: Any, measure: Any
) -> None:
    endpoint.usual = body(json.dumps({"error": WANTS_NEWER}).encode(), 400)
    with pytest.raises(Refusal, match=r"base_url=.*: refuses \(.*max_completion_tokens"):
        measure(judge())
    assert len(endpoint.asked) == 2


@pytest.mark.parametrize(
    ("key", "state"),
    [
        (None, "is not set"),
        ("", "is not set"),
        ("sk-1\n", "holds something that is no key"),
        ("sk 1", "holds something that is no key"),
        ("sk–1", "holds something that is no key"),
    ],
)
def test_a_key_that_is_none_is_refused_before_anything_is_read(
    key: str | None, state: str, judge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if key is None:
        monkeypatch.delenv("OPENAI_API_KEY")
    else:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(Refusal, match=f"OPENAI_API_KEY {state} in the environment") as refused:
        judge().load(None)
    assert not key or key.strip() not in str(refused.value)


def test_a_missing_package_is_named_with_what_installs_it(
    judge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(Refusal, match=r"pip install 'compression-sweep\[judge\]'"):
        judge().load(None)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["base_url=localhost:8000"], "base_url=localhost:8000: must be an address such as"),
        (["base_url=ftp://x/v1"], "base_url=ftp://x/v1: must be an address"),
        (["base_url=http://"], "base_url=http://: must be an address"),
        (["base_url=http://a:b/v1"], "base_url=http://a:b/v1: must be an address"),
        (["base_url='http://a b/v1'"], "base_url=http://a b/v1: must be an address"),
        (["base_url=http://me:secret@a/v1"], "base_url=http://a/v1: must hold no user, password"),
        (["base_url='http://a/v1?k=secret'"], "base_url=http://a/v1: must hold no user, password"),
        (["base_url=http://me:secret@a:b/v1"], "base_url=http://a:b/v1: must hold no user, passwo"),
        (["base_url=http://a/v1/chat/completions"], "must end where /chat/completions begins"),
        (["model=''"], "model=: String should have at least 1 character"),
        (["model=null"], "model=null: must be a valid string"),
        (["n_samples=0"], "n_samples=0: must be greater than or equal to 1"),
        (["repeats=0"], "repeats=0: must be greater than or equal to 1"),
        (["criteria=[accuracy,style]"], "criteria=style: must be 'accuracy', 'completeness', "),
        (["criteria=[]"], "criteria=[]: must be some of accuracy, completeness,"),
        (["criteria=[fluency,fluency]"], "each once"),
        (["temperature=-1"], "temperature=-1: must be greater than or equal to 0"),
        (["temperature=.nan"], "temperature="),
        (["timeout_s=0"], "timeout_s=0: must be greater than 0"),
        (["retries=-1"], "retries=-1: must be greater than or equal to 0"),
        (["max_wait_s=0"], "max_wait_s=0: must be greater than 0"),
        (["max_calls=0"], "max_calls=0: must be greater than or equal to 1"),
        (["price_in=-1"], "price_in=-1: must be greater than or equal to 0"),
        (["parallel=0"], "parallel=0: must be greater than or equal to 1"),
        (["max_new_tokens=256"], "max_new_tokens=256: leaves no room for a prompt"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_wrong_setting_is_refused_by_its_name(words: list[str], line: str, frozen: Any) -> None:
    settings = [f"metric.judge.{word}" for word in words]
    with pytest.raises(Refusal) as refused:
        make(frozen("metric=[judge]", *settings), str)
    assert str(refused.value).startswith("metric.judge.")
    assert line in str(refused.value)
    assert "secret" not in str(refused.value)


def test_settings_on_which_no_number_depends_make_no_other_result(frozen: Any) -> None:
    def id(*words: str) -> str:
        settings = [f"metric.judge.{word}" for word in words]
        return make(frozen("metric=[judge]", *settings), str).metric_id("judge")

    same = [
        "parallel=9",
        "timeout_s=9",
        "retries=9",
        "max_wait_s=9",
        "max_calls=900",
        "price_in=1",
        "price_out=1",
    ]
    assert id(*same) == id()
    assert len({id(), id("repeats=2"), id("model=other"), id("base_url=http://a/v1")}) == 4


# the key


def test_an_endpoint_that_sends_the_key_back_does_not_get_it_written(
    endpoint: LoopbackJudge, judge: Any, measure: Any, tmp_path: Path
) -> None:
    endpoint.script.append(says(f"Your key is {KEY}", model=KEY))
    found = measure(judge())
    assert KEY not in str(found)
    assert "Your key is [key]" in found.examples["a"][0]["replies"][0]
    endpoint.usual = body(json.dumps({"error": {"message": f"bad key {KEY}"}}).encode(), 401)
    with pytest.raises(Refusal, match=r"bad key \[key\]") as refused:
        measure(judge(model="other"))
    assert refused.value.__suppress_context__
    assert endpoint.keys[0] == f"Bearer {KEY}"
    assert no_key_below(tmp_path)
