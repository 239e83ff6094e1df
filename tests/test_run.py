"""What a cell tells while it runs."""

from __future__ import annotations

import logging

import pytest

from sweep.method.walk import LayerRecord
from sweep.run import FEW, _say_remarks


def test_what_is_remarked_of_many_layers_is_told_of_some(caplog: pytest.LogCaptureFixture) -> None:
    def record(number: int, *remarks: str) -> LayerRecord:
        return LayerRecord(f"layers.{number}", 2, 2, 2, 0.5, remarks, None)

    many = [record(number, "no token") for number in range(100)]
    with caplog.at_level(logging.WARNING, logger="sweep"):
        _say_remarks([*many, record(100), record(101, "damping raised", "no token")])
    lines = [text.strip() for text in caplog.messages]
    assert lines[:FEW] == [f"layers.{number}: no token" for number in range(FEW)]
    assert lines[FEW:] == [
        f"… and {101 - FEW} layers more: no token",
        "layers.101: damping raised",
    ]
