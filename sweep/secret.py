"""A key typed as a setting is not repeated: what is printed of it says where keys belong.

Terminals and the logs of jobs are kept and shown to others. No setting of this project holds a
secret, so what is called like one was meant for somebody who reads it from the environment.
"""

from __future__ import annotations

import re

HIDDEN = "***"

_NAME = r"[\w-]*(?:api_?key|secret|passw(?:or)?d|(?<![^\W_])token(?![^\W_]))[\w-]*"
_KEY = r"(?:metric\.judge|tracker)\.key"
"""Elsewhere a `key` is the name of a tensor in a file of tokens, which these do not read."""

_VALUE = r"(?:'[^']*'|\"[^\"]*\"|[^\s,;}\])'\"]+?(?=:?(?:[\s,;}\])'\"]|$)))"
_TYPED = re.compile(
    rf"({_NAME}=|{_KEY}=|[{{,]\s*['\"]?{_NAME}['\"]?\s*:\s*){_VALUE}", re.IGNORECASE
)
"""As on a command line, and as in a mapping."""

_PLAIN = re.compile(r"(?<![\w/.-])(?:sk-[\w-]{8,}|hf_[^\W_]{16,}|wandb_v\d_\w{16,})")
"""What can only be a key, whatever it was typed for: OpenAI's, the hub's, W&B's."""

_DIGITS = re.compile(r"((?:tracker|wandb)[\w.]*=['\"]?)[0-9a-f]{40,}", re.IGNORECASE)
"""W&B's earlier ones look like a commit's hash."""

_READ = (
    (r"metric\.judge\b|openai", "OPENAI_API_KEY"),
    (r"tracker\b|wandb", "WANDB_API_KEY, or what `wandb login` has kept"),
    (
        r"(model|calib|corpora|metric)\b|hf|hub|hugging",
        "HF_TOKEN, or what `hf auth login` has kept",
    ),
)


def is_secret(name: str) -> bool:
    """Whether what a setting of this dotted name holds is for nobody to see.

    By its last part: `tracker.api_key`, `HF_TOKEN`; not `max_new_tokens`, nor `tokenizer`. A `key`
    is one where no tensor is named by it.
    """
    whole = name.lstrip("+~")
    return any(
        re.fullmatch(pattern, part, re.IGNORECASE)
        for pattern, part in ((_NAME, whole.rpartition(".")[2]), (_KEY, whole))
    )


def belongs(name: str) -> str:
    """Where the value of such a setting is read, by its dotted name."""
    for pattern, where in _READ:
        if re.match(rf"[-+~]*({pattern})", name, re.IGNORECASE):
            return f"keys are read from the environment only: {where}"
    return "keys are read from the environment only"


def masked(text: str) -> str:
    """The text without the values of such settings, and without what is plainly a key."""
    text = _DIGITS.sub(rf"\1{HIDDEN}", _TYPED.sub(rf"\1{HIDDEN}", text))
    return _PLAIN.sub(HIDDEN, text)
