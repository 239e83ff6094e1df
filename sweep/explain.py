"""Every error that reaches the top, in one line: the setting, its value, what would be right."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import yaml
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from sweep.config import CONF
from sweep.refusal import Stop

_UNWRITABLE = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST),
    *(errno.ENOSPC, errno.EDQUOT),
}
"""What Hydra meets when it makes the folder for its own log."""

FULL = os.environ.get("HYDRA_FULL_ERROR") == "1"


@contextmanager
def in_one_line() -> Iterator[None]:
    """Ends the program on any error, with one line on stderr and exit code 1.

    With HYDRA_FULL_ERROR=1 in the environment errors go on with their full trace.
    """
    try:
        yield
    except KeyboardInterrupt:
        sys.exit("sweep: interrupted; the same command again goes on from here")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has left
        sys.exit(1)
    except Exception as error:
        if FULL:
            raise
        sys.exit(f"sweep: {explain(error)}")


def explain(error: BaseException) -> str:
    """What to print of an error."""
    if isinstance(error, Stop):
        return str(error)
    if isinstance(error, MissingConfigException) and error.options is not None:
        return _no_option(str(error.missing_cfg_file), error.options)
    if isinstance(error, OverrideParseException):
        return _unreadable(error)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _composition(error)
    if isinstance(error, OSError) and error.errno in _UNWRITABLE:
        reason = f"cannot be written to ({error.strerror}); choose a folder that can"
        return f"outputs={error.filename}: {reason}"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{mark.name}: line {mark.line + 1}: is no YAML ({error.problem})"
    return (
        f"{type(error).__name__}: {_first_line(str(error))} (this is a defect; "
        "HYDRA_FULL_ERROR=1 shows where)"
    )


def _unreadable(error: OverrideParseException) -> str:
    """Hydra's grammar gives brackets and spaces a meaning, unless they are quoted."""
    name, _, value = error.override.partition("=")
    text = f"{error.override}: cannot be read as name=value"
    if re.fullmatch(r"[\w./]+", name) and re.search(r"[()\[\]{}|:, ~]", value):
        quoted = value.replace("'", "\\'")
        return f"{text}; if the value is meant as it stands, quote it: \"{name}='{quoted}'\""
    return f"{text} ({_first_line(error.message)})"


def _composition(error: BaseException) -> str:
    """A key that is not there, with those that are; else Hydra's own words on one line."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    key = getattr(cause, "full_key", None)
    parent = getattr(cause, "parent_node", None)
    if key and parent is not None and "is not in struct" in str(cause):
        there = ", ".join(str(name) for name in parent if name != "_target_") or "nothing to set"
        where = key.rpartition(".")[0] or "the top level"
        return f"{key}: no such key; {where} has: {there}"
    message = " ".join(str(error).split())
    lost = re.search(r"Could not load '([\w/]+)'", message)
    if lost:
        group = lost[1].rpartition("/")[0]
        return _no_option(lost[1], sorted(file.stem for file in (CONF / group).glob("*.yaml")))
    grid = re.match(r"Ambiguous value for argument '(.*?)' 1\.", message)
    if grid:
        return f"{grid[1]}: is a grid: add -m"
    unknown = re.search(r"Could not override '([\w/]+)'. No match in the defaults list", message)
    if unknown:
        return f"{unknown[1]}: no such group; see python -m sweep --help"
    return message


def _no_option(path: str, options: Sequence[str]) -> str:
    group, _, option = path.rpartition("/")
    if group == "hydra/launcher":  # Hydra counts its own, which knows nothing of plans
        options = sorted(file.stem for file in (CONF / group).glob("*.yaml"))
    return f"{group}={option}: no such option; there are: {', '.join(options)}"


def _first_line(text: str) -> str:
    return (text.splitlines() or [""])[0]
