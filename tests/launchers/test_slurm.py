"""`hydra/launcher=slurm` against a real SLURM: nothing lost, nothing computed twice."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from launchers.testbed.slurm import Cluster

SMALL = (
    "calib.n_samples=8",
    "metric=[perplexity,divergence]",
    "metric.perplexity.n_samples=8",
    "metric.divergence.n_samples=8",
    "tracker=none",
    "hydra.launcher.cpus_per_task=2",
    "hydra.launcher.mem_gb=2",
)
FAULTS = Path(__file__).with_name("faults.py")


@dataclass
class Sweeps:
    """Commands of a user on the login node of the cluster."""

    cluster: Cluster
    folder: Path
    pauses: Mapping[str, str] = field(default_factory=dict)

    @property
    def outputs(self) -> Path:
        return self.folder / "outputs"

    def start(self, *words: str, launcher: str = "slurm") -> subprocess.Popen[str]:
        given = [f"outputs={self.outputs}", f"hydra/launcher={launcher}", *words, "-m"]
        command = [sys.executable, "-m", "sweep", "--config-dir", str(self.folder / "conf"), *given]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def environment(self) -> dict[str, str]:
        own = {"PYTHONPATH": str(self.folder / "modules"), "NOTES": str(self.folder / "notes")}
        return {**os.environ, **self.cluster.environment, **own, **self.pauses}

    def notes(self, what: str) -> int:
        """How many steps of a kind were noted."""
        file = self.folder / "notes"
        return file.read_text().splitlines().count(what) if file.is_file() else 0

    def said(self, *words: str, launcher: str = "slurm", code: int = 0) -> str:
        """What the command prints."""
        with self.start(*words, launcher=launcher) as process:
            out, err = process.communicate(timeout=200)
        assert process.returncode == code, out + err
        return out + err

    def status(self) -> str:
        command = [sys.executable, "-m", "sweep.status", str(self.outputs)]
        done = subprocess.run(
            command, env=self.environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == (" failed" in done.stdout.splitlines()[-1]), done.stderr
        return done.stdout

    def wait(self, until: Callable[[], Any], seconds: float = 150) -> Any:
        """Until something is true; it."""
        end = time.monotonic() + seconds
        while not (found := until()):
            assert time.monotonic() < end, self.status() + self.logs()
            time.sleep(0.3)
        return found

    def finish(self) -> None:
        """Until no job is left."""
        self.wait(lambda: not self.cluster.run("squeue", "-h"))

    def logs(self) -> str:
        files = sorted(self.outputs.glob("jobs/*/submitit/*.err"))
        return "".join(f"== {file}\n{file.read_text()[-1500:]}" for file in files)

    def results(self) -> dict[str, Any]:
        """All that the cells' files say, without the time of day and the machine."""
        found: dict[str, Any] = {}
        for file in sorted(self.outputs.glob("cells/*/**/*.json*")):
            if file.parent.name != "attempts":
                lines = file.read_text().splitlines() if file.suffix == ".jsonl" else None
                content = [json.loads(x) for x in lines] if lines else json.loads(file.read_text())
                if isinstance(content, dict):
                    del content["seconds"]
                found[str(file.relative_to(self.outputs))] = content
        return found

    def cell(self, name: str) -> Path:
        (cell,) = (self.outputs / "cells").glob(f"*{name}*")
        return cell


def prepared(cluster: Cluster, folder: Path) -> Sweeps:
    """A folder of a user who has a method and a metric of his own."""
    options = {
        "method/faulty.yaml": "_target_: faults.Faulty\nfault: none\nscope: all\n",
        "metric/slow.yaml": "slow: {_target_: faults.Slow, source: c4, n_samples: 4, seqlen: null}",
    }
    for name, text in options.items():
        file = folder / "conf" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (folder / "modules").mkdir()
    shutil.copy(FAULTS, folder / "modules")
    return Sweeps(cluster, folder)


@pytest.fixture
def sweeps(cluster: Cluster, tmp_path: Path) -> Iterator[Callable[[str], Sweeps]]:
    """Sweeps in a folder of their own; the cluster is empty again afterwards."""

    def sweeps(name: str) -> Sweeps:
        return prepared(cluster, tmp_path / name)

    yield sweeps
    subprocess.run(
        ["scancel", "--full", "--signal=KILL", "-u", "root"],
        env={**os.environ, **cluster.environment},
        check=False,
    )
    cluster.run("scancel", "-u", "root")
    end = time.monotonic() + 60
    while cluster.run("squeue", "-h") and time.monotonic() < end:
        time.sleep(0.2)


def jobs(said: str) -> list[str]:
    found = re.search(r"submitted \d+ jobs?: (.*)", said)
    return found[1].split() if found else []


def states(cluster: Cluster, said: str) -> dict[str, str]:
    """What accounting says of the jobs, once it has heard of their end."""
    names = ",".join(sorted({job.split("_")[0] for job in jobs(said)}))
    end = time.monotonic() + 30
    while True:
        lines = cluster.run("sacct", "-n", "-P", "-X", "-o", "JobID,State", "-j", names).split("\n")
        found = {job: state.split()[0] for job, state in (line.split("|") for line in lines)}
        over = not set(found.values()) & {"RUNNING", "PENDING", "REQUEUED"}
        if over or time.monotonic() > end:
            return {job: found[job] for job in jobs(said)}
        time.sleep(0.5)


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Equal files with equal numbers; hosts and the like may differ."""

    def bare(results: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: {k: v for k, v in content.items() if k != "environment"}
            if isinstance(content, dict)
            else content
            for name, content in results.items()
        }

    assert bare(one) == bare(other)


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
        "+hydra.launcher.additional_parameters.hold=true",
    )
    assert {job.split("_")[0] for job in jobs(submitted)} == {
        *(str(int(jobs(submitted)[0]) + i) for i in range(3)),
    }  # dense, an array of five, one of two
    assert len(jobs(submitted)) == 8
    user.wait(lambda: "JobHeldUser" in user.status(), 30)
    (user.folder / "conf" / "method" / "mine.yaml").write_text("broken: [\n")
    for job in {job.split("_")[0] for job in jobs(submitted)}:
        user.cluster.run("scontrol", "release", job)
    user.finish()
    assert "8 done" in user.status()
    compression = json.loads((user.cell("mine-10-") / "compression.json").read_text())
    assert {"self_attn" in layer["name"] for layer in compression["layers"]} == {True}


def test_a_killed_or_failed_cell_does_not_take_its_pack_with_it(
    sweeps: Callable[[str], Sweeps],
) -> None:
    user = sweeps("user")
    grid = ("method=faulty", "method.fault=kill,raise,none", *SMALL)
    grid = (*grid, "hydra.launcher.cells_per_job=3", "hydra.launcher.wait=true")
    said = user.said(*grid, code=1)
    (_, pack) = jobs(said)
    assert states(user.cluster, said)[pack] == "FAILED"
    assert "2 of 4 cells are not done" in said
    failed = [line for line in user.status().splitlines() if " failed " in line]
    assert len(failed) == 2
    for why in ("Killed: by signal 9 (SIGKILL); if memory ran out", "RuntimeError: as asked"):
        assert any(why in line and "log.txt" in line for line in failed)
    retried = user.said(*grid)
    assert len(jobs(retried)) == 1
    assert "4 done" in retried
    weights = {
        json.loads((cell / "compression.json").read_text())["weights_sha256"]
        for cell in (user.outputs / "cells").glob("*faulty*")
    }
    assert len(weights) == 1  # as if nothing had happened


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
        slow = {"LAYER_PAUSE": "1.5"}
    user.pauses = slow
    limits = () if how == "timeout" else ("hydra.launcher.timeout_min=9",)
    if how == "long":  # a block takes ten times the notice
        limits = (*limits, "hydra.launcher.signal_delay_s=21")
    (job,) = jobs(user.said(*STOPPED, *limits))
    user.wait(lambda: user.notes(where) >= 8)
    if how in ("signal", "long"):
        user.cluster.run("scancel", "--signal=USR2", job)
    if how == "preempt":
        user.cluster.run("srun", "--partition=urgent", "--cpus-per-task=4", "true")
    if how == "term":
        user.cluster.run("scancel", "--signal=TERM", job)
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


def test_a_cell_that_failed_is_not_tried_again_by_the_requeued_job_of_its_pack(
    sweeps: Callable[[str], Sweeps],
) -> None:
    user = sweeps("user")
    user.pauses = {"LAYER_PAUSE": "0.2"}
    grid = ("method=faulty", "method.fault=raise,none", *SMALL, "hydra.launcher.cells_per_job=2")
    submitted = user.said(*grid)
    (_, pack) = jobs(submitted)
    user.wait(lambda: user.notes("layer none") >= 8)
    user.cluster.run("scancel", "--signal=USR2", pack)
    user.finish()
    assert states(user.cluster, submitted)[pack] == "FAILED"
    assert user.notes("layer raise") == 10
    assert "2 done, 1 failed" in user.status()
    user.pauses = {}
    assert "RuntimeError: as asked" in user.said(*grid)
    user.finish()
    assert "3 done" in user.status()


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
    submitted = user.said(*words)
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
    user.cluster.run("scancel", *jobs(submitted), *jobs(kept))
    user.finish()
    user.wait(lambda: user.status().count("CANCELLED") == 2)
    assert user.status().count("CANCELLED; the same command submits it again") == 2
    assert len(jobs(user.said("method=wanda", *SMALL))) == 2
    user.finish()
    assert "2 done" in user.status()


def test_two_launches_at_once_compute_every_cell_once(sweeps: Callable[[str], Sweeps]) -> None:
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


def test_a_job_that_exceeds_its_memory_is_named(sweeps: Callable[[str], Sweeps]) -> None:
    user = sweeps("user")
    words = ("method=faulty", "method.fault=memory")
    submitted = user.said(*words, *SMALL)
    user.finish()
    assert states(user.cluster, submitted)[jobs(submitted)[-1]] in ("FAILED", "OUT_OF_MEMORY")
    status = user.status()
    assert "1 failed" in status
    assert "OUT_OF_MEMORY; raise hydra.launcher.mem_gb" in status
    assert len(jobs(user.said(*words, *SMALL))) == 1
    user.finish()
    assert "2 done" in user.status()


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
    for path in (user.outputs / "jobs").rglob("*"):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


def test_without_sbatch_the_launcher_is_refused_by_name(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sweep", "hydra/launcher=slurm", f"outputs={tmp_path}", "-m"]
    done = subprocess.run(
        command, env={**os.environ, "PATH": ""}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("sweep: hydra/launcher=slurm: there is no sbatch on this machine")
