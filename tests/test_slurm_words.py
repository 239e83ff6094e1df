"""SLURM's own way of naming jobs."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from sweep.slurm import Job, expanded, folded, jobs, parsed


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
    assert folded(meant) == said.replace("%4", "").replace("[5]", "5")


def test_the_jobs_of_a_long_array_are_a_short_line() -> None:
    ids = [f"41_{i}" for i in range(1000)]
    assert folded(["40", *reversed(ids), "42_7", "42_1"]) == "40 41_[0-999] 42_[1,7]"


@pytest.mark.parametrize(
    "said",
    [
        "31|CANCELLED||JobHeldUser|N/A\n31_1|RUNNING|node1|None|N/A\n",  # squeue
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
    assert parsed("7|PENDING||Priority|N/A\n", ["7"])["7"] == Job("PENDING", "", "Priority", "N/A")


def test_without_the_commands_nothing_is_known_and_with_them_a_silent_controller_is_no_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert jobs(["20", "21_3"]) == {}
    (tmp_path / "squeue").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "squeue").chmod(0o755)
    assert all(job.waits for job in jobs(["20", "21_3"]).values())
    assert len(jobs(["20", "21_3"])) == 2


def test_a_job_whose_node_does_not_let_go_of_it_ends_for_minutes_only() -> None:
    def job(ago: timedelta) -> Job:
        end = (datetime.now() - ago).isoformat(timespec="seconds")
        return parsed(f"32|COMPLETING|node1|None|{end}\n", ["32"])["32"]

    assert job(timedelta(minutes=1)).ends
    assert not job(timedelta(hours=1)).ends
    assert not job(timedelta(minutes=1)).runs
    assert Job("COMPLETING", end="Unknown").ends
