"""The options of a command that is not Hydra's; a mistake in them is one line.

argparse prints how a command is used before it says what is wrong, and takes `--htm` for `--html`.
"""

from __future__ import annotations

import re
import sys
from argparse import ArgumentParser, ArgumentTypeError
from typing import Any, NoReturn

from sweep.refusal import did_you_mean
from sweep.secret import masked

_KINDS = {"int": "a whole number", "float": "a number"}


class Options(ArgumentParser):
    """Those of one command, spelt out in full.

    Args:
        command: whose they are: `sweep.track`, started by `python -m sweep.track`.
        description: what it does.
        more: of `ArgumentParser`.
    """

    def __init__(self, command: str, description: str, **more: Any) -> None:
        prog = f"python -m {command}"
        super().__init__(prog=prog, description=description, allow_abbrev=False, **more)
        self._command = command

    def error(self, message: str) -> NoReturn:
        """Ends the program with one line: the option, its value, what would be right."""
        sys.exit(masked(f"{self._command}: {self._in_words(message)}"))

    def _in_words(self, message: str) -> str:
        """What argparse says of a mistake, as this project says it."""
        if found := re.fullmatch(r"unrecognized arguments: (\S+).*", message, re.DOTALL):
            word = found[1]
            hint = did_you_mean(word.partition("=")[0], self._option_string_actions)
            what = "no such option" if word.startswith("-") else "a word too many"
            return f"{word}: {what}; {hint}--help lists the options"
        if found := re.fullmatch(r"the following arguments are required: (.*)", message):
            return f"{found[1]}: must be given; --help says what"
        found = re.fullmatch(r"argument (\S+): (.*)", message, re.DOTALL)
        return message if found is None else _of_one(found[1], found[2])


def _of_one(option: str, message: str) -> str:
    """The same of one option."""
    if found := re.fullmatch(r"invalid choice: '(.*)' \(choose from (.*)\)", message):
        return f"{option} {found[1]}: must be one of {found[2].replace(chr(39), '')}"
    if found := re.fullmatch(r"invalid (\w+) value: '(.*)'", message):
        return f"{option} {found[2]}: must be {_KINDS.get(found[1], found[1])}"
    if found := re.fullmatch(r"ignored explicit argument '(.*)'", message):
        return f"{option}={found[1]}: takes no value"
    if found := re.fullmatch(r"not allowed with argument (\S+)", message):
        return f"{option}: does not go with {found[1]}; give one of them"
    if message.startswith("expected"):
        return f"{option}: {message.replace('expected', 'wants').replace('argument', 'value')}"
    return f"{option} {message}"  # of a type of our own, which begins with the value


def positive(word: str) -> int:
    """The type of an option: a whole number that is not 0.

    Raises:
        ArgumentTypeError: it is none.
    """
    if not re.fullmatch(r"0*[1-9][0-9]*", word):
        raise ArgumentTypeError(f"{word}: must be a whole number, 1 or more")
    return int(word)
