"""`python -m sweep`: a Hydra application that is one screen long and imports nothing heavy.

Hydra composes the configuration; with `-m` the launcher (`hydra/launcher=here`) is given the grid,
without it the one point is run as a grid of one.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from typing import TYPE_CHECKING, NoReturn

import hydra

from sweep import garbage
from sweep.config import CONF
from sweep.explain import in_one_line
from sweep.words import arranged

if TYPE_CHECKING:
    from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")  # type: ignore[untyped-decorator]
def _app(config: DictConfig) -> None:
    """One point of a grid (Hydra gives grids to the launcher)."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from sweep.config import freeze
    from sweep.grid import sweep
    from sweep.refusal import Refusal

    choices = HydraConfig.get().runtime.choices
    typed_in = HydraConfig.get().runtime.cwd  # from where paths are meant, wherever Hydra has gone
    with in_one_line(), chdir(typed_in):  # here, or Hydra prints lines of its own
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            reason = "runs a grid without planning it; use here, local or slurm"
            raise Refusal("hydra/launcher", choices["hydra/launcher"], reason)
        if choices["hydra/launcher"] != "here":
            raise Refusal("hydra/launcher", choices["hydra/launcher"], "is for grids: add -m")
        if choices.get("study") is not None:
            raise Refusal("study", choices["study"], "is a grid: add -m")
        sweep([freeze(config, choices, list(HydraConfig.get().overrides.task))])


def command() -> None:
    """`main` in a process of its own."""
    with garbage.alone():
        main()


def main() -> None:
    """Run the application; a mistake of the user's is one line on stderr.

    With HYDRA_FULL_ERROR=1 every error comes with its full trace.
    """
    with in_one_line(), _hydra_raises():
        sys.argv[1:] = arranged(sys.argv[1:])
        _app()


@contextmanager
def _hydra_raises() -> Iterator[None]:
    """Meanwhile Hydra and its parser raise errors, instead of printing several lines and ending."""
    before = os.environ.get(name := "HYDRA_FULL_ERROR", "0")
    os.environ[name] = "1"
    error = ArgumentParser.error
    ArgumentParser.error = _refused  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        os.environ[name] = before
        ArgumentParser.error = error  # type: ignore[method-assign]


def _refused(parser: ArgumentParser, message: str) -> NoReturn:
    """An option that there is not: of words with a dash, which Hydra's parser reads."""
    from sweep.refusal import Refusal, did_you_mean

    what, _, words = message.partition("unrecognized arguments: ")
    if what or not words:
        raise Refusal("", "", f"{message}; python -m sweep --help lists the options")
    option = words.split()[0]
    hint = did_you_mean(option, parser._option_string_actions)
    reason = f"no such option; {hint}settings are typed without dashes: method=wanda"
    raise Refusal("", "", f"{option}: {reason}")


if __name__ == "__main__":
    command()
