"""Packs as processes of this machine, through submitit; each takes the next cell that is free."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sweep.refusal import Refusal
from sweep_jobs.job import PackJob
from sweep_jobs.submit import Given, Submitter

WEEK = 7 * 24 * 60
"""submitit wants a limit, in minutes."""


@dataclass(frozen=True)
class LocalJobs(Submitter):
    """How many processes; see `Submitter` for the others.

    Attributes:
        jobs: processes at once. Each has its share of the GPUs, or one with others where there are
            fewer GPUs, and its share of the processors.
    """

    kind: ClassVar[str] = "local"
    jobs: int = 2
    cells_per_job: int = 10_000
    wait: bool = True
    dry_run: bool = False
    offline: bool = False
    private: bool = True

    def __post_init__(self) -> None:
        """Raises: Refusal: a number out of range."""
        for name in ("jobs", "cells_per_job"):
            if getattr(self, name) < 1:
                raise Refusal(name, getattr(self, name), "must be at least 1")

    def check(self) -> None:
        """See `Submitter`: there is always this machine."""

    def describe(self, packs: int) -> str:
        """See `Submitter`."""
        return f"{packs} packs for {self.jobs} processes on this machine"

    def submit(
        self, folder: Path, name: str, given: Sequence[Given], umask: int
    ) -> Iterator[list[tuple[str, Path]]]:
        """See `Submitter`: every process is given all packs, in their order."""
        from submitit import LocalExecutor

        threads = max(1, len(os.sched_getaffinity(0)) // self.jobs)
        gpus = _gpus()
        for number in range(self.jobs):
            executor = LocalExecutor(folder)
            executor.update_parameters(timeout_min=WEEK)
            packs = [str(one.path) for one in given]
            own = _share(gpus, number, self.jobs)
            job = PackJob(packs, self.offline, umask, threads=threads, gpus=own)
            with _silent(), nullcontext() if self.wait else _detached():
                job_id = executor.submit(job).job_id
            yield [(job_id, one.path) for one in given]


@contextmanager
def _silent() -> Iterator[None]:
    """What is started meanwhile does not hold the command's output open, which a pipe waits for."""
    sys.stdout.flush()
    sys.stderr.flush()
    before = os.dup(1), os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        yield
    finally:
        for kept, number in zip(before, (1, 2), strict=True):
            os.dup2(kept, number)
            os.close(kept)
        os.close(nowhere)


@contextmanager
def _detached() -> Iterator[None]:
    """What is started meanwhile outlives the terminal, and is not meant by its Ctrl-C."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _OF_TERMINALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_OF_TERMINALS = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)


def _share(gpus: Sequence[str], number: int, jobs: int) -> str | None:
    """What a process may use, as CUDA_VISIBLE_DEVICES names it; None where there is no GPU."""
    if not gpus:
        return None
    return ",".join(gpus[number::jobs]) or gpus[number % len(gpus)]


def _gpus() -> list[str]:
    """The GPUs that this process may use, by the numbers that CUDA_VISIBLE_DEVICES takes."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]
