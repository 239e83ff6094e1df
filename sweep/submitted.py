"""Which jobs were given which cells. Read in an instant: nothing here loads a model's libraries.

outputs/jobs/<sweep>/<pack>.json      the cells of one job (sweep.pack)
outputs/jobs/<sweep>/submitted-<host>-<process>.jsonl  which job was given which pack, and when
outputs/jobs/<sweep>/submitit-<launch>/  submitit's files, and what the jobs printed

All of them are private to who submitted them, unless `hydra.launcher.private` says otherwise.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sweep.attempt import Attempt
from sweep.disk import writing

log = logging.getLogger("sweep")


@dataclass(frozen=True)
class Submission:
    """A job that was given a pack.

    Attributes:
        job: its id; of a process of this machine, its number.
        launcher: `slurm` or `local`.
        log: what it printed to stderr.
        cells: of the pack, as `described`.
        process: the process, where the job is one.
        when: seconds since the epoch.
    """

    job: str
    launcher: str
    log: Path
    cells: Sequence[Mapping[str, Any]]
    process: Attempt | None
    when: float

    @property
    def alive(self) -> bool:
        """Of a process: whether it is there. Of a job of SLURM, SLURM knows."""
        return self.process is not None and self.process.runs_here()


def record(submitted: Iterable[tuple[str, Path]], launcher: str, folder: Path) -> None:
    """Add to the sweep's list which jobs were given which packs.

    Args:
        submitted: jobs and packs.
        launcher: `slurm` or `local`.
        folder: with what the jobs print, beside the packs.
    """
    for job, path in submitted:
        line = {"job": job, "pack": path.name, "launcher": launcher, "when": time.time()}
        line["folder"] = folder.name
        if launcher == "local":
            line["process"] = asdict(Attempt.of(int(job)))
        # one writer a file: what several machines append may mix on a shared file system
        name = f"submitted-{platform.node()}-{os.getpid()}.jsonl"
        with writing(path), (path.parent / name).open("a") as file:
            file.write(json.dumps(line) + "\n")


def submissions(outputs: Path) -> Iterator[Submission]:
    """Every job that was ever given a pack below `outputs`, in their order; what may be read."""
    found: list[Submission] = []
    packs: dict[Path, list[dict[str, Any]]] = {}  # of this machine's processes each has all
    for folder in (outputs / "jobs", *outputs.glob("jobs/*/")):
        if folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK):
            _say_private(folder)
    private: set[Path] = set()
    for file in outputs.glob("jobs/*/submitted*.jsonl"):
        try:
            lines = file.read_text().splitlines()
        except PermissionError:
            private.add(file.parent)
            continue
        for line in lines:
            try:
                said = json.loads(line)
            except ValueError:
                log.warning("%s: damaged, a line of it is left out", file)
                continue
            path = file.parent / said["pack"]
            if path not in packs:
                packs[path] = _cells(path)
            process = Attempt(**said["process"]) if "process" in said else None
            errors = file.parent / said.get("folder", "submitit") / f"{said['job']}_0_log.err"
            when = said["when"]
            found.append(
                Submission(said["job"], said["launcher"], errors, packs[path], process, when)
            )
    for folder in sorted(private):
        _say_private(folder)
    yield from sorted(found, key=lambda submission: submission.when)


def _cells(pack: Path) -> list[dict[str, Any]]:
    """Of a pack; none if nobody was given it after all."""
    if not pack.is_file():
        return []
    found: list[dict[str, Any]] = json.loads(pack.read_text())["cells"]
    return found


def _say_private(folder: Path) -> None:
    log.warning("%s: what others queued there is private (hydra.launcher.private)", folder)
