"""SLURM's own way of naming jobs."""

from __future__ import annotations

import pytest

from sweep.slurm import Job, expanded, parsed


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


@pytest.mark.parametrize(
    "said",
    [
        "31|CANCELLED||JobHeldUser\n31_1|RUNNING|node1|None\n",  # squeue
        "31|CANCELLED by 0|None assigned\n31_1|RUNNING|node1\n",  # sacct
    ],
)
def test_an_array_that_is_named_by_its_number_is_all_its_jobs_that_no_line_names(said: str) -> None:
    found = parsed(said, ["31_0", "31_1", "31_2", "32_0"])
    assert {id: job.state for id, job in found.items()} == {
        "31_0": "CANCELLED",
        "31_1": "RUNNING",
        "31_2": "CANCELLED",
    }
    assert found["31_1"].node == "node1"
    assert parsed("7|PENDING||Priority\n", ["7"]) == {"7": Job("PENDING", "", "Priority")}
