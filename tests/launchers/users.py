"""Users of a cluster: what they type, what they see, and what is left in their folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from launchers.testbed.slurm import Cluster
from sweep.slurm import expanded

SMALL = (
    "calib.n_samples=8",
    "metric=[perplexity,divergence]",
    "metric.perplexity.n_samples=8",
    "metric.divergence.n_samples=8",
    "tracker=none",
    "report=table",
    f"hydra.launcher.cpus_per_task={torch.get_num_threads()}",  # sums in the order of `here`
    "hydra.launcher.mem_gb=2",
)
STAND_INS = ("corpora=embedded", "seqlen=256")
"""What `model=tiny` brings, for a model with another name."""

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
        paths = [str(self.folder / "modules"), os.environ.get("PYTHONPATH", "")]
        own = {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
        own["NOTES"] = str(self.folder / "notes")
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
        files = sorted(self.outputs.glob("jobs/*/submitit-*/*.err"))
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


def jobs(said: str) -> list[str]:
    found = re.search(r"submitted \d+ jobs?: (.*)", said)
    return [job for ids in found[1].split() for job in expanded(ids)] if found else []


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
