"""What SLURM says of jobs, where it is there to be asked. Starts and changes nothing."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WAITING = {
    "PENDING",
    "CONFIGURING",
    "REQUEUED",
    "REQUEUE_HOLD",
    "REQUEUE_FED",
    "SUSPENDED",
    "STOPPED",
}
ACTIVE = {"RUNNING", "COMPLETING", "SIGNALING", "STAGE_OUT"}
PATIENCE = 20
"""Seconds in which a controller must answer."""


@dataclass(frozen=True)
class Job:
    """What is known of a job.

    Attributes:
        state: in SLURM's words: PENDING, RUNNING, COMPLETED, FAILED, OUT_OF_MEMORY, ….
        node: where it runs or ran.
        reason: why it waits.
    """

    state: str
    node: str = ""
    reason: str = ""

    @property
    def waits(self) -> bool:
        """Whether it is still to be started, or to be started again."""
        return self.state in WAITING

    @property
    def runs(self) -> bool:
        """Whether it has a node."""
        return self.state in ACTIVE


def jobs(ids: Iterable[str]) -> dict[str, Job]:
    """The jobs (`12`, or `12_3` in an array) of which anything is known, by id.

    The controller is asked first, then the accounting for what the controller has forgotten; what
    neither knows, or what cannot be asked here, is left out.
    """
    wanted = sorted(set(ids))
    if not wanted:
        return {}
    found = _asked(["squeue", "-h", "-r", "--states=all", "-o", "%i|%T|%N|%r", "-j"], wanted)
    left = [job for job in wanted if job not in found]
    if left:
        found |= _asked(["sacct", "-n", "-P", "-X", "-o", "JobID,State,NodeList", "-j"], left)
    return found


def max_array_size() -> int | None:
    """One more than the highest index of an array; None where it cannot be read."""
    said = _run(["scontrol", "show", "config"])
    number = re.search(r"^MaxArraySize\s*=\s*(\d+)", said or "", re.MULTILINE)
    return int(number[1]) if number else None


def _asked(command: Sequence[str], wanted: Sequence[str]) -> dict[str, Job]:
    """The answer's lines that are about jobs asked for; arrays are asked for as a whole."""
    arrays = sorted({job.split("_")[0] for job in wanted})
    said = _run([*command, ",".join(arrays)])
    if said is None and len(arrays) > 1:  # squeue refuses all if it has forgotten one
        return {job: one for array in arrays for job, one in _asked(command, [
            job for job in wanted if job.split("_")[0] == array
        ]).items()}  # fmt: skip
    found: dict[str, Job] = {}
    for line in (said or "").splitlines():
        id, state, node, *reason = line.split("|")
        # "CANCELLED by 0" names who did it; a job that was requeued comes several times, last last
        if id in wanted:
            node = "" if node == "None assigned" else node
            found[id] = Job(state.split()[0], node, reason[0] if reason else "")
    return found


def _run(command: Sequence[str]) -> str | None:
    """What a command of SLURM prints; None if it is not there or does not answer."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
