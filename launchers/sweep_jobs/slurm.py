"""Packs as SLURM job arrays, through submitit."""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from sweep.refusal import Refusal
from sweep.slurm import max_array_size
from sweep_jobs.job import PackJob
from sweep_jobs.submit import Given, Submitter

log = logging.getLogger("sweep")

MARGIN = 20
"""Seconds of the notice of a job's end that are left for having it queued again."""

TOLD_TOO_EARLY = (
    "code=$?; [ $code -eq 140 ] && [ ${{SLURM_RESTART_COUNT:-0}} -lt {restarts} ]"
    " && scontrol requeue $SLURM_JOB_ID; exit $code"
)
"""After the job: it is queued again if it died of USR2, which came before it could listen, and was
not started again as often before as it may go on after a time-out."""

SMALLEST = 0.001
"""GB that are not rounded to 0 MB, by which SLURM understands all that a node has."""

USUAL = 1001
"""SLURM's own limit of an array, where nobody has set another."""


@dataclass(frozen=True)
class SlurmJobs(Submitter):
    """How jobs are asked for; None leaves it to the cluster.

    Attributes:
        partition, qos, account, constraint, gres, nodes, cpus_per_task, gpus_per_node: as sbatch's.
        mem_gb: of a node.
        timeout_min: of a job; a job that needs longer goes on in the next, `max_num_timeout` times.
        signal_delay_s: how long before its end a job is told of it.
        array_parallelism: how many jobs run at once; where a sweep has several arrays, because one
            would be larger than the cluster allows, each has its share, and at least one.
        max_array_size: jobs of an array, if fewer than the cluster allows, or where `scontrol`
            does not tell what that is.
        setup: lines of shell before the job.
        srun_args, additional_parameters: handed on to srun and to sbatch.
        cells_per_job: cells of one model that run in one job and share what is loaded.
        wait: stay until everything is done.
        dry_run: say what would be submitted, and submit nothing.
        offline: jobs ask neither the hub nor W&B for anything.
        private: only the owner may read what is written for the jobs.
    """

    kind: ClassVar[str] = "slurm"
    partition: str | None = None
    qos: str | None = None
    account: str | None = None
    constraint: str | None = None
    gpus_per_node: int | None = None
    gres: str | None = None
    cpus_per_task: int | None = None
    mem_gb: float | None = None
    timeout_min: int = 240
    nodes: int = 1
    array_parallelism: int = 256
    max_num_timeout: int = 3
    signal_delay_s: int = 120
    setup: list[str] = field(default_factory=list)
    srun_args: list[str] = field(default_factory=list)
    additional_parameters: dict[str, Any] = field(default_factory=dict)
    max_array_size: int | None = None
    cells_per_job: int = 1
    wait: bool = False
    dry_run: bool = False
    offline: bool = True
    private: bool = True

    def __post_init__(self) -> None:
        """Raises: Refusal: a number out of range."""
        for name in (
            "cells_per_job",
            "cpus_per_task",
            "timeout_min",
            "nodes",
            "array_parallelism",
            "max_array_size",
        ):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise Refusal(name, getattr(self, name), "must be at least 1")
        for name in ("max_num_timeout", "signal_delay_s", "gpus_per_node"):
            if getattr(self, name) is not None and getattr(self, name) < 0:
                raise Refusal(name, getattr(self, name), "must not be negative")
        if self.mem_gb is not None and self.mem_gb < SMALLEST:
            reason = f"must be at least {SMALLEST}; null leaves it to the cluster"
            raise Refusal("mem_gb", self.mem_gb, reason)
        if self.nodes > 1:
            raise Refusal("nodes", self.nodes, "a cell runs on one node")
        if self.signal_delay_s >= 60 * self.timeout_min:
            reason = f"must be less than timeout_min={self.timeout_min} (in seconds)"
            raise Refusal("signal_delay_s", self.signal_delay_s, reason)

    def check(self) -> None:
        """See `Submitter`."""
        if (self.gpus_per_node or 0) > 1:
            many = self.gpus_per_node
            said = "a cell uses one, several only with model.device_map; others idle"
            log.warning("hydra.launcher.gpus_per_node=%d: %s", many, said)
        for command in ("sbatch", "srun"):
            if shutil.which(command) is None:
                reason = f"there is no {command} on this machine; use here or local"
                raise Refusal("hydra/launcher", "slurm", reason)

    def describe(self, packs: int) -> str:
        """See `Submitter`."""
        size = self._array_size()
        return f"{packs} jobs, arrays of at most {size}, {self.array_parallelism} at once"

    def submit(
        self, folder: Path, name: str, given: Sequence[Given], umask: int
    ) -> Iterator[list[tuple[str, Path]]]:
        """See `Submitter`: packs that others wait for, then arrays that depend on their jobs.

        Raises:
            Refusal: SLURM's own, of what it was asked for.
        """
        awaited = {one.after for one in given}
        job_of: dict[Path, str] = {}
        for phase in (
            [one for one in given if one.path in awaited],
            [one for one in given if one.path not in awaited],
        ):
            groups: dict[tuple[str, ...], list[Path]] = {}
            for one in phase:
                needs = one.jobs if one.after is None else (job_of[one.after],)
                groups.setdefault(needs, []).append(one.path)
            size = self._array_size()
            arrays = [
                (needs, group[start : start + size])
                for needs, group in groups.items()
                for start in range(0, len(group), size)
            ]
            at_once = shares(self.array_parallelism, [len(array) for _, array in arrays])
            for (needs, array), share in zip(arrays, at_once, strict=True):
                pack_jobs = [
                    PackJob([str(path)], self.offline, umask, notice=self._notice())
                    for path in array
                ]
                ids = self._array(folder, pack_jobs, self._parameters(name, needs, share))
                jobs = list(zip(ids, array, strict=True))
                job_of |= {path: job for job, path in jobs}
                yield jobs

    def _array(
        self, folder: Path, jobs: Sequence[PackJob], parameters: Mapping[str, Any]
    ) -> list[str]:
        """Submit one; the ids of its jobs.

        Raises:
            Refusal: SLURM's own, of what it was asked for.
        """
        from submitit import SlurmExecutor
        from submitit.core.utils import FailedJobError

        executor = SlurmExecutor(folder, max_num_timeout=self.max_num_timeout)
        executor.update_parameters(**parameters)
        try:
            with _outside_of_jobs(), executor.batch():
                submitted = [executor.submit(job) for job in jobs]
        except FailedJobError as error:
            said = re.findall(r"error: (.*\S)", str(error)) or str(error).split("\n")
            asked = ", ".join(
                f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
                for key, value in self._asked().items()
            )
            reason = f"sbatch refused it ({'; '.join(said)}); it was asked for {asked}"
            raise Refusal("hydra/launcher", "slurm", reason) from error
        return [job.job_id for job in submitted]

    def _asked(self) -> dict[str, Any]:
        """What sbatch may refuse, as it was set."""
        names = "partition qos account constraint gres gpus_per_node cpus_per_task mem_gb"
        given = {name: getattr(self, name) for name in (*names.split(), "timeout_min")}
        given |= self.additional_parameters
        return {name: value for name, value in given.items() if value is not None}

    def _notice(self) -> int:
        """Seconds that a worker has to stop in."""
        return max(1, self.signal_delay_s - MARGIN)

    def _parameters(self, name: str, needs: Sequence[str], at_once: int) -> dict[str, Any]:
        """In the words of submitit's executor, without what is left to the cluster."""
        names = "partition qos account constraint gres gpus_per_node nodes cpus_per_task"
        names += " signal_delay_s"
        # since SLURM 22.05 srun does not inherit it from sbatch
        own = [] if self.cpus_per_task is None else [f"--cpus-per-task={self.cpus_per_task}"]
        given: dict[str, Any] = {key: getattr(self, key) for key in names.split()}
        given |= {
            "job_name": name,
            "time": self.timeout_min,
            "ntasks_per_node": 1,
            "mem": None if self.mem_gb is None else f"{round(1024 * self.mem_gb)}M",
            "setup": self.setup or None,
            "teardown": [TOLD_TOO_EARLY.format(restarts=self.max_num_timeout)],
            "array_parallelism": at_once,
            "srun_args": [*own, *self.srun_args] or None,
            "dependency": f"afterany:{':'.join(needs)}" if needs else None,
            "additional_parameters": {"requeue": True, **self.additional_parameters},
        }
        return {key: value for key, value in given.items() if value is not None}

    def _array_size(self) -> int:
        """The smaller of what is set and what the cluster allows, as far as they are known."""
        known = [size for size in (self.max_array_size, max_array_size()) if size is not None]
        return max(1, min(known, default=USUAL))


def shares(at_once: int, lengths: Sequence[int]) -> list[int]:
    """How many jobs of each array may run at once: by their lengths, at least one each."""
    if not lengths:
        return []
    whole = [max(1, at_once * length // sum(lengths)) for length in lengths]
    left = at_once - sum(whole)
    longest = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    for i in longest[: max(0, left)]:
        whole[i] += 1
    return whole


@contextmanager
def _outside_of_jobs() -> Iterator[None]:
    """What a job of SLURM, from inside of which this may run, has set is not meant for another."""
    from submitit.helpers import clean_env

    if "SLURM_JOB_ID" not in os.environ:
        yield
        return
    where = {key: os.environ[key] for key in ("SLURM_CONF",) if key in os.environ}
    with clean_env():
        os.environ |= where
        yield
