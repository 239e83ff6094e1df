"""A secret typed in the wrong place is not repeated, and the line says where it belongs."""

from __future__ import annotations

import re

import pytest

from sweep.config import CONF
from sweep.refusal import Refusal
from sweep.secret import is_secret, masked

SECRETS = ("api_key", "tracker.api_key", "WANDB_API_KEY", "apiKey", "+hf_token", "model.token")
SECRETS += ("hydra.launcher.password", "a.client_secret", "access-token")
SECRETS += ("metric.judge.key", "+tracker.key")
OTHERS = ("calib.key", "max_new_tokens", "model.tokenizer", "secret.path", "calib.tokens")
OTHERS += ("metric.perplexity.key",)

HASH = "0123456789" * 4
"""As of a commit, and as W&B's earlier keys."""


@pytest.mark.parametrize("name", SECRETS)
def test_a_refusal_of_a_secret_has_neither_its_value_nor_another_hint(name: str) -> None:
    said = str(Refusal(name, "sk 0123", "no such key; did you mean sk 0123?"))
    assert said.startswith(f"{name}=***: keys are read from the environment only")
    assert "0123" not in said
    assert "mean" not in said


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_secret_is_told_as_it_was_typed(name: str) -> None:
    assert str(Refusal(name, "0123", "too many")) == f"{name}=0123: too many"
    assert masked(f"{name}=0123: too many") == f"{name}=0123: too many"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("--api_key=sk-1: no such option", "--api_key=***: no such option"),
        ("x={api_key: sk-1, n: 2}: no", "x={api_key: ***, n: 2}: no"),
        ("x={'n': 2, 'hf_token': 'sk 1'}: no", "x={'n': 2, 'hf_token': ***}: no"),
        ("quote it: \"a.token='s k 1'\"", 'quote it: "a.token=***"'),
        ("http://a/v1?api_key=sk-1", "http://a/v1?api_key=***"),
        ("first\nPASSWORD=sk-1\nlast", "first\nPASSWORD=***\nlast"),
        ("quote it: \"metric.judge.key='s k'\"", 'quote it: "metric.judge.key=***"'),
        ("metric.judge.model=sk-proj-01234567: no", "metric.judge.model=***: no"),
        ("+a.b='hf_0123456789abcdefghij'", "+a.b='***'"),
        (f"tracker.entity={HASH}: no", "tracker.entity=***: no"),
        (f"+wandb={HASH}01: no", "+wandb=***: no"),
        (f"model.revision={HASH}: no", f"model.revision={HASH}: no"),
        ("calib.path=/data/sk-learning/hf_a.json", "calib.path=/data/sk-learning/hf_a.json"),
    ],
)
def test_a_secret_is_masked_wherever_it_was_typed(said: str, shown: str) -> None:
    assert masked(said) == shown


def test_no_setting_is_called_like_a_secret() -> None:
    files = [*CONF.rglob("*.yaml")]
    names = {name for file in files for name in re.findall(r"([\w.-]+): ", file.read_text())}
    assert {"max_new_tokens", "base_url"} <= names
    assert not [name for name in names if is_secret(name)]
