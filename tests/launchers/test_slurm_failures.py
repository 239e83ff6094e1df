"""Cells, jobs and controllers that fail on a real SLURM: seen, named, tried again when asked."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.launchers.users import SMALL, Sweeps, jobs, states


def test_a_killed_or_failed_cell_does_not_take_its_pack_with_it(
    sweeps: Callable[[str], Sweeps],
) -> None:
    user = sweeps("user")
    grid = ("method=faulty", "method.fault=kill,raise,gpu,none", *SMALL)
    grid = (*grid, "hydra.launcher.cells_per_job=4", "hydra.launcher.wait=true")
    grid = (*grid, "hydra.launcher.gpus_per_node=1")
    said = user.said(*grid, code=1)
    (_, pack) = jobs(said)
    assert states(user.cluster, said)[pack] == "FAILED"
    assert "3 of 5 cells are not done" in said
    failed = [line for line in user.status().splitlines() if " failed " in line]
    assert len(failed) == 3
    for why in (
        "Killed: by signal 9 (SIGKILL); if memory ran out",
        "RuntimeError: as asked",
        "CUDA error",
    ):
        assert any(why in line and "log.txt" in line for line in failed)
    retried = user.said(*grid)
    assert len(jobs(retried)) == 1
    assert "5 done" in retried
    weights = {
        json.loads((cell / "compression.json").read_text())["weights_sha256"]
        for cell in (user.outputs / "cells").glob("*faulty*")
    }
    assert len(weights) == 1  # as if nothing had happened
    assert user.notes("gpu 0") + user.notes("gpu 1") > 0
    assert not user.notes("gpu None")


def test_a_dense_cell_whose_job_is_cancelled_is_run_once_by_the_jobs_that_wait_for_it(
    sweeps: Callable[[str], Sweeps],
) -> None:
    user = sweeps("user")
    submitted = user.said(
        "method=wanda,magnitude", *SMALL, "+hydra.launcher.additional_parameters.hold=true"
    )
    dense, *others = jobs(submitted)
    user.cluster.run("scancel", dense)
    user.cluster.run("scontrol", "release", others[0].split("_")[0])
    user.finish()
    assert "3 done" in user.status()
    for cell in (user.outputs / "cells").iterdir():
        assert [file.name for file in (cell / "attempts").iterdir()] == ["001.json"]


def test_cancelled_jobs_and_a_stopped_controller_are_shown_as_such(
    sweeps: Callable[[str], Sweeps],
) -> None:
    user = sweeps("user")
    words = ("method=wanda", *SMALL, "+hydra.launcher.additional_parameters.hold=true")
    user.said(*words)
    assert "2 queued" in user.status()
    user.cluster.stop("slurmctld")
    try:
        assert "2 queued" in user.status()  # as far as anybody knows
        refused = user.said("method=magnitude", *SMALL, code=1).splitlines()[-1]
        assert refused.startswith("sweep: hydra/launcher=slurm: sbatch refused it (")
        assert "magnitude" not in user.status()
    finally:
        user.cluster.start("slurmctld")
    assert "2 queued" in user.status()
    assert not jobs(user.said(*words))
    kept = user.said(*words, "keep=model")  # which no queued job will do
    assert len(jobs(kept)) == 1
    user.cluster.run("scancel", *jobs(kept))
    array = user.said("method=wanda", "sparsity.ratio=0.3,0.7", *words[1:])
    assert len({job.split("_")[0] for job in jobs(array)}) == 1
    user.cluster.run("scancel", "-u", "root")  # SLURM names the array then, and none of its jobs
    user.finish()
    assert user.status().count("CANCELLED; the same command submits it again") == 4
    assert len(jobs(user.said("method=wanda", *SMALL))) == 2
    user.finish()
    assert "2 done" in user.status()


def test_a_job_that_exceeds_its_memory_is_named_and_takes_no_other_cell_with_it_again(
    sweeps: Callable[[str], Sweeps],
) -> None:
    user = sweeps("user")
    words = ("method=faulty", "method.fault=memory,none", *SMALL, "hydra.launcher.cells_per_job=2")
    submitted = user.said(*words)
    user.finish()
    (_, job) = jobs(submitted)
    assert states(user.cluster, submitted)[job] in ("FAILED", "OUT_OF_MEMORY")
    status = user.status()
    assert "1 done, 1 failed, 1 missing" in status
    assert f"job {job}: OUT_OF_MEMORY; raise hydra.launcher.mem_gb" in status
    assert f"(job {job} ended OUT_OF_MEMORY before it came to it)" in status
    again = user.said(*words)
    assert len(jobs(again)) == 2  # the one that was in hand is by itself
    user.finish()
    assert "3 done" in user.status()


def test_a_cell_that_failed_is_not_tried_again_by_the_requeued_job_of_its_pack(
    sweeps: Callable[[str], Sweeps],
) -> None:
    user = sweeps("user")
    user.pauses = {"LAYER_PAUSE": "0.2"}
    grid = ("method=faulty", "method.fault=raise,none", *SMALL, "hydra.launcher.cells_per_job=2")
    submitted = user.said(*grid)
    (_, pack) = jobs(submitted)
    user.wait(lambda: user.notes("layer none") >= 8)
    assert "1 running, 1 failed" in user.status()  # and not when the pack has ended
    user.cluster.run("scancel", "--signal=USR2", pack)
    user.finish()
    assert states(user.cluster, submitted)[pack] == "FAILED"
    assert user.notes("layer raise") == 10
    assert "2 done, 1 failed" in user.status()
    user.pauses = {}
    assert "RuntimeError: as asked" in user.said(*grid)
    user.finish()
    assert "3 done" in user.status()
