"""A mistake in the options of a command is one line: option, value, what would be right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweep import dashboard
from sweep.export import __main__ as export
from sweep.options import Options, positive
from sweep.report import __main__ as report
from sweep.track import __main__ as track

MISTAKES: list[tuple[Callable[[list[str]], Any], str, str]] = [
    (report.main, "--htm", "report: --htm: no such option; did you mean --html? --help lists the"),
    (report.main, "--html=x", "report: --html=x: takes no value"),
    (report.main, "--columns", "report: --columns: wants one value"),
    (track.main, "out --jobs 0", "track: --jobs 0: must be a whole number, 1 or more"),
    (track.main, "--jobs two", "track: --jobs two: must be a whole number, 1 or more"),
    (track.main, "--project x --proj y", "track: --proj: no such option; did you mean --project?"),
    (dashboard.main, "--token=hf-1", "dashboard: --token=***: no such option; --help lists the"),
    (export.main, "", "export: CELL, --to: must be given; --help says what"),
    (export.main, "x --to zip", "export: --to zip: must be one of hf, compressed-tensors, hub"),
    (export.main, "x y --to hf", "export: y: a word too many; --help lists the options"),
    (
        export.main,
        "x --to hf --out a --repo b/c",
        "export: --repo: does not go with --out; give one",
    ),
]


@pytest.mark.parametrize(
    ("main", "words", "line"), MISTAKES, ids=lambda x: getattr(x, "__module__", str(x)[:30])
)
def test_a_mistake_is_one_line_that_names_the_option_and_its_value(
    main: Callable[[list[str]], Any],
    words: str,
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(words.split())
    assert str(end.value.code).startswith(f"sweep.{line}")
    assert "\n" not in str(end.value.code)
    assert capsys.readouterr() == ("", "")


def test_numbers_are_called_numbers_and_are_read() -> None:
    options = Options("sweep.x", "It does nothing.")
    options.add_argument("--share", type=float)
    options.add_argument("--steps", type=int)
    options.add_argument("--runs", type=positive)
    with pytest.raises(SystemExit, match=r"^sweep.x: --share half: must be a number$"):
        options.parse_args(["--share", "half"])
    with pytest.raises(SystemExit, match=r"^sweep.x: --steps 1.5: must be a whole number$"):
        options.parse_args(["--steps", "1.5"])
    assert vars(options.parse_args(["--runs", "012"])) == {"share": None, "steps": None, "runs": 12}
