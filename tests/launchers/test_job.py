"""What a job knows of itself: its memory, its share of an array."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweep.refusal import Refusal
from sweep_jobs.job import _killed_for_memory
from sweep_jobs.slurm import SlurmJobs, shares


@pytest.mark.parametrize(
    ("groups", "file", "said"),
    [
        ("0::/job_1\n", "sys/fs/cgroup/job_1/memory.events", "low 0\noom 3\noom_kill 2\n"),
        (
            "9:cpu:/\n4:memory:/slurm/job_1\n",
            "sys/fs/cgroup/memory/slurm/job_1/memory.oom_control",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
        ),
    ],
)
def test_killed_for_memory_is_read_from_control_groups_of_both_versions(
    tmp_path: Path, groups: str, file: str, said: str
) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    assert _killed_for_memory(tmp_path) == 0
    (tmp_path / "proc/self/cgroup").write_text(groups)
    assert _killed_for_memory(tmp_path) == 0
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(said)
    assert _killed_for_memory(tmp_path) == 2


@pytest.mark.parametrize(
    ("at_once", "lengths", "expected"),
    [
        (256, [1000], [256]),
        (4, [5, 2], [3, 1]),
        (256, [1000, 1000, 1], [128, 127, 1]),
        (2, [5, 5, 5], [1, 1, 1]),
        (8, [], []),
    ],
)
def test_arrays_share_the_jobs_that_run_at_once(
    at_once: int, lengths: list[int], expected: list[int]
) -> None:
    assert shares(at_once, lengths) == expected


def test_a_cell_runs_on_one_node() -> None:
    with pytest.raises(Refusal, match="nodes=2: a cell runs on one node"):
        SlurmJobs(nodes=2)
