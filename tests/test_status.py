"""Where cells stand, by what is on disk and what SLURM says of the jobs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from sweep import slurm
from sweep.attempt import Attempt, take
from sweep.files import Folder
from sweep.slurm import Job
from sweep.status import Standing, standings, summary, told_apart

Given = Callable[..., None]


@pytest.fixture
def given(tmp_path: Path) -> Given:
    """Writes that a job was given a pack, as the launchers do."""

    def given(job: str, *cells: str, launcher: str = "slurm") -> None:
        folder = tmp_path / "jobs" / "sweep"
        folder.mkdir(parents=True, exist_ok=True)
        said = [{"id": name, "name": name, "metrics": {"m": "0"}, "keep": "none"} for name in cells]
        (folder / f"{job}-{launcher}.json").write_text(json.dumps({"cells": said}))
        line = {"job": job, "launcher": launcher, "when": time.time() - 9}
        line["folder"] = "submitit-1"
        line["pack"] = f"{job}-{launcher}.json"
        with (folder / "submitted-host-1.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    return given


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Has SLURM say in which states jobs are."""

    def says(**states: str) -> None:
        known = {id.removeprefix("job_"): Job(state) for id, state in states.items()}
        monkeypatch.setattr(slurm, "jobs", lambda ids: {i: known[i] for i in ids if i in known})
        monkeypatch.setattr(slurm, "is_here", lambda: bool(states))

    return says


def attempt(outputs: Path, cell: str, **said: Any) -> None:
    """A try at a cell by a process of another machine that is gone."""
    folder = outputs / "cells" / cell / "attempts"
    folder.mkdir(parents=True, exist_ok=True)
    whole = {**vars(Attempt(host="gone", boot="x", job=None)), "ended": None, **said}
    file = folder / f"{len(list(folder.iterdir())) + 1:03d}.json"
    file.write_text(json.dumps(whole))
    os.utime(file, (time.time() - 999,) * 2)


def about(outputs: Path, cell: str, metrics: Mapping[str, str]) -> None:
    """What the folder of a cell says that it is."""
    said: dict[str, Any] = {"compresses": True, "sparsity": "50%", "ratio": 0.5, "seed": 0}
    said |= dict.fromkeys(("model", "weights", "method", "calib"), cell)
    config: dict[str, Any] = {group: {} for group in ("model", "method", "sparsity", "calib")}
    config["keep"] = "none"
    Folder(outputs, cell).write_cell(cell, {}, metrics, config, said)


def done(outputs: Path, cell: str, layers: int) -> None:
    """The results of a cell that compresses so many layers."""
    folder = outputs / "cells" / cell
    (folder / "metrics").mkdir(parents=True)
    about(outputs, cell, {"m": "0"})
    record = {"sparsity": 0.5, "layers": [{}] * layers, "weights_sha256": "0", "calibration": None}
    (folder / "compression.json").write_text(json.dumps(record))
    result = {"settings_id": "0", "values": {}, "columns": [], "data": [], "rows": {}}
    (folder / "metrics" / "m.json").write_text(json.dumps(result))


def said(outputs: Path) -> Mapping[str, tuple[str, str]]:
    return {standing.name: (standing.state, standing.about) for standing in standings(outputs)}


def test_only_the_cell_that_a_dead_job_had_in_hand_is_blamed(
    tmp_path: Path, given: Given, says: Callable[..., None]
) -> None:
    given("43", "a", "b", "c")
    done(tmp_path, "a", 1)
    attempt(tmp_path, "a", job="43", ended="done")
    attempt(tmp_path, "b", job="43")
    says(job_43="OUT_OF_MEMORY")
    found = said(tmp_path)
    assert found["a"][0] == "done"
    assert found["b"][0] == "failed"
    assert found["b"][1].startswith("job 43: OUT_OF_MEMORY; raise hydra.launcher.mem_gb")
    assert found["c"] == ("missing", "m (job 43 ended OUT_OF_MEMORY before it came to it)")


def test_a_job_that_came_to_no_cell_has_failed_for_all_of_them(
    tmp_path: Path, given: Given, says: Callable[..., None]
) -> None:
    given("44_1", "a", "b")
    says(job_44_1="FAILED")
    assert {state for state, _ in said(tmp_path).values()} == {"failed"}
    assert all("44_1_0_log.err" in about for _, about in said(tmp_path).values())


@pytest.mark.parametrize(
    ("printed", "state", "shown"),
    [
        ("RuntimeError: CUDA out of memory", "CANCELLED", "CANCELLED"),
        ("RuntimeError: CUDA out of memory", "FAILED", "FAILED"),
        ("slurmstepd: error: Detected 1 oom_kill event in StepId=1", "CANCELLED", "CANCELLED"),
        (
            "slurmstepd-node1: error: StepId=1.0 exceeded memory limit (2 > 1)",
            "FAILED",
            "OUT_OF_MEMORY",
        ),
        ("srun: error: node1: task 0: Out Of Memory", "FAILED", "OUT_OF_MEMORY"),
    ],
)
def test_memory_is_blamed_where_slurm_does_so_and_not_a_cell(
    printed: str,
    state: str,
    shown: str,
    tmp_path: Path,
    given: Given,
    says: Callable[..., None],
) -> None:
    given("45", "a")
    log = tmp_path / "jobs" / "sweep" / "submitit-1" / "45_0_log.err"
    log.parent.mkdir()
    log.write_text(f"a\n{printed}\nz\n")
    says(job_45=state)
    assert said(tmp_path)["a"][1].startswith(f"job 45: {shown}")


def test_what_was_given_to_a_slurm_that_is_not_here_waits_for_nobody(
    tmp_path: Path, given: Given, says: Callable[..., None]
) -> None:
    given("20", "a")
    says()
    why = "was given to SLURM job 20, which cannot be asked from here"
    assert said(tmp_path)["a"] == ("missing", f"m ({why})")
    given("20", "b", launcher="local")  # a process that happens to have a job's number
    says(job_20="RUNNING")
    assert said(tmp_path)["b"] == ("missing", "m")


def test_a_job_that_is_ending_is_said_to_be(
    tmp_path: Path, given: Given, says: Callable[..., None]
) -> None:
    given("32", "a")
    says(job_32="COMPLETING")
    assert said(tmp_path)["a"] == ("queued", "job 32, which is ending")


def test_the_time_left_is_told_by_cells_that_compress_and_what_they_really_took(
    tmp_path: Path,
) -> None:
    done(tmp_path, "dense", 0)
    done(tmp_path, "wanda", 3)
    attempt(tmp_path, "dense", began=0.0, seen=1.0, ended="done")
    for took, how in ((30.0, "failed"), (40.0, "stopped"), (60.0, "done")):
        attempt(tmp_path, "wanda", began=0.0, seen=took, ended=how)
    found = {standing.name: standing for standing in standings(tmp_path)}
    assert found["dense"].seconds is None
    assert found["wanda"].seconds == 100
    queued = [Standing(str(i), str(i), "queued") for i in range(3)]
    assert "left" not in summary([found["dense"], *queued])
    one = Standing("r", "r", "running", seconds=40)
    assert summary([found["wanda"], one, *queued]).endswith("; about 6 min 0 s left")
    assert summary([found["wanda"], one, one, *queued]).endswith("; about 3 min 30 s left")


def test_a_cell_in_hand_has_taken_the_time_since_it_was_begun(tmp_path: Path) -> None:
    holding = take(tmp_path / "cells" / "a")
    assert holding is not None
    about(tmp_path, "a", {})
    with holding:
        (standing,) = standings(tmp_path)
        assert standing.state == "running"
        assert standing.seconds is not None
        assert 0 <= standing.seconds < 5


def test_help_is_help() -> None:
    words = [sys.executable, "-m", "sweep.status", "--help"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith("python -m sweep.status [FOLDER ...]")


def test_cells_of_one_label_are_told_apart_by_their_settings() -> None:
    def settings(fault: str) -> dict[str, Any]:
        return {"method.scope": "all", "method.fault": fault}

    cells = {
        "a": ("tiny-faulty-50-00000001", settings("kill")),
        "b": ("tiny-faulty-50-00000002", settings("none")),
        "c": ("tiny-faulty-60-00000003", settings("none")),
        "d": ("tiny-faulty-60-00000004", {}),
    }
    shown = told_apart(cells)
    assert shown["a"] == "tiny-faulty-50-00000001 (method.fault=kill)"
    assert shown["b"] == "tiny-faulty-50-00000002 (method.fault=none)"
    assert shown["c"] == "tiny-faulty-60-00000003"  # of the other nothing is known
    assert shown["d"] == "tiny-faulty-60-00000004"
    alone = told_apart({"a": cells["a"]})
    assert alone == {"a": "tiny-faulty-50-00000001"}
