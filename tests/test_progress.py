"""A bar on a terminal, lines elsewhere."""

from __future__ import annotations

import io
import logging
import sys

import pytest

from sweep import progress
from sweep.progress import Progress


class Terminal(io.StringIO):
    """Standard error that is one."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_a_bar_and_takes_it_away(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    items = Progress()(["a", "b", "c"], "blocks", 3)
    next(items)
    assert "blocks:   0%|" in terminal.getvalue()
    assert "| 0/3 [" in terminal.getvalue()
    assert [*items] == ["b", "c"]
    assert terminal.getvalue().endswith("\r")


def test_elsewhere_there_are_lines_now_and_then_and_none_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error, lines = io.StringIO(), logging.getLogger("of this test")
    monkeypatch.setattr(sys, "stderr", error)
    monkeypatch.setattr(progress, "log", lines)
    said: list[str] = []
    monkeypatch.setattr(lines, "info", lambda text, *given: said.append(text % given))
    assert [*Progress()(range(3), "blocks", 3)] == [0, 1, 2]
    assert said == []
    monkeypatch.setattr(progress, "EVERY", -1.0)
    assert [*Progress()(range(3), "alpaca answers", 3)] == [0, 1, 2]
    assert said == ["  alpaca answers: 1 of 3", "  alpaca answers: 2 of 3"]
    assert error.getvalue() == ""
