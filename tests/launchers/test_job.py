"""What a job knows of itself: its memory, its share of an array."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sweep.attempt import Attempt
from sweep.refusal import Refusal
from sweep_jobs.job import PackJob, _killed_for_memory
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


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"nodes": 2}, "nodes=2: a cell runs on one node$"),
        ({"mem_gb": 0}, "mem_gb=0: must be at least 0.001"),
        ({"mem_gb": -3}, "mem_gb=-3: must be at least 0.001"),
        ({"cpus_per_task": 0}, "cpus_per_task=0: must be at least 1"),
        ({"gpus_per_node": -1}, "gpus_per_node=-1: must not be negative"),
    ],
)
def test_what_no_job_can_have_is_refused_by_name(setting: dict[str, int], said: str) -> None:
    with pytest.raises(Refusal, match=said):
        SlurmJobs(**setting)  # type: ignore[arg-type]


def test_gpus_that_would_idle_are_said_to(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr("sweep_jobs.slurm.log.warning", lambda text, *of: said.append(text % of))
    SlurmJobs(gpus_per_node=1).check()
    assert not said
    SlurmJobs(gpus_per_node=2).check()
    (one,) = said
    assert one.startswith("hydra.launcher.gpus_per_node=2: a cell uses one, several only with ")


@pytest.mark.parametrize("restarts", [0, 3])
def test_a_job_that_is_told_too_early_goes_on_no_oftener_than_after_a_time_out(
    restarts: int, tmp_path: Path
) -> None:
    (teardown,) = SlurmJobs(max_num_timeout=restarts)._parameters("name", (), 1)["teardown"]
    (tmp_path / "scontrol").write_text("#!/bin/sh\necho $* >> $OUT\n")
    (tmp_path / "scontrol").chmod(0o755)
    for count in ("", "1", "2", "3", "4"):
        environment = {"PATH": f"{tmp_path}:/bin:/usr/bin", "OUT": str(tmp_path / "out")}
        environment |= {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": count}
        done = subprocess.run(["bash", "-c", f"(exit 140)\n{teardown}"], env=environment)
        assert done.returncode == 140
    asked = (tmp_path / "out").read_text() if (tmp_path / "out").exists() else ""
    assert asked == "requeue 7\n" * restarts


Work = Callable[[str], PackJob]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    """A job with one cell, whose workers are shells that do what is given."""

    def work(script: str) -> PackJob:
        cell = {"id": "a", "name": "a", "config": {"outputs": str(tmp_path)}}
        (tmp_path / "pack.json").write_text(json.dumps({"dense": cell, "cells": []}))
        shell = tmp_path / "worker"
        shell.write_text(f"#!/bin/sh\necho >> {tmp_path}/workers\n{script}\n")
        shell.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(shell))
        return PackJob([str(tmp_path / "pack.json")], False, 0o022)

    return work


def test_a_worker_that_is_ended_alone_is_followed_by_another(work: Work, tmp_path: Path) -> None:
    work(f"[ $(wc -l < {tmp_path}/workers) -eq 3 ] || kill -TERM $$")()
    assert (tmp_path / "workers").read_text() == 3 * "\n"
    (tmp_path / "workers").unlink()
    with pytest.raises(SystemExit, match=r"^stopped; the same command goes on"):
        work("kill -TERM $$")()  # somebody means it
    assert (tmp_path / "workers").read_text() == 4 * "\n"


def test_a_job_that_is_told_to_end_tells_its_worker_and_ends(work: Work, tmp_path: Path) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with pytest.raises(SystemExit, match=r"^stopped; the same command goes on"):
            work("trap 'exit 3' TERM; kill -TERM $PPID; while :; do sleep 0.1; done")()
        assert heard == [signal.SIGTERM]  # submitit's own handler logs it
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard == 2 * [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (tmp_path / "workers").read_text() == "\n"


def test_a_job_that_is_told_while_its_worker_starts_ends_too(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Attempt.of

    def told_before_the_worker_is_known(process: int) -> Attempt:
        while not (tmp_path / "workers").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        return known(process)

    before = signal.signal(signal.SIGTERM, lambda *_: None)
    monkeypatch.setattr(Attempt, "of", told_before_the_worker_is_known)
    try:
        with pytest.raises(SystemExit, match=r"^stopped; the same command goes on"):
            work("trap 'exit 3' TERM; for i in $(seq 100); do sleep 0.1; done; exit 1")()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_the_log_of_a_job_ends_with_why_its_cells_failed(work: Work, tmp_path: Path) -> None:
    folder = tmp_path / "cells" / "a"
    folder.mkdir(parents=True)
    (folder / "failure.txt").write_text("RuntimeError: as asked\n\na trace\n")
    with pytest.raises(SystemExit) as end:
        work("exit 1")()
    assert end.value.code == (
        f"cells failed:\n  a: RuntimeError: as asked ({tmp_path}/cells/a/log.txt)"
    )


def test_a_worker_ends_with_the_process_that_watches_it(tmp_path: Path) -> None:
    shell = tmp_path / "worker"
    shell.write_text("#!/bin/sh\nexec sleep 100\n")
    shell.chmod(0o755)
    watch = f"""
import pathlib, sys, time
from sweep_jobs.job import _Worker
sys.executable = {str(shell)!r}
print(_Worker(pathlib.Path("pack"), [], {{}}, 0o022)._process.pid, flush=True)
time.sleep(100)
"""
    command = [sys.executable, "-c", watch]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        worker = Path("/proc") / process.stdout.readline().strip()
        assert worker.exists()
        process.kill()
    end = time.monotonic() + 10
    while worker.exists() and (worker / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < end
        time.sleep(0.1)
