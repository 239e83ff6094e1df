"""What some tests need beside Python: where it is missing they skip, and in `.ci/run` they fail."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

ALL = "SWEEP_TESTS_ALL"
"""Set in the environment where everything is installed, so that nothing may be missing."""


def program(name: str, package: str) -> str:
    """Where a program of Debian's package is; see `missing`."""
    return shutil.which(name) or missing(
        f"no {name}: apt-get install --no-install-recommends {package}"
    )


def missing(what: str) -> NoReturn:
    """The test cannot run here: skipped, or failed where everything should be there."""
    if os.environ.get(ALL):
        pytest.fail(f"{what} ({ALL} is set)", pytrace=False)
    pytest.skip(what)
