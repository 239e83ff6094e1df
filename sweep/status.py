"""`python -m sweep.status [outputs]`: where every cell of the sweeps below a folder stands.

Read from the result files and from the files by which processes hold cells; SLURM is asked where it
is there, for what only it knows: jobs that wait, and jobs that ended before they could say why.
"""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sweep import slurm
from sweep.attempt import Attempt, latest
from sweep.files import Folder
from sweep.progress import duration
from sweep.submitted import Submission, submissions

State = Literal["done", "running", "queued", "failed", "missing"]
ORDER: tuple[State, ...] = ("done", "running", "queued", "failed", "missing")

HELP = {
    "OUT_OF_MEMORY": "raise hydra.launcher.mem_gb, or lower batch_size",
    "TIMEOUT": "the same command goes on; hydra.launcher.timeout_min and max_num_timeout limit it",
    "NODE_FAIL": "the same command submits it again",
    "CANCELLED": "the same command submits it again",
}
"""What to do about a job that could not say itself why it ended."""


@dataclass(frozen=True)
class Standing:
    """Of one cell.

    Attributes:
        id, name: the cell.
        state: where it stands.
        about: the node, since when and what is done; or why; or which job.
        job: of SLURM, in which it runs or will run.
        seconds: that it took, if it is done and that is known.
    """

    id: str
    name: str
    state: State
    about: str = ""
    job: str | None = None
    seconds: float | None = None


def standings(outputs: Path, only: Mapping[str, Mapping[str, Any]] | None = None) -> list[Standing]:
    """Every cell that was begun or submitted below `outputs`, in the order of the names.

    Args:
        outputs: the folder.
        only: the cells that are asked for, by id, as `Cell.described` gives them: with the
            metrics and the `keep` of now; None: all, with those of then.
    """
    begun = _begun(outputs) if only is None else {}
    given: dict[str, list[Submission]] = {}
    for submission in submissions(outputs):
        for cell in submission.cells:
            given.setdefault(cell["id"], []).append(submission)
            begun[cell["id"]] = {**begun.get(cell["id"], {}), **cell}
    cells = begun if only is None else only
    found = {id: _done(outputs, cell) for id, cell in cells.items()}
    known = slurm.jobs(
        submission.job
        for id, done in found.items()
        for submission in given.get(id, [])
        if done is None and submission.launcher == "slurm"
    )
    listed = [
        done or _standing(outputs, cells[id], given.get(id, []), known)
        for id, done in found.items()
    ]
    return sorted(listed, key=lambda standing: standing.name)


def summary(found: Iterable[Standing]) -> str:
    """Totals and the estimated time left, in one line."""
    listed = list(found)
    counts = Counter(standing.state for standing in listed)
    text = ", ".join(f"{counts[state]} {state}" for state in ORDER if counts[state])
    took = [standing.seconds for standing in listed if standing.seconds is not None]
    left = counts["running"] + counts["queued"]
    if took and left:
        seconds = sum(took) / len(took) * left / max(1, counts["running"])
        text += f"; about {duration(seconds)} left"
    return text or "no cells"


def lines(found: Iterable[Standing]) -> list[str]:
    """One line per cell."""
    listed = list(found)
    width = max((len(standing.name) for standing in listed), default=0)
    return [f"{s.name:{width}}  {s.state:7}  {s.about}".rstrip() for s in listed]


def _begun(outputs: Path) -> dict[str, dict[str, Any]]:
    """Cells that have a folder, with what was asked of them last."""
    found: dict[str, dict[str, Any]] = {}
    for file in sorted(outputs.glob("cells/*/cell.yaml")):
        said = Folder(outputs, file.parent.name).cell()
        if said is not None:
            found[said["id"]] = {**said, "name": file.parent.name, "keep": said["config"]["keep"]}
    return found


def _lacking(folder: Folder, cell: Mapping[str, Any]) -> list[str]:
    """Metrics of which there is no result."""
    return [m for m, settings in cell["metrics"].items() if folder.metric(m, settings) is None]


def _done(outputs: Path, cell: Mapping[str, Any]) -> Standing | None:
    """Where a cell stands that is done."""
    folder = Folder(outputs, cell["name"])
    kept = cell.get("keep", "none") == "none" or folder.model.is_dir()
    if folder.compression() is None or not kept or _lacking(folder, cell):
        return None
    return Standing(cell["id"], folder.path.name, "done", seconds=folder.seconds())


def _standing(
    outputs: Path,
    cell: Mapping[str, Any],
    given: Sequence[Submission],
    known: Mapping[str, slurm.Job],
) -> Standing:
    """Of a cell that is not done, the first that holds: running, queued, failed, missing."""
    folder = Folder(outputs, cell["name"])
    id, name = cell["id"], folder.path.name
    last = latest(folder.path)
    if last is not None and last[1]:
        return Standing(id, name, "running", _running(last[0]), last[0].job)
    failure = folder.failure()
    for submission in reversed(given):
        if not _covers(submission, cell):
            continue  # it will leave something of what is asked for undone
        if failure is not None and last is not None and _of(last[0], submission):
            continue  # a job does not come back to a cell that has failed in it
        queued = _queued(submission, known.get(submission.job))
        if queued is not None:
            job = submission.job if submission.launcher == "slurm" else None
            return Standing(id, name, "queued", queued, job)
    if failure is not None:
        return Standing(id, name, "failed", f"{failure} ({folder.log})")
    ended = known.get(given[-1].job) if given else None
    if ended is not None and ended.state != "COMPLETED":
        return Standing(id, name, "failed", _ended(given[-1], ended.state))
    return Standing(id, name, "missing", ", ".join(_lacking(folder, cell)))


def _of(attempt: Attempt, submission: Submission) -> bool:
    """Whether a cell was begun by a job, or by a process that was started with it."""
    if submission.launcher == "slurm":
        return attempt.job == submission.job
    return attempt.began >= submission.when


def _covers(submission: Submission, cell: Mapping[str, Any]) -> bool:
    """Whether a job does all that is asked of a cell."""
    packed = next(one for one in submission.cells if one["id"] == cell["id"])
    keeps = cell.get("keep", "none") == "none" or packed["keep"] == cell["keep"]
    return keeps and dict(cell["metrics"]).items() <= dict(packed["metrics"]).items()


def _ended(submission: Submission, state: str) -> str:
    """Why a job ended that could not say so itself."""
    said = submission.log.read_text(errors="replace")[-10_000:] if submission.log.is_file() else ""
    if re.search(r"memory limit|oom.kill|out of memory", said, re.IGNORECASE):
        state = "OUT_OF_MEMORY"  # where SLURM has no control groups it says FAILED
    if "timed-out too many times" in said:  # so ends a job that submitit does not queue again
        state = "TIMEOUT"
    help = f"; {HELP[state]}" if state in HELP else ""
    return f"job {submission.job}: {state}{help} ({submission.log})"


def _running(attempt: Attempt) -> str:
    job = f", job {attempt.job}" if attempt.job else f", process {attempt.pid}"
    since = duration(time.time() - attempt.began)
    doing = ", {} {} of {}".format(*attempt.doing) if attempt.doing else ""
    return f"on {attempt.host}{job}, for {since}{doing}"


def _queued(submission: Submission, job: slurm.Job | None) -> str | None:
    """The job in whose pack a cell waits; None if no job will come to it any more."""
    if submission.alive:
        return f"process {submission.job}"
    if job is None or not (job.waits or job.runs):
        return None
    if job.runs:
        return f"job {submission.job}, which runs"
    why = f" ({job.reason})" if job.reason not in ("", "None") else ""
    return f"job {submission.job}{why}"


def main(words: list[str]) -> None:
    """Print the status of the folders given; of `outputs` if none is. Exit code 1: cells failed."""
    failed = False
    for word in words or ["outputs"]:
        outputs = Path(word)
        if not (outputs / "cells").is_dir() and not (outputs / "jobs").is_dir():
            sys.exit(f"sweep.status: {word}: holds no cells; give a folder of outputs")
        found = standings(outputs)
        sys.stdout.write("\n".join([*lines(found), summary(found)]) + "\n")
        failed = failed or any(standing.state == "failed" for standing in found)
    sys.exit(int(failed))


if __name__ == "__main__":
    main(sys.argv[1:])
