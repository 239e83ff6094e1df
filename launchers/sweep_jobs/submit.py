"""What launchers that submit jobs have in common: plan, pack, submit what is missing, report."""

from __future__ import annotations

import logging
import os
import platform
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sweep import garbage, pack
from sweep.build import build
from sweep.disk import umask, writing
from sweep.grid import announce, quiet, show_asked
from sweep.pack import Pack
from sweep.plan import Plan, plan
from sweep.progress import Progress
from sweep.refusal import Failed, Refusal
from sweep.report import entries
from sweep.report.write import begin, conclude
from sweep.slurm import folded
from sweep.status import Standing, standings, summary, told_apart
from sweep.submitted import record
from sweep.workshop import Workshop

log = logging.getLogger("sweep")

LOOK = 5.0
"""Seconds between two looks at a sweep that is waited for."""

SETTLE = 60.0
"""Seconds in which a shared file system may still not show here what a job has written there."""


@dataclass(frozen=True)
class Given:
    """A pack that a job is to be given.

    Attributes:
        path: of its file.
        after: the pack, among those submitted with it, whose job must have ended before.
        jobs: submitted earlier, which must have ended before.
    """

    path: Path
    after: Path | None = None
    jobs: tuple[str, ...] = ()


class Submitter(ABC):
    """Gives packs to jobs.

    Attributes:
        kind: the launcher's name.
        cells_per_job: cells of one model that run in one job and share what is loaded.
        wait: stay until everything is done.
        dry_run: say what would be submitted, and submit nothing.
        offline: jobs ask neither the hub nor W&B for anything.
        private: only the owner may read what is written for the jobs: packs, scripts, logs, and
            which job was given which pack.
    """

    kind: ClassVar[str]
    cells_per_job: int
    wait: bool
    dry_run: bool
    offline: bool
    private: bool

    @abstractmethod
    def check(self) -> None:
        """Raises: Refusal: jobs cannot be submitted from here."""

    @abstractmethod
    def describe(self, packs: int) -> str:
        """What would be submitted for so many packs, in words."""

    @abstractmethod
    def submit(
        self, folder: Path, name: str, given: Sequence[Given], umask: int
    ) -> Iterator[list[tuple[str, Path]]]:
        """Submit jobs for the packs.

        Args:
            folder: for what submitit writes.
            name: of the sweep.
            given: the packs, those for which others wait before them.
            umask: with which the workers are to write results.

        Yields:
            Ids of jobs, each with a pack that it was given, as soon as they are submitted.
        """


def submit(configs: Sequence[Mapping[str, Any]], target: str, settings: Mapping[str, Any]) -> None:
    """Plan the grid, submit what nobody works on yet, say where everything stands.

    Args:
        configs: the points, frozen.
        target: dotted name of a `Submitter`.
        settings: its fields, as set below `hydra.launcher`.

    Raises:
        Refusal: a point of the grid cannot work, and nothing is queued; or jobs cannot be
            submitted, beyond those whose ids have been printed.
        Failed: with `wait`, cells failed.
    """
    submitter = build({"_target_": target, **settings}, "hydra.launcher", Submitter)  # type: ignore[type-abstract]
    quiet()
    submitter.check()
    workshop = Workshop(Progress())
    planned = plan(configs, workshop, runs_here=False)
    garbage.begin()  # who waits for the jobs may do so for days
    announce(planned)
    outputs = Path(planned.outputs)
    asked = {cell.id: cell.described() for cell in planned.cells}
    found = standings(outputs, asked)
    # a job may have finished some since the plan was made
    taken = {s.id for s in found if s.state in ("running", "queued", "done")}
    todo = [cell for cell in planned.todo if cell.id not in taken]
    made = pack.packs(planned, todo, submitter.cells_per_job)
    if submitter.dry_run:
        own = entries.of(planned.cells)
        shown = told_apart({entry.id: (entry.name, entry.settings) for entry in own})
        for number, one in enumerate(made):
            names = ", ".join(shown[cell.id] for cell in one.cells)
            _print(f"pack {number}: {names}")
        _print(f"dry run: {len(todo)} cells in {submitter.describe(len(made))}; nothing is queued")
        return
    show_asked(planned)
    if made:
        for standing in found:
            if standing.state == "failed":
                _print(f"failed before, submitted again: {standing.shown}: {standing.about}")
        _submit(planned, made, found, configs[0]["tracker"], submitter, workshop)
    begin(planned.outputs, planned.name, planned.cells)
    _stand(planned)
    if submitter.wait:
        _wait_for(planned)


def _submit(
    planned: Plan,
    made: Sequence[Pack],
    found: Sequence[Standing],
    tracker: Mapping[str, Any],
    submitter: Submitter,
    workshop: Workshop,
) -> None:
    theirs = for_jobs(tracker, submitter.offline)
    stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-{platform.node()}-{os.getpid()}"
    users = umask()
    given: list[Given] = []
    dense: dict[str, Path] = {}
    earlier = {s.id: (s.job,) for s in found if s.job is not None}
    jobs_folder = pack.folder(planned)
    with writing(jobs_folder):
        jobs_folder.mkdir(parents=True, exist_ok=True)  # others may launch the same sweep
    folder = jobs_folder / f"submitit-{stamp}"
    submitted: list[tuple[str, Path]] = []
    with _umask(0o077 if submitter.private else users):
        for number, one in enumerate(made):
            path = pack.save(one, planned, f"{stamp}-{number:04d}", theirs, workshop)
            given.append(Given(path, dense.get(one.dense.id), earlier.get(one.dense.id, ())))
            if one.opens:
                dense[one.dense.id] = path
        folder.mkdir()
        try:
            for jobs in submitter.submit(folder, planned.name, given, users):
                record(jobs, submitter.kind, folder)  # at once: what is queued is never unknown
                submitted += jobs
        except Refusal:
            _clear(folder, {one.path for one in given} - {path for _, path in submitted})
            if submitted:
                begin(planned.outputs, planned.name, planned.cells)
            raise
        finally:  # a later array may be refused
            if submitted:
                _print_jobs({job for job, _ in submitted})
    _print(f"logs: {folder}")
    if changed := told_offline(tracker, theirs, planned.outputs):
        _print(changed)
    _print(f"look: python -m sweep.status {planned.outputs}   (or the same command again)")


def for_jobs(tracker: Mapping[str, Any], offline: bool) -> Mapping[str, Any]:
    """The tracker as jobs are to use it: none asks a server, and what is off stays off."""
    asks = offline and tracker.get("mode") in ("online", "auto")
    return {**tracker, "mode": "offline"} if asks else tracker


def told_offline(asked: Mapping[str, Any], theirs: Mapping[str, Any], outputs: str) -> str | None:
    """What to say where jobs use the tracker in another way than it was asked for."""
    if asked == theirs:
        return None
    then = f"jobs write offline (hydra.launcher.offline); then: python -m sweep.track {outputs}"
    return f"tracker.mode={asked['mode']}: {then}"


def _print_jobs(jobs: set[str]) -> None:
    _print(f"submitted {len(jobs)} {'job' if len(jobs) == 1 else 'jobs'}: {folded(jobs)}")


def _stand(planned: Plan) -> None:
    """Where the sweep stands, and its table as far as there is one."""
    asked = {cell.id: cell.described() for cell in planned.cells}
    found = standings(Path(planned.outputs), asked)
    if any(standing.state == "done" for standing in found):
        page = planned.cells[0].settings.report == "page"
        sys.stdout.write(conclude(planned.outputs, planned.name, planned.cells, page=page))
        planned.tracker.conclude(planned.name, Path(planned.outputs))
    for standing in found:
        if standing.state == "failed":
            _print(f"failed: {standing.shown}: {standing.about}")
    _print(f"{planned.name}: {summary(found)}")


def _wait_for(planned: Plan) -> None:
    """Until nothing is queued or running.

    Raises:
        Failed: not everything is done then.
    """
    ids = {cell.id: cell.described() for cell in planned.cells}
    said = ""
    ended = time.monotonic()
    while True:
        found = standings(Path(planned.outputs), ids)
        if (now := summary(found)) != said:
            log.info("%s", said := now)
        states = {standing.state for standing in found}
        if states & {"queued", "running"}:
            ended = time.monotonic()
        elif "missing" not in states or time.monotonic() - ended > SETTLE:
            break
        time.sleep(LOOK)
    _stand(planned)
    missing = [standing for standing in found if standing.state != "done"]
    if missing or len(found) < len(ids):
        lines = [f"  {standing.shown}: {standing.about or standing.state}" for standing in missing]
        count = f"{len(ids) - len(found) + len(missing)} of {len(ids)} cells are not done"
        raise Failed("\n".join([count, *lines, "  the same command submits only these again"]))


@contextmanager
def _umask(mask: int) -> Iterator[None]:
    """What is written meanwhile has no permission that is in the mask."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def _clear(folder: Path, packs: Iterable[Path]) -> None:
    """Nothing is left of packs that no job was given, and of what submitit wrote for them."""
    for path in packs:
        path.unlink(missing_ok=True)
    linked = {file.resolve() for file in folder.iterdir() if file.is_symlink()}
    for file in [*folder.glob(".submission_file_*"), *folder.glob("*.pkl")]:
        of_a_job = file.is_symlink() or file in linked or file.name.endswith("_submitted.pkl")
        if not of_a_job:
            file.unlink()
    for empty in (folder, folder.parent, folder.parent.parent):
        with suppress(OSError):
            empty.rmdir()


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
