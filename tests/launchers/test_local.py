"""`hydra/launcher=local`: processes of this machine, each on the next cell that is free."""

from __future__ import annotations

import csv
import gc
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sweep.grid import sweep
from sweep.report import entries
from sweep.status import standings, summary
from sweep_jobs import local
from sweep_jobs.job import PackJob
from sweep_jobs.submit import submit
from tests.commands import forked

GRID = (
    "method=wanda,sparsegpt",
    "calib=c4,alpaca",
    "calib.n_samples=4",
    "metric=[perplexity]",
    "metric.perplexity.n_samples=4",
    "tracker=none",
    "report=table",
    "-m",
)


def run(outputs: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return forked(*GRID, f"outputs={outputs}", *words)


def status(outputs: Path) -> str:
    return forked(str(outputs), module="sweep.status").stdout


def others_may_look(outputs: Path) -> set[bool]:
    """Whether anyone but the user may open what belongs to the jobs."""
    (folder,) = outputs.glob("jobs/*/submitit-*")
    files = (folder, *folder.iterdir(), *outputs.glob("jobs/*/*.json*"))
    return {bool(stat.S_IMODE(file.stat().st_mode) & 0o077) for file in files}


def table(outputs: Path) -> list[dict[str, str]]:
    (file,) = outputs.glob("reports/*/results.csv")
    return list(csv.DictReader(file.read_text().splitlines()))


def test_processes_share_a_grid_outlive_the_terminal_and_give_what_one_gives(
    tmp_path: Path, frozen: Callable[..., dict[str, Any]]
) -> None:
    detached = ("hydra.launcher.wait=false", "hydra.launcher.private=false")
    words = (*GRID, f"outputs={tmp_path / 'two'}", "hydra/launcher=local", *detached)
    terminal = subprocess.Popen(
        [sys.executable, "-m", "sweep", *words],
        start_new_session=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    said, _ = terminal.communicate()
    assert terminal.returncode == 0
    assert "submitted 2 jobs" in said
    assert re.search(r"\d queued|\d running", said)
    os.killpg(terminal.pid, signal.SIGHUP)  # which ends none of the jobs
    second = run(tmp_path / "two", "hydra/launcher=local")  # stays, and starts nothing twice
    assert second.returncode == 0, second.stderr
    assert "submitted" not in second.stdout
    assert "5 done" in second.stdout
    for cell in (tmp_path / "two" / "cells").iterdir():
        assert [file.name for file in (cell / "attempts").iterdir()] == ["001.json"]
    assert others_may_look(tmp_path / "two") == {True}

    points = [
        (f"method={m}", f"calib={c}") for m in ("wanda", "sparsegpt") for c in ("c4", "alpaca")
    ]
    sweep([frozen(*GRID[2:-1], *point, f"outputs={tmp_path / 'one'}") for point in points])
    two, one = table(tmp_path / "two"), table(tmp_path / "one")
    assert [row["cell"] for row in two] == [row["cell"] for row in one]
    # one thread each: sums in another order
    assert [float(row["perplexity"]) for row in two] == pytest.approx(
        [float(row["perplexity"]) for row in one], rel=1e-3
    )


def test_killed_processes_are_seen_and_their_cells_started_again(tmp_path: Path) -> None:
    small = ("metric=[perplexity]", "metric.perplexity.n_samples=4", "tracker=none")
    words = ("method=sparsegpt", "calib=c4", "calib.n_samples=128", *small, "hydra.launcher.jobs=1")
    start = (*words, "hydra/launcher=local")
    assert run(tmp_path, *start, "hydra.launcher.wait=false").returncode == 0
    assert others_may_look(tmp_path) == {False}  # as it is by itself
    deadline = time.monotonic() + 60
    while "running" not in status(tmp_path):
        assert time.monotonic() < deadline, status(tmp_path)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if any(str(tmp_path) in word for word in words) and int(process.name) != os.getpid():
            os.kill(int(process.name), signal.SIGKILL)
    time.sleep(1)
    text = status(tmp_path)
    assert "running" not in text
    assert "queued" not in text
    assert "missing" in text
    again = run(tmp_path, *start)
    assert again.returncode == 0, again.stderr
    assert status(tmp_path).endswith("2 done\n")


def test_what_is_submitted_is_listed_before_a_cell_has_begun_and_a_dry_run_writes_nothing(
    tmp_path: Path, frozen: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local.LocalJobs, "submit", lambda *_: iter(()))  # jobs that never come
    configs = [
        frozen(f"method={name}", *GRID[2:5], "name=trial") for name in ("wanda", "sparsegpt")
    ]
    outputs = tmp_path / "outputs"
    gc.disable()  # as the command does
    for dry_run in (True, False):
        submit(configs, "sweep_jobs.local.LocalJobs", {"wait": False, "dry_run": dry_run})
        assert gc.isenabled()
        assert (outputs / "reports").exists() != dry_run
    assert summary(standings(outputs)) == "3 missing"
    assert [one.status for one in entries.listed(outputs / "reports/trial")] == ["missing"] * 3
    assert entries.report_in(outputs / "reports/trial") == outputs / "reports/trial"


def test_settings_are_checked_by_name(tmp_path: Path) -> None:
    for word, said in (
        ("hydra.launcher.jobs=0", "hydra.launcher.jobs=0: must be at least 1"),
        ("hydra.launcher.jbs=3", "hydra.launcher.jbs=3: no such key; did you mean jobs? hydra"),
    ):
        done = run(tmp_path, "hydra/launcher=local", word)
        assert done.returncode == 1
        assert said in done.stderr
        assert "\n" not in done.stderr.strip()


def test_status_of_a_folder_without_cells_says_so(tmp_path: Path) -> None:
    done = forked(str(tmp_path), module="sweep.status")
    assert done.returncode == 1
    assert "holds no cells; give a folder of outputs" in done.stderr


def test_gpus_are_those_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert local._gpus() == ["2", "5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-8932f937,MIG-4ab1")
    assert local._gpus() == ["GPU-8932f937", "MIG-4ab1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert local._gpus() == []


@pytest.mark.parametrize(
    ("gpus", "shares"),
    [
        (["0", "1", "2", "3"], ["0,1,2,3"]),
        (["0", "1", "2", "3"], ["0,2", "1,3"]),
        (["0", "1", "2", "3"], ["0,3", "1", "2"]),
        (["2", "5"], ["2", "5", "2"]),
        ([], [None, None]),
    ],
)
def test_every_process_has_its_share_of_the_gpus(
    gpus: list[str],
    shares: list[str | None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A model that accelerate spreads is to find all that are its."""
    found: list[str | None] = []

    def submit(_: Any, job: PackJob) -> Any:
        found.append(job._environment().get("CUDA_VISIBLE_DEVICES"))
        return SimpleNamespace(job_id="1")

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(local, "_gpus", lambda: gpus)
    monkeypatch.setattr("submitit.LocalExecutor.submit", submit)
    jobs = local.LocalJobs(jobs=len(shares)).submit(tmp_path, "name", [], 0o077)
    assert list(jobs) == [[] for _ in shares]
    assert found == shares
