"""The one way in which this project says no: the setting, its value, what would be right.

Constructors and checks below know the name of their own field only; whoever placed them in the
configuration adds the path (`Refusal.under`). A refusal is printed as one line, without a trace.
"""

from __future__ import annotations

import difflib
from bisect import bisect
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import accumulate

from sweep.secret import HIDDEN, belongs, is_secret, masked


class Stop(Exception):
    """Ends the program with its text and no trace."""


class Refusal(Stop):
    """A setting that cannot work.

    Args:
        setting: dotted name as typed on the command line, e.g. `calib.path`; may be empty.
        value: what it was set to.
        reason: what is wrong, and what would be right.
        placed: whether the setting is named from the top of the configuration already.
    """

    def __init__(self, setting: str, value: object, reason: str, *, placed: bool = False) -> None:
        super().__init__(setting, value, reason)
        self.setting = setting
        self.value = value
        self.reason = reason
        self.placed = placed

    def under(self, prefix: str) -> Refusal:
        """The same refusal, with its setting named as seen from the top of the configuration."""
        if self.placed:
            return Refusal(self.setting, self.value, self.reason, placed=True)
        return Refusal(
            f"{prefix}.{self.setting}" if self.setting else prefix, self.value, self.reason
        )

    @property
    def fault(self) -> str:
        """What is wrong, without what would be right: the reason up to its first semicolon."""
        return self.reason.partition("; ")[0]

    def __str__(self) -> str:
        """One line: `setting=value: reason`; of a secret, where it belongs and nothing more."""
        if is_secret(self.setting):
            return f"{self.setting}={HIDDEN}: {belongs(self.setting)}"
        text = (
            f"{self.setting}={_typed(self.value)}: {self.reason}" if self.setting else self.reason
        )
        return masked(" ".join(text.split()))


def _typed(value: object) -> object:
    """A value as it is typed on the command line."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else value


@contextmanager
def under(prefix: str) -> Iterator[None]:
    """Refusals from below are named as seen from the top: `path` becomes `calib.path`."""
    try:
        yield
    except Refusal as refusal:
        raise refusal.under(prefix) from refusal


class OutOfSpace(Stop):
    """The disk below `outputs` is full or may not be written: no cell that follows can succeed."""


class Interrupted(Stop):
    """Asked to stop, at a point where everything that is done is on disk or can be written."""


class Overtaken(Stop):
    """Another process works on the same cell, because this one gave no sign of life for long."""


class Broken(Stop):
    """The device takes no more work from this process; another process may find it well."""


class Failed(Stop):
    """Some cells of a sweep failed; the others' results stand."""


def check_letters(setting: str, value: str) -> None:
    """Raises: Refusal: a value holds a byte of a file's name that is no letter."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        shown = value.encode(errors="backslashreplace").decode()
        reason = "holds a byte that is no letter in UTF-8; choose, or link to, another name"
        raise Refusal(setting, shown, reason) from error


def by_reason(failures: Iterable[tuple[str, str]]) -> list[str]:
    """A line for each reason, after the names of all that share it.

    Args:
        failures: names of what failed, each with its reason.
    """
    found: dict[str, list[str]] = {}
    for name, reason in failures:
        found.setdefault(reason, []).append(name)
    return [f"{listed(names)}: {reason}" for reason, names in found.items()]


def did_you_mean(name: str, known: Iterable[str], most: int = 1) -> str:
    """A question that names what is spelt like it, with a space behind; empty if nothing is."""
    close = difflib.get_close_matches(name, [*known], n=most)
    return f"did you mean {', '.join(close)}? " if close else ""


MOST = 8
"""So many names are told one by one."""

LETTERS = 110
"""In so many letters: a refusal is one line."""


def listed(names: Iterable[object], like: object = "") -> str:
    """Names for a refusal, or `none`; of many those that are spelt like another, then the first."""
    known = list(dict.fromkeys(map(str, names)))
    if len(known) <= MOST and len("".join(known)) <= LETTERS:
        return ", ".join(known) or "none"
    close = difflib.get_close_matches(str(like), known, n=MOST)
    ordered = [*close, *(name for name in known if name not in close)]
    length = list(accumulate(map(len, ordered)))
    count = max(1, min(MOST, bisect(length, LETTERS)))
    shown = ", ".join(ordered[:count])
    return shown if count == len(known) else f"{shown} … and {len(known) - count} more"


def likely(name: object, known: Iterable[str]) -> str:
    """What to say of a name that is not known: which may be meant, and which there are."""
    there = [*known]
    return f"{did_you_mean(str(name), there, 3)}there are: {listed(there, name)}"
