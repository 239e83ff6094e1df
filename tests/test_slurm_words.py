"""SLURM's own way of naming jobs."""

from __future__ import annotations

import pytest

from sweep.slurm import expanded


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("12", ["12"]),
        ("12_3", ["12_3"]),
        ("12_[0-2,7%4]", ["12_0", "12_1", "12_2", "12_7"]),
        ("12_[5]", ["12_5"]),
    ],
)
def test_an_array_that_waits_is_all_its_jobs(said: str, meant: list[str]) -> None:
    assert expanded(said) == meant
