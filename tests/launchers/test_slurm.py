"""`hydra/launcher=slurm` against a real SLURM: nothing lost, nothing computed twice."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sweep.model.embedded import WEIGHTS
from tests.launchers.users import SMALL, STAND_INS, Sweeps, jobs, same, states
from tests.loopback_hub import LoopbackHub


def test_the_demo_grid_gives_what_it_gives_here_and_is_not_run_again(
    sweeps: Callable[[str], Sweeps],
) -> None:
    grid = ("method=sparsegpt,wanda", "calib=c4,alpaca", *SMALL)
    user = sweeps("slurm")
    plan = user.said(*grid, "hydra.launcher.dry_run=true")
    assert "dry run: 5 cells in 5 jobs" in plan
    assert "pack 0: tiny-dense" in plan
    assert not user.cluster.run("squeue", "-h")
    assert not (user.outputs / "jobs").exists()

    submitted = user.said(*grid)
    assert len(jobs(submitted)) == 5
    again = user.said(*grid)
    assert not jobs(again)
    user.finish()
    assert set(states(user.cluster, submitted).values()) == {"COMPLETED"}

    here = sweeps("here")
    plain = tuple(word for word in grid if "hydra.launcher." not in word)
    here.said(*plain, launcher="here")
    same(user.results(), here.results())
    for cell in (user.outputs / "cells").iterdir():
        assert [file.name for file in (cell / "attempts").iterdir()] == ["001.json"]

    done = user.said(*grid)
    assert not jobs(done)
    assert "5 done" in done
    assert "sparsegpt" in done  # the table is there
    (user.cell("wanda-50-alpaca") / "metrics" / "divergence.json").unlink()
    assert "tiny-wanda-50-alpaca" in user.status()
    assert "1 missing" in user.status()
    assert len(jobs(user.said(*grid))) == 1
    user.finish()
    same(user.results(), here.results())


def test_what_is_queued_does_not_change_with_a_yaml_and_an_array_may_be_long(
    sweeps: Callable[[str], Sweeps],
) -> None:
    user = sweeps("user")
    (user.folder / "conf" / "method" / "mine.yaml").write_text(
        "_target_: sweep.method.wanda.Wanda\nscope: attention\n"
    )
    submitted = user.said(
        "method=mine",
        "sparsity.ratio=0.1,0.2,0.3,0.4,0.5,0.6,0.7",
        *SMALL,
        "hydra.launcher.array_parallelism=4",
        "+hydra.launcher.additional_parameters.hold=true",
    )
    assert {job.split("_")[0] for job in jobs(submitted)} == {
        *(str(int(jobs(submitted)[0]) + i) for i in range(3)),
    }  # dense, an array of five, one of two
    assert len(jobs(submitted)) == 8
    throttles = [
        re.search(r"ArrayTaskThrottle=(\d+)", user.cluster.run("scontrol", "show", "job", array))
        for array in sorted({job.split("_")[0] for job in jobs(submitted)}, key=int)
    ]
    assert [found and found[1] for found in throttles[1:]] == ["3", "1"]  # of the four allowed
    user.wait(lambda: "JobHeldUser" in user.status(), 30)
    (user.folder / "conf" / "method" / "mine.yaml").write_text("broken: [\n")
    for job in {job.split("_")[0] for job in jobs(submitted)}:
        user.cluster.run("scontrol", "release", job)
    user.finish()
    assert "8 done" in user.status()
    compression = json.loads((user.cell("mine-10-") / "compression.json").read_text())
    assert {"self_attn" in layer["name"] for layer in compression["layers"]} == {True}


def test_two_launches_at_once_compute_every_cell_once(
    sweeps: Callable[[str], Sweeps], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "1")  # as from inside of an interactive job, whose
    monkeypatch.setenv("SBATCH_PARTITION", "nowhere")  # settings are not meant for others
    user = sweeps("user")
    both = [user.start("method=wanda,sparsegpt,magnitude", *SMALL) for _ in range(2)]
    said = [process.communicate(timeout=100) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    user.finish()
    cells = sorted((user.outputs / "cells").iterdir())
    assert len(cells) == 4
    for cell in cells:
        assert [file.name for file in (cell / "attempts").iterdir()] == ["001.json"]
    assert "4 done" in user.status()


def test_a_job_holds_no_secret_and_is_private(
    sweeps: Callable[[str], Sweeps], monkeypatch: pytest.MonkeyPatch
) -> None:
    user = sweeps("user")
    secrets = {"WANDB_API_KEY": "5ecret" + "0" * 34, "HF_TOKEN": "hf_5ecret0000000000"}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    small = tuple(word for word in SMALL if word != "tracker=none")
    user.said("method=wanda", *small)
    user.finish()
    assert "2 done" in user.status()
    assert list(user.outputs.glob("wandb/wandb/offline-run-*"))
    files = [file for file in user.outputs.rglob("*") if file.is_file()]
    assert len(files) > 20
    for file in files:
        assert b"5ecret" not in file.read_bytes(), file
    (private,) = user.outputs.glob("jobs/*/submitit-*")
    for path in (private, *private.rglob("*"), *user.outputs.glob("jobs/*/*.json*")):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
    for file in user.outputs.glob("cells/**/*.json"):  # results are like any other file
        assert stat.S_IMODE(file.stat().st_mode) & 0o044 == 0o044, file
    assert not list(user.outputs.rglob("multirun.yaml"))  # lines of `setup` would be in it
    scripts = [file.read_text() for file in private.glob("*_submission.sh")]
    assert len(scripts) == 2
    for script in scripts:  # srun does not inherit it
        assert re.search(r"^srun .*--cpus-per-task=\d", script, re.MULTILINE)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """The embedded model under other names, and an empty cache."""
    repos = {"made/tiny": WEIGHTS, "meta-llama/Llama-2-7b-hf": WEIGHTS}
    with LoopbackHub(repos).listening() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        yield hub


def test_jobs_do_without_the_hub_and_say_what_would_fetch_what_they_miss(
    sweeps: Callable[[str], Sweeps], hub: LoopbackHub
) -> None:
    user = sweeps("user")
    words = ("model=hub", "model.repo=made/tiny", *STAND_INS, "method=magnitude", *SMALL)
    user.said(*words)  # fetches it
    asked = len(hub.asked)
    assert asked
    user.finish()
    assert len(hub.asked) == asked
    assert "2 done" in user.status()
    words = (*words, "sparsity.ratio=0.7", "hydra.launcher.setup=['export HF_HOME=/nowhere']")
    user.said(*words)
    user.finish()
    (failed,) = (line for line in user.status().splitlines() if " failed " in line)
    assert "Refusal: model.repo=made/tiny: is not in /nowhere, and HF_HUB_OFFLINE is set" in failed
    assert "python -m sweep.fetch with these words fetches it where there is a network" in failed


def test_the_readmes_example_is_planned_as_it_says(
    sweeps: Callable[[str], Sweeps], hub: LoopbackHub
) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    example = readme.split("<!-- cluster -->")[1].split("<!-- /cluster -->")[0]
    _, command = example.replace("\\\n", " ").split("    python -m sweep ")
    words = [word for word in command.split() if word not in ("-m", "hydra/launcher=slurm")]
    said = sweeps("user").said(*words, *STAND_INS, "hydra.launcher.dry_run=true")
    assert "dry run: 16 cells in 6 jobs" in said
    assert "It is 16 cells" in readme
    assert "in 6 jobs" in readme


def test_one_wrong_cell_and_nothing_is_queued(sweeps: Callable[[str], Sweeps]) -> None:
    user = sweeps("user")
    said = user.said("method=wanda", "sparsity.ratio=0.5,1.5", *SMALL, code=1)
    assert said.splitlines()[-1].startswith("sweep: sparsity.ratio=1.5: the share of zeros")
    assert not user.cluster.run("squeue", "-h")
    assert not (user.outputs / "jobs").exists()
    refused = user.said("method=wanda", *SMALL, "hydra.launcher.partition=nope", code=1)
    assert "sbatch refused it (invalid partition specified: nope; Batch job" in refused
    assert "it was asked for partition=nope, cpus_per_task=" in refused
    assert not (user.outputs / "jobs").exists()  # nothing is left of it


def test_without_sbatch_the_launcher_is_refused_by_name(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sweep", "hydra/launcher=slurm", f"outputs={tmp_path}", "-m"]
    done = subprocess.run(
        command, env={**os.environ, "PATH": ""}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("sweep: hydra/launcher=slurm: there is no sbatch on this machine")
