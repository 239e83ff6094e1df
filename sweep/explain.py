"""Every error that reaches the top, in one line: the setting, its value, what would be right."""

from __future__ import annotations

import re

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException


def explain(error: BaseException) -> str:
    """What to print of an error."""
    from sweep.refusal import OutOfSpace, Refusal

    if isinstance(error, Refusal | OutOfSpace):
        return str(error)
    if type(error).__name__ == "Failed" and type(error).__module__ == "sweep.grid":
        return str(error)
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        return f"{group}={option}: no such option; there are: {', '.join(error.options)}"
    if isinstance(error, OverrideParseException):
        return f"{error.override}: cannot be read as name=value ({_first_line(error.message)})"
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _composition(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return (
        f"{type(error).__name__}: {_first_line(str(error))} (this is a defect; "
        "HYDRA_FULL_ERROR=1 shows where)"
    )


def _composition(error: BaseException) -> str:
    """A key that is not there, with those that are; else Hydra's own words on one line."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    key = getattr(cause, "full_key", None)
    parent = getattr(cause, "parent_node", None)
    if key and parent is not None and "is not in struct" in str(cause):
        there = ", ".join(str(name) for name in parent if name != "_target_")
        where = key.rpartition(".")[0] or "the top level"
        return f"{key}: no such key; {where} has: {there}"
    message = " ".join(str(error).split())
    group = re.search(r"Could not override '([\w/]+)'. No match in the defaults list", message)
    if group:
        return f"{group[1]}: no such group; see python -m sweep --help"
    return message


def _first_line(text: str) -> str:
    return (text.splitlines() or [""])[0]
