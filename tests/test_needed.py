"""Where everything is installed, as `.ci/run` does it, no test can pass by skipping."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from launchers.testbed import slurm
from tests import needed

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("value", "outcome"), [("", pytest.skip.Exception), ("1", pytest.fail.Exception)]
)
def test_what_is_missing_is_skipped_and_a_failure_where_it_should_be_there(
    value: str, outcome: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv(needed.ALL, value)
    with pytest.raises(outcome, match=r"no pdflatex: apt-get install .* texlive"):
        needed.program("pdflatex", "texlive")


def test_the_fresh_machine_installs_what_tests_want_and_lets_none_of_them_skip() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    exported = re.search(rf"^export {needed.ALL}=1$", script, re.MULTILINE)
    assert exported is not None
    assert exported.start() < script.index("\nmake test\n") < script.index("\nmake test-slurm\n")
    tests = {file: file.read_text() for file in (ROOT / "tests").rglob("*.py")}
    wanted = {
        package
        for text in tests.values()
        for package in re.findall(r'= program\("\w+", "([\w-]+)"\)', text)
    }
    assert {"chromium", "chromium-driver", "texlive-latex-recommended"} <= wanted
    installed = set(re.findall(r"[\w-]+", script.partition("apt-get")[0]))
    assert wanted | set(slurm.PACKAGES.values()) <= installed


def test_nothing_that_can_be_installed_is_skipped_by_any_other_way() -> None:
    for file in (ROOT / "tests").rglob("*.py"):
        text = "" if file.name == "needed.py" else file.read_text()
        assert not re.search(r"pytest\.skip\([^)]*(apt-get|unavailable|\{reason\})", text), file
