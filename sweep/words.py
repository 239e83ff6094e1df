"""The words of the command line, arranged as Hydra wants them; what it would stumble over refused.

Hydra makes the folder of `outputs` before the project's own checks run, and answers some mistakes
with an error that does not name the setting: these are looked at here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from sweep.refusal import Refusal, check_letters

OPTION_GROUPS = (
    "model",
    "method",
    "sparsity",
    "calib",
    "metric",
    "tracker",
    "corpora",
    "hydra/launcher",
)


def arranged(words: Sequence[str]) -> list[str]:
    """The words in Hydra's order and spelling.

    `+study=` is how Hydra's users name a grid; here the group is in the defaults list already.
    `-m` comes first: Hydra takes no override behind it, where many people write one. `~` is the
    home folder, which some shells leave to the program. What stands beside a grid of options
    (`calib=local,tokens calib.path=…`) is made a grid of one, or Hydra would hold it against the
    default option, which need not have the key.

    Raises:
        Refusal: a group without an option, or no folder for outputs.
    """
    home = os.path.expanduser("~")  # noqa: PTH111 - text goes in and out
    changed = [re.sub(r"^\+study=", "study=", word) for word in words]
    changed = [re.sub(r"^([\w.]+)=~(?=/|$)", rf"\1={home}", word) for word in changed]
    for word in changed:
        _check(word)
    if {"-m", "--multirun"} & {*changed}:
        grids = {
            name
            for name, _, value in (word.partition("=") for word in changed)
            if _is_grid(name, value)
        }
        changed = [_of_one(word) if word.partition(".")[0] in grids else word for word in changed]
    return sorted(changed, key=lambda word: word in ("-m", "--multirun"))


def _is_grid(name: str, value: str) -> bool:
    """Whether a group is given several options; a list of metrics is one of them."""
    return name in OPTION_GROUPS and "," in re.sub(r"\[.*?\]", "", value)


def _of_one(word: str) -> str:
    """`name=value` as a grid; what is one already stays one, and functions are left alone."""
    return re.sub(r"^([\w.]+)=(?!\w+\()(.+)$", r"\1=choice(\2)", word)


def _check(word: str) -> None:
    name, given, value = word.partition("=")
    if not given:
        return
    check_letters(name, value)
    if not name:
        raise Refusal("", "", f"{word}: has no name before its value; must be name=value")
    if name == "hydra.sweeper.params" and not value.startswith("{"):
        raise Refusal(
            name, value, "is a study's; a grid on the command line is name=value,value -m"
        )
    if name in OPTION_GROUPS and value.strip().lower() in ("", "null", "[]"):
        raise Refusal(name, value, "must be one of its options; see python -m sweep --help")
    if name in OPTION_GROUPS and name != "metric" and value.startswith("["):
        listed = value.strip("[]").replace(" ", "")
        raise Refusal(name, value, f"takes one option; a grid is {name}={listed} -m")
    if name == "outputs" and (value.strip().lower() in ("", "null") or value[0] in "[{"):
        raise Refusal(name, value, "must be a folder")
