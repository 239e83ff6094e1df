"""Jobs that a real SLURM stops: they go on where they were, and come to the same results."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable

import pytest

from launchers.testbed.slurm import Cluster
from tests.launchers.users import SMALL, Sweeps, jobs, prepared, same


@pytest.fixture(scope="module")
def whole(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Sweeps:
    """The grid of the following tests, without anything happening to it."""
    whole = prepared(cluster, tmp_path_factory.mktemp("whole"))
    plain = tuple(word for word in STOPPED if "hydra.launcher." not in word)
    whole.said(*plain, launcher="here")
    return whole


STOPPED = (
    "method=faulty",
    *(word.replace("perplexity", "slow") for word in SMALL),
    "hydra.launcher.timeout_min=1",
    "hydra.launcher.signal_delay_s=50",
    "hydra.launcher.max_num_timeout=30",  # a busy machine may need a minute to begin
)


@pytest.mark.parametrize(
    ("where", "how"),
    [
        ("layer none", "requeue"),
        ("layer none", "signal"),
        ("layer none", "preempt"),
        ("layer none", "term"),
        ("start", "term"),
        ("start", "signal"),
        ("layer none", "timeout"),
        ("layer none", "long"),
        ("layer none", "node"),
        ("step", "requeue"),
    ],
)
def test_a_job_that_is_stopped_goes_on_where_it_was(
    where: str, how: str, whole: Sweeps, sweeps: Callable[[str], Sweeps]
) -> None:
    user = sweeps("user")
    (dense,) = (whole.outputs / "cells").glob("*dense*")
    shutil.copytree(dense, user.outputs / "cells" / dense.name)
    slow = {"LAYER_PAUSE": "0.2"} if where != "step" else {"STEP_PAUSE": "0.6"}
    if how in ("timeout", "long"):
        slow = {"LAYER_PAUSE": "1.5" if how == "timeout" else "0.6"}
    user.pauses = slow
    limits = () if how == "timeout" else ("hydra.launcher.timeout_min=9",)
    if how == "long":  # a block takes four times the notice
        limits = (*limits, "hydra.launcher.signal_delay_s=21")
    (job,) = jobs(user.said(*STOPPED, *limits))
    if where == "start":  # the worker does not listen yet
        user.wait(lambda: "RUNNING" in user.cluster.run("squeue", "-h", "-o", "%T"))
    else:
        user.wait(lambda: user.notes(where) >= 8)
    if how in ("signal", "long"):
        user.cluster.run("scancel", "--signal=USR2", job)
    if how == "preempt":
        user.cluster.run("srun", "--partition=urgent", "--cpus-per-task=4", "true")
    if how == "term":
        user.cluster.run("scancel", "--signal=TERM", job)
    if how == "term" and where == "start":
        time.sleep(3)
    elif how == "term":
        user.wait(lambda: '"stopped"' in (user.cell("faulty") / "attempts/001.json").read_text())
    if how in ("requeue", "term"):
        user.cluster.run("scontrol", "requeue", job)
    if how == "node":
        user.cluster.kill_node()
        user.cluster.run("scontrol", "update", "nodename=testbed", "state=down", "reason=test")
        user.cluster.start("slurmd")
    user.finish()
    asked = ("sacct", "-n", "-X", "-P", "-o", "State", "-j", job)  # which hears of it later
    user.wait(lambda: set(user.cluster.run(*asked).split()) == {"COMPLETED"}, 30)
    attempts = sorted((user.cell("faulty") / "attempts").iterdir())
    ended = [json.loads(file.read_text())["ended"] for file in attempts]
    assert ended[-1] == "done"
    if where == "start":  # whether the cell was begun before the signal came is not known
        assert set(ended[:-1]) <= {"stopped"}
    else:
        assert set(ended[:-1]) == {None if how in ("node", "long") else "stopped"}
    compression = json.loads((user.cell("faulty") / "compression.json").read_text())
    if how not in ("node", "long"):  # finished blocks are not compressed again
        assert user.notes("layer none") == len(compression["layers"])
    same(user.results(), whole.results())


def test_a_job_that_was_timed_out_too_often_is_named_and_goes_on_when_asked(
    whole: Sweeps, sweeps: Callable[[str], Sweeps]
) -> None:
    user = sweeps("user")
    user.pauses = {"LAYER_PAUSE": "0.2"}
    limits = ("hydra.launcher.timeout_min=9", "hydra.launcher.max_num_timeout=0")
    (_, job) = jobs(user.said(*STOPPED, *limits))
    user.wait(lambda: user.notes("layer none") >= 8)
    user.cluster.run("scancel", "--signal=USR2", job)
    user.finish()
    user.wait(lambda: "TIMEOUT; the same command goes on" in user.status(), 30)
    user.pauses = {}
    again = user.said(*STOPPED, *limits)
    assert "failed before, submitted again: tiny-faulty" in again
    assert len(jobs(again)) == 1
    user.finish()
    compression = json.loads((user.cell("faulty") / "compression.json").read_text())
    assert user.notes("layer none") == len(compression["layers"])
    same(user.results(), whole.results())
