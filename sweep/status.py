"""`python -m sweep.status [outputs]`: where every cell of the sweeps below a folder stands.

Read from the sweeps' lists of their cells, from the result files and from the files by which
processes hold cells; SLURM is asked where it is there, for what only it knows: jobs that wait, and
jobs that ended before they could say why.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from sweep import garbage, slurm
from sweep.attempt import Attempt, latest, spent
from sweep.explain import in_one_line
from sweep.files import Folder
from sweep.progress import duration
from sweep.report import entries
from sweep.submitted import Submission, submissions

State = Literal["done", "running", "queued", "failed", "missing"]
ORDER: tuple[State, ...] = ("done", "running", "queued", "failed", "missing")

USAGE = """\
python -m sweep.status [FOLDER ...]

Where every cell of the sweeps below a folder of outputs stands (without one, below ./outputs):
done, running, queued, failed or missing, and why. Ends with 1 if cells failed.
"""

HELP = {
    "OUT_OF_MEMORY": "raise hydra.launcher.mem_gb, or lower batch_size",
    "TIMEOUT": "the same command goes on; hydra.launcher.timeout_min and max_num_timeout limit it",
    "NODE_FAIL": "the same command submits it again",
    "CANCELLED": "the same command submits it again",
    "COMPLETING": "its node does not let go of it; the same command submits it again",
}
"""What to do about a job that could not say itself why it ended."""

DAMAGED = "its cell.yaml is damaged; the sweep's command makes it again"


@dataclass(frozen=True)
class Standing:
    """Of one cell.

    Attributes:
        id, name: the cell.
        state: where it stands.
        about: the node, since when and what is done; or why; or which job.
        job: of SLURM, in which it runs or will run.
        seconds: for which processes had it in their hands, if it runs or is done; None of a dense
            cell that is done: it says nothing about the others.
        shown: its name, and the settings by which it differs from others of its label.
    """

    id: str
    name: str
    state: State
    about: str = ""
    job: str | None = None
    seconds: float | None = None
    shown: str = ""


def standings(outputs: Path, only: Mapping[str, Mapping[str, Any]] | None = None) -> list[Standing]:
    """Every cell that was planned, begun or submitted below `outputs`, in the order of the names.

    Args:
        outputs: the folder.
        only: the cells that are asked for, by id, as `Cell.described` gives them: with the
            metrics and the `keep` of now; None: all, with those of then.
    """
    known = _planned(outputs)
    known |= _begun(outputs) if only is None else {}
    given: dict[str, list[Submission]] = {}
    for submission in submissions(outputs):
        for cell in submission.cells:
            given.setdefault(cell["id"], []).append(submission)
            known[cell["id"]] = {**known.get(cell["id"], {}), **cell}
    cells = known if only is None else only
    found = {id: _done(outputs, cell) for id, cell in cells.items()}
    jobs = slurm.jobs(
        submission.job
        for id, done in found.items()
        for submission in given.get(id, [])
        if done is None and submission.launcher == "slurm"
    )
    listed = [
        done or _standing(outputs, cells[id], given.get(id, []), jobs) for id, done in found.items()
    ]
    shown = told_apart({s.id: (s.name, known.get(s.id, {}).get("settings", {})) for s in listed})
    listed = [replace(standing, shown=shown[standing.id]) for standing in listed]
    listed += _nameless(outputs, found) if only is None else []
    return sorted(listed, key=lambda standing: standing.name)


def summary(found: Iterable[Standing]) -> str:
    """Totals and the estimated time left, in one line."""
    listed = list(found)
    counts = Counter(standing.state for standing in listed)
    text = ", ".join(f"{counts[state]} {state}" for state in ORDER if counts[state])
    if (seconds := _left(listed)) >= 1:
        text += f"; about {duration(seconds)} left"
    return text or "no cells"


def _left(listed: Sequence[Standing]) -> float:
    """Seconds until what is queued and runs is done, if as much runs at once as now; 0: unknown."""
    took = [s.seconds for s in listed if s.state == "done" and s.seconds is not None]
    running = [s.seconds or 0.0 for s in listed if s.state == "running"]
    queued = sum(s.state == "queued" for s in listed)
    if not took:
        return 0.0
    usual = sum(took) / len(took)
    whole = usual * queued + sum(max(0.0, usual - so_far) for so_far in running)
    return whole / max(1, len(running))


def lines(found: Iterable[Standing]) -> list[str]:
    """One line per cell."""
    listed = list(found)
    width = max((len(standing.shown) for standing in listed), default=0)
    return [f"{s.shown:{width}}  {s.state:7}  {s.about}".rstrip() for s in listed]


def told_apart(cells: Mapping[str, tuple[str, Mapping[str, Any]]]) -> dict[str, str]:
    """Names of cells, by id; of those with one label, with the settings by which they differ.

    Args:
        cells: by id, name and settings (`Entry.settings`), which may be unknown: empty.
    """
    alike: dict[str, list[str]] = {}
    for id, (name, _) in cells.items():
        alike.setdefault(name.rpartition("-")[0], []).append(id)
    found: dict[str, str] = {}
    for ids in alike.values():
        told = [cells[id][1] for id in ids if cells[id][1]]
        names = dict.fromkeys(name for settings in told for name in settings)
        differ = [n for n in names if len({str(own.get(n)) for own in told}) > 1]
        for id in ids:
            name, own = cells[id]
            settings = " ".join(f"{n}={own[n]}" for n in differ if own.get(n) is not None)
            found[id] = name + (f" ({settings})" if settings else "")
    return found


def _planned(outputs: Path) -> dict[str, dict[str, Any]]:
    """Cells of the sweeps' lists."""
    return {
        e.id: {"id": e.id, "name": e.name, "metrics": e.asked, "settings": e.settings}
        for own in entries.lists(outputs).values()
        for e in own
    }


def _begun(outputs: Path) -> dict[str, dict[str, Any]]:
    """Cells that have a folder, with what was asked of them last."""
    found: dict[str, dict[str, Any]] = {}
    for file in sorted(outputs.glob("cells/*/cell.yaml")):
        folder = Folder(outputs, file.parent.name)
        if (said := folder.cell()) is not None:
            settings = entries.begun(folder, said).settings
            about = {"name": file.parent.name, "keep": said["config"]["keep"], "settings": settings}
            found[said["id"]] = {**said, **about}
    return found


def _nameless(outputs: Path, known: Iterable[str]) -> list[Standing]:
    """Folders of cells that do not say which, and of which nobody else does."""
    ends = {id[:8] for id in known}
    return [
        Standing(file.parent.name, file.parent.name, "failed", DAMAGED, shown=file.parent.name)
        for file in sorted(outputs.glob("cells/*/cell.yaml"))
        if file.parent.name[-8:] not in ends
    ]


def _lacking(folder: Folder, cell: Mapping[str, Any]) -> list[str]:
    """Metrics of which there is no result."""
    return [m for m, settings in cell["metrics"].items() if folder.metric(m, settings) is None]


def _done(outputs: Path, cell: Mapping[str, Any]) -> Standing | None:
    """Where a cell stands that is done."""
    folder = Folder(outputs, cell["name"])
    kept = cell.get("keep", "none") == "none" or folder.model.is_dir()
    compression = folder.compression()
    if compression is None or folder.cell() is None or not kept or _lacking(folder, cell):
        return None
    seconds = spent(folder.path) if compression["layers"] else None
    return Standing(cell["id"], folder.path.name, "done", seconds=seconds)


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
        about, job = _running(last[0]), last[0].job
        return Standing(id, name, "running", about, job, spent(folder.path))
    failure = folder.failure()
    for submission in reversed(given):
        if not _covers(submission, cell):
            continue  # it will leave something of what is asked for undone
        if failure is not None and last is not None and _of(last[0], submission):
            continue  # a job does not come back to a cell that has failed in it
        queued = _queued(submission, known)
        if queued is not None:
            job = submission.job if submission.launcher == "slurm" else None
            return Standing(id, name, "queued", queued, job)
    if failure is not None:
        return Standing(id, name, "failed", f"{failure} ({folder.log})")
    if (folder.path / "cell.yaml").is_file() and folder.cell() is None:
        return Standing(id, name, "failed", DAMAGED)
    state, why = _left_undone(outputs, last and last[0], given, known)
    lacking = ", ".join(_lacking(folder, cell))
    return Standing(id, name, state, why if state == "failed" else f"{lacking}{why}")


def _left_undone(
    outputs: Path,
    last: Attempt | None,
    given: Sequence[Submission],
    known: Mapping[str, slurm.Job],
) -> tuple[State, str]:
    """Of a cell that nobody has or will have, and that did not say why: whether its job did.

    Args:
        outputs: the folder.
        last: the last try at it.
        given: the jobs that had it in their pack.
        known: what SLURM says of them.
    """
    if not given or given[-1].launcher != "slurm":
        return "missing", ""
    submission = given[-1]
    job = known.get(submission.job)
    if job is None and not slurm.is_here():
        why = f"was given to SLURM job {submission.job}, which cannot be asked from here"
        return "missing", f" ({why})"
    mine = last is not None and _of(last, submission)
    if job is None or job.state == "COMPLETED" or (mine and last and last.ended == "done"):
        return "missing", ""
    state = _end(submission, job.state)
    if not mine and _began_another(outputs, submission):
        return "missing", f" (job {submission.job} ended {state} before it came to it)"
    help = f"; {HELP[state]}" if state in HELP else ""
    return "failed", f"job {submission.job}: {state}{help} ({submission.log})"


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


def _began_another(outputs: Path, submission: Submission) -> bool:
    """Whether a job came to any cell of its pack."""
    found = (latest(Folder(outputs, cell["name"]).path) for cell in submission.cells)
    return any(last is not None and _of(last[0], submission) for last in found)


def _end(submission: Submission, state: str) -> str:
    """How a job ended that could not say so itself, if SLURM says only that it failed."""
    if state != "FAILED":
        return state
    said = _tail(submission.log)
    if re.search(
        r"^(slurmstepd|srun)[^:\n]*: .*(memory limit|oom.kill|out of memory)", said, FLAGS
    ):
        return "OUT_OF_MEMORY"  # where SLURM has no control groups it says FAILED
    if "timed-out too many times" in said:  # so ends a job that submitit does not queue again
        return "TIMEOUT"
    return state


FLAGS = re.IGNORECASE | re.MULTILINE


def _tail(log: Path) -> str:
    """The end of what a job printed; nothing, if it is somebody's who keeps it private."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 10_000))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _running(attempt: Attempt) -> str:
    job = f", job {attempt.job}" if attempt.job else f", process {attempt.pid}"
    since = duration(time.time() - attempt.began)
    doing = ", {} {} of {}".format(*attempt.doing) if attempt.doing else ""
    return f"on {attempt.host}{job}, for {since}{doing}"


def _queued(submission: Submission, known: Mapping[str, slurm.Job]) -> str | None:
    """The job in whose pack a cell waits; None if no job will come to it any more."""
    if submission.launcher != "slurm":
        return f"process {submission.job}" if submission.alive else None
    job = known.get(submission.job)
    if job is None or not (job.waits or job.runs or job.ends):
        return None
    if not job.waits:
        return f"job {submission.job}, which {'runs' if job.runs else 'is ending'}"
    why = f" ({job.reason})" if job.reason not in ("", "None") else ""
    return f"job {submission.job}{why}"


def main(words: list[str]) -> None:
    """Print the status of the folders given; of `outputs` if none is. Exit code 1: cells failed."""
    if {"-h", "--help"} & {*words}:
        sys.stdout.write(USAGE)
        return
    failed = False
    for word in words or ["outputs"]:
        outputs = Path(word)
        if not any((outputs / name).is_dir() for name in ("cells", "jobs", "reports")):
            sys.exit(f"sweep.status: {word}: holds no cells; give a folder of outputs")
        found = standings(outputs)
        sys.stdout.write("\n".join([*lines(found), summary(found)]) + "\n")
        failed = failed or any(standing.state == "failed" for standing in found)
    sys.exit(int(failed))


if __name__ == "__main__":
    with garbage.alone(), in_one_line("sweep.status"):
        main(sys.argv[1:])
