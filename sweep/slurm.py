"""What SLURM says of jobs, where it is there to be asked. Starts and changes nothing."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

WAITING = {
    "PENDING",
    "CONFIGURING",
    "REQUEUED",
    "REQUEUE_HOLD",
    "REQUEUE_FED",
    "SUSPENDED",
    "STOPPED",
}
UNREACHED = "UNREACHED"
ACTIVE = {"RUNNING", "SIGNALING", "STAGE_OUT"}
PATIENCE = 20
"""Seconds in which a controller must answer."""

ENDING = 300.0
"""Seconds that a job may take to end (COMPLETING); a node that takes longer is stuck."""


@dataclass(frozen=True)
class Job:
    """What is known of a job.

    Attributes:
        state: in SLURM's words: PENDING, RUNNING, COMPLETED, FAILED, OUT_OF_MEMORY, ….
        node: where it runs or ran.
        reason: why it waits.
        end: when it ended, if the controller has it still, by the controller's clock.
    """

    state: str
    node: str = ""
    reason: str = ""
    end: str = ""

    @property
    def waits(self) -> bool:
        """Whether it is still to be started, or to be started again."""
        return self.state in WAITING or self.state == UNREACHED

    @property
    def runs(self) -> bool:
        """Whether it has a node."""
        return self.state in ACTIVE

    @property
    def ends(self) -> bool:
        """Whether its node is still letting go of it; it may be one that was queued again."""
        if self.state != "COMPLETING":
            return False
        try:
            return time.time() - datetime.fromisoformat(self.end).timestamp() < ENDING
        except ValueError:
            return True


def jobs(ids: Iterable[str]) -> dict[str, Job]:
    """The jobs (`12`, or `12_3` in an array) of which anything is known, by id.

    The controller is asked first, then the accounting for what the controller has forgotten; what
    neither knows is left out, and so is everything where there is no SLURM to ask (`is_here`).
    Where the controller does not answer, what the accounting does not know is `UNREACHED`: it may
    well wait, and nobody should submit it again.
    """
    wanted = sorted(set(ids))
    if not wanted:
        return {}
    said = _asked(["squeue", "-h", "-r", "--states=all", "-o", "%i|%T|%N|%r|%e", "-j"], wanted)
    found = said or {}
    left = [job for job in wanted if job not in found]
    if left:
        found |= _asked(["sacct", "-n", "-P", "-X", "-o", "JobID,State,NodeList", "-j"], left) or {}
    if said is None and is_here():
        unreached = Job(UNREACHED, reason="SLURM cannot be asked now")
        found |= {job: unreached for job in wanted if job not in found}
    return found


def is_here() -> bool:
    """Whether this machine has the command that asks a controller."""
    return shutil.which("squeue") is not None


def max_array_size() -> int | None:
    """One more than the highest index of an array; None where it cannot be read."""
    said = _run(["scontrol", "show", "config"])
    number = re.search(r"^MaxArraySize\s*=\s*(\d+)", said or "", re.MULTILINE)
    return int(number[1]) if number else None


def grace(partition: str) -> float:
    """Seconds after which SLURM ends a job of a partition that it has told to end (SIGTERM).

    That is KillWait, or the partition's GraceTime in preemption if it is longer; where they cannot
    be read, SLURM's own default of the first.
    """
    wait = re.search(r"^KillWait\s*=\s*(\d+)", _run(["scontrol", "show", "config"]) or "", re.M)
    said = _run(["scontrol", "show", "partition", partition]) or ""
    time = re.search(r"\bGraceTime=(\d+)", said)
    return max(float(wait[1]) if wait else 30.0, float(time[1]) if time else 0.0)


def _asked(command: Sequence[str], wanted: Sequence[str]) -> dict[str, Job] | None:
    """The answer's lines that are about jobs asked for; arrays are asked for as a whole.

    None: there is no answer.
    """
    arrays = sorted({job.split("_")[0] for job in wanted})
    said = _run([*command, ",".join(arrays)])
    if said is None:
        return None
    return parsed(said, wanted)


def parsed(said: str, wanted: Collection[str]) -> dict[str, Job]:
    """The lines of squeue or sacct that are about jobs asked for, by id.

    Of an array that was cancelled before any of it began, SLURM knows only the number of the array:
    that stands for every job of it that no other line names.
    """
    named: dict[str, Job] = {}
    for line in said.splitlines():
        ids, state, node, *more = line.split("|")  # more of squeue: reason, end
        # "CANCELLED by 0" names who did it; of a job that was requeued the last line counts
        node = "" if node == "None assigned" else node
        job = Job(state.split()[0], node, *more)
        named |= dict.fromkeys(expanded(ids), job)
    found = {id: named.get(id) or named.get(id.partition("_")[0]) for id in wanted}
    return {id: job for id, job in found.items() if job is not None}


def expanded(ids: str) -> list[str]:
    """`12_[0-2,7%4]`, as accounting names the jobs of an array that wait, as `12_0`, `12_1`, …."""
    array = re.fullmatch(r"(\d+)_\[([\d,-]+)(?:%\d+)?\]", ids)
    if array is None:
        return [ids]
    found: list[str] = []
    for part in array[2].split(","):
        first, _, last = part.partition("-")
        found += [f"{array[1]}_{i}" for i in range(int(first), int(last or first) + 1)]
    return found


def folded(ids: Iterable[str]) -> str:
    """The other way round: `12_0`, `12_1`, `12_2` and `13` are `12_[0-2] 13`."""
    numbers: dict[str, list[int]] = {}
    for array, _, index in (id.partition("_") for id in ids):
        numbers.setdefault(array, []).extend([int(index)] if index else [])
    return " ".join(
        array + (f"_{_ranges(numbers[array])}" if numbers[array] else "")
        for array in sorted(numbers, key=int)
    )


def _ranges(numbers: Iterable[int]) -> str:
    """`3`, or `[0-2,7]`."""
    found: list[str] = []
    for _, run in groupby(enumerate(sorted(numbers)), key=lambda pair: pair[1] - pair[0]):
        first, *_, last = [number for _, number in run for _ in range(2)]
        found.append(str(first) if first == last else f"{first}-{last}")
    return found[0] if found[0].isdigit() and len(found) == 1 else f"[{','.join(found)}]"


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
    forgotten = "Invalid job id" in done.stderr  # an answer: it knows none of them any more
    return done.stdout if done.returncode == 0 or forgotten else None
