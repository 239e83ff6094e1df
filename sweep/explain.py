"""Every error that reaches the top, in one line: the setting, its value, what would be right."""

from __future__ import annotations

import errno
import io
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from sweep.config import CONF
from sweep.refusal import Refusal, Stop, did_you_mean, likely
from sweep.secret import is_secret, masked

_SPENT = {errno.ENOSPC, errno.EDQUOT}
_UNWRITABLE = _SPENT | {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST),
}
"""What Hydra meets when it makes the folder for its own log."""

HIDDEN = ("_target_", "hydra", "corpora", "prompts")
"""Keys that are there, and are no settings of a sweep."""

FULL = os.environ.get("HYDRA_FULL_ERROR") == "1"


@contextmanager
def in_one_line(command: str = "sweep") -> Iterator[None]:
    """Ends the program on any error, with one line on stderr and exit code 1.

    A folder may be called what its terminal cannot print; that is no error, but shown as `\\udcff`.
    With HYDRA_FULL_ERROR=1 in the environment errors go on with their full trace.

    Args:
        command: whose line it is.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            yield
        except SystemExit:
            _flush()
            raise
        _flush()
    except KeyboardInterrupt:
        sys.exit(f"{command}: interrupted; the same command again goes on from here")
    except BrokenPipeError:  # the reader has left
        _print_no_more()
        sys.exit(1)
    except Exception as error:
        if FULL:
            raise
        if isinstance(error, OSError) and error.errno in _SPENT and not _printable():
            _print_no_more()
            sys.exit(f"{command}: what it prints cannot be written there ({error.strerror})")
        sys.exit(f"{command}: {explain(error)}")


def _printable() -> bool:
    """Whether what was printed can be written where it goes: what could not is still waiting."""
    try:
        _flush()
    except OSError:
        return False
    return True


def _flush() -> None:
    if sys.stdout is not None:  # closed by who started the process
        sys.stdout.flush()


def _print_no_more() -> None:
    """What is still to be written goes nowhere; Python would complain of it at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def explain(error: BaseException) -> str:
    """What to print of an error; no secret that was typed is in it."""
    return masked(_in_words(error))


def _in_words(error: BaseException) -> str:
    if isinstance(error, Stop):
        return str(error)
    if isinstance(error, MissingConfigException) and error.options is not None:
        return _no_option(str(error.missing_cfg_file), error.options)
    if isinstance(error, OverrideParseException):
        return _unreadable(error)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _composition(error)
    if isinstance(error, OSError) and error.errno in _UNWRITABLE:
        if error.filename is None:  # a file that was open already
            return f"{error.strerror}: free some space, or choose another outputs=DIR"
        reason = f"cannot be written to ({error.strerror}); choose a folder that can"
        return f"outputs={_as_typed(str(error.filename))}: {reason}"
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
    if is_secret(name):
        return str(Refusal(name, value, ""))
    text = f"{error.override}: cannot be read as name=value"
    if re.fullmatch(r"[\w./]+", name) and re.search(r"[()\[\]{}|:, ~]", value):
        quoted = value.replace("'", "\\'")
        return f"{text}; if the value is meant as it stands, quote it: \"{name}='{quoted}'\""
    return f"{text} ({_first_line(error.message)})"


def _composition(error: BaseException) -> str:
    """A key that is not there, with those that are; else Hydra's own words on one line."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    if "is not in struct" in str(cause):
        typed = re.search(r"To append to your config use \+(.*)", str(error))
        return str(no_such_key(typed[1] if typed else "", cause))
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


def no_such_key(word: str, error: BaseException, chosen: str | None = None) -> Refusal:
    """What to say where the configuration has no such key: which it has, and which option has it.

    Args:
        word: `key=value` as typed, if that is known.
        error: OmegaConf's own.
        chosen: the option of the key's group that lacks it, if that is known: `calib=c4`.
    """
    missing = str(getattr(error, "full_key", ""))  # the part of the key up to what is not there
    name, _, value = word.partition("=")
    where, _, key = missing.rpartition(".")
    there = [str(k) for k in getattr(error, "parent_node", None) or () if k not in HIDDEN]
    hint = did_you_mean(key, there).rstrip()
    reasons = [f"{chosen} has no such key" if chosen else "no such key"]
    if options := options_with(name or missing):
        reasons.append(f"{', '.join(options)} {'has' if len(options) == 1 else 'have'} it")
    elif hint:
        reasons.append(hint)
    has = f"{where or 'the top level'} has: {', '.join(there) or 'nothing to set'}"
    return Refusal(name or missing, value or "…", "; ".join([*reasons, has]).replace("?;", "?"))


def options_with(name: str) -> list[str]:
    """The options, as `group=option`, of whose files the dotted name is a key."""
    parts = name.split(".")
    for size in range(len(parts) - 1, 0, -1):
        group = "/".join(parts[:size])
        if (CONF / group).is_dir():
            files = sorted((CONF / group).glob("*.yaml"))
            return [f"{group}={file.stem}" for file in files if _holds(file, group, parts[size:])]
    return []


def _holds(file: Path, group: str, keys: Sequence[str]) -> bool:
    """Whether an option has a key: in its own file, or in that of another on which it builds."""
    text = file.read_text(encoding="utf-8")
    node = yaml.safe_load(text)
    builds_on = [one.partition("@")[0] for one in node.get("defaults", ()) if isinstance(one, str)]
    others = [other for name in builds_on if (other := file.with_name(f"{name}.yaml")).is_file()]
    if any(_holds(other, group, keys) for other in others):
        return True
    for key in ([group] if "@package _global_" in text else []) + [*keys]:
        if not isinstance(node, Mapping) or key not in node:
            return False
        node = node[key]
    return True


def _as_typed(path: str) -> str:
    """The folder of outputs as typed, where the path is one on the way to it or below it."""
    typed = [word.partition("=")[2] for word in sys.argv if word.startswith("outputs=")]
    here, there = Path(typed[-1] if typed else "outputs").absolute(), Path(path).absolute()
    return str(typed[-1]) if typed and (here in there.parents or there in here.parents) else path


def _no_option(path: str, options: Sequence[str]) -> str:
    group, _, option = path.rpartition("/")
    if group == "hydra/launcher":  # Hydra counts its own, which knows nothing of plans
        options = sorted(file.stem for file in (CONF / group).glob("*.yaml"))
    return f"{group}={option}: no such option; {likely(option, options)}"


def _first_line(text: str) -> str:
    return (text.splitlines() or [""])[0]
