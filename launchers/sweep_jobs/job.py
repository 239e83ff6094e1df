"""What runs in a job: a worker with the job's cells, watched by a process that loads nothing.

The worker shares the loaded model among the cells of the pack. If it is killed, the cell that it
held has failed, and another worker goes on with the others. If SLURM gives notice of the job's end,
the worker is asked to stop at the next block or batch, and submitit has the job queued again.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from sweep import slurm
from sweep.attempt import Attempt, latest
from sweep.files import Folder
from sweep.refusal import Failed

DONE, STOPPED, BROKEN = 0, 3, 5
"""Exit codes of `sweep.worker`, which is not imported: it would load torch."""

LOOK = 0.2
"""Seconds between two looks at the worker."""

GRACE = 30.0
"""Seconds, beyond those that SLURM gives it, in which a job that was told to end is ended."""

RESTARTS = 3
"""How often in a row a worker may be told to end, and not its job, before the job gives up."""


class PackJob:
    """Runs packs, one after the other; what submitit calls a checkpointable function.

    Args:
        packs: paths of their files.
        offline: whether the hub is not to be asked for anything.
        umask: of the worker, whose results are as private as the user's other files; that of the
            job itself may be stricter.
        threads: of the worker; None: as many as the job has processors.
        gpus: those that the worker may use, as CUDA_VISIBLE_DEVICES names them; None: all.
        notice: seconds that a worker has to stop in before it is killed.
        failed: ids of cells that have failed in this job, or killed it, and are not run again.
    """

    def __init__(
        self,
        packs: Sequence[str],
        offline: bool,
        umask: int,
        *,
        threads: int | None = None,
        gpus: str | None = None,
        notice: float = 30.0,
        failed: Sequence[str] = (),
    ) -> None:
        self._packs = list(packs)
        self._offline = offline
        self._umask = umask
        self._threads = threads
        self._gpus = gpus
        self._notice = notice
        self._failed = list(failed)
        self._worker: _Worker | None = None
        self._told = False

    def checkpoint(self) -> Any:
        """Called by submitit in a signal's handler: the worker stops, and the job is run again."""
        from submitit.helpers import DelayedSubmission

        if self._worker is not None:
            self._worker.stop(self._notice)
            self._failed += self._worker.failed()
        again = PackJob(
            self._packs,
            self._offline,
            self._umask,
            threads=self._threads,
            gpus=self._gpus,
            notice=self._notice,
            failed=self._failed,
        )
        return DelayedSubmission(again)

    def __call__(self) -> None:
        """Run until every cell is done, has failed, or the worker was asked to stop.

        Raises:
            SystemExit: cells failed, so that the job has failed too. It ends the log of the job
                with the reasons; for other exceptions submitit prints a trace of its own.
        """
        try:
            with self._listening():
                done = [self._run(Path(pack)) for pack in self._packs]
        except Failed as failed:
            sys.exit(str(failed))
        if not all(done):
            sys.exit("\n".join(["cells failed:", *self._reasons()]))

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        """Notes that the job is told to end (SIGTERM), and hands it on to the worker."""

        def told(number: int, frame: FrameType | None) -> None:
            self._told = True
            if self._worker is not None:
                self._worker.end()
            if callable(before):  # submitit's, which logs it
                before(number, frame)

        before = signal.signal(signal.SIGTERM, told)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def _reasons(self) -> Iterator[str]:
        """Why cells failed, one a line."""
        for pack in self._packs:
            for _, folder in _cells(Path(pack)):
                if (failure := folder.failure()) is not None:
                    yield f"  {folder.path.name}: {failure} ({folder.log})"

    def _run(self, pack: Path) -> bool:
        """One pack, with as many workers as it takes; whether all its cells are done.

        Raises:
            Failed: told to end, or no worker begins a cell.
        """
        stops = 0
        while True:
            before = _killed_for_memory()
            self._worker = _Worker(pack, self._failed, self._environment(), self._umask)
            if self._told:  # while this one was being started, when there was nobody to tell
                self._worker.end()
            code = self._worker.wait()
            if code in (STOPPED, -signal.SIGTERM, -signal.SIGUSR2):  # it had not begun to listen
                time.sleep(LOOK)  # the job may be told a moment after its worker
                stops += 1
                if self._told or stops > RESTARTS:
                    if self._told and os.environ.get("SUBMITIT_EXECUTOR") == "slurm":
                        # scancel and preemption tell the steps first, and end the job a while later
                        time.sleep(GRACE + slurm.grace(os.environ.get("SLURM_JOB_PARTITION", "")))
                    raise Failed("stopped; the same command goes on with what is left")
                continue  # somebody ended the worker alone
            if code >= 0 and code != BROKEN:
                return code == DONE and not self._failed
            blamed = self._worker.failed()
            if code < 0:
                blamed += self._worker.blame(-code, _killed_for_memory() > before)
            if not blamed:
                raise Failed(f"the worker ended with {code} before it began a cell")
            self._failed += blamed

    def _environment(self) -> dict[str, str]:
        """Of the worker: a thread for each processor of the job, and nothing from the network."""
        environment = dict(os.environ)
        processors = self._threads or environment.get("SLURM_CPUS_PER_TASK")
        if processors is not None:  # what the login node has set is not meant for here
            environment["OMP_NUM_THREADS"] = str(processors)
        if self._gpus is not None:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus
        if self._offline:
            environment |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
        return environment


class _Worker:
    """A process with the cells of a pack.

    Args:
        pack: path of its file.
        without: ids of cells that are not to be run.
        environment, umask: of the process.
    """

    def __init__(
        self, pack: Path, without: Sequence[str], environment: dict[str, str], umask: int
    ) -> None:
        self._pack = pack
        command = [sys.executable, "-m", "sweep.worker", str(pack), *without]
        self._process = subprocess.Popen(
            command,
            env=environment,
            umask=umask,
            preexec_fn=partial(_end_with, os.getpid()) if _PRCTL else None,
        )
        self._attempt = Attempt.of(self._process.pid)

    def wait(self) -> int:
        """Its exit code; negative: the signal by which it was killed."""
        while (code := self._process.poll()) is None:
            time.sleep(LOOK)
        return code

    def end(self) -> None:
        """Have it end at the next block or batch."""
        self._signal(signal.SIGTERM)

    def stop(self, notice: float) -> None:
        """Have it end at the next block or batch; kill it if it is still in that when time is up.

        What the killed one had in hand since it last wrote finished blocks is lost.
        """
        self._signal(signal.SIGUSR2)
        end = time.monotonic() + notice
        while self._runs() and time.monotonic() < end:
            time.sleep(LOOK)
        self._signal(signal.SIGKILL)

    def failed(self) -> list[str]:
        """Ids of the cells that have failed in it."""
        return [id for id, _, attempt in self._attempts() if attempt.ended == "failed"]

    def blame(self, number: int, memory: bool) -> list[str]:
        """Say why the cell that it held when it was killed has failed; its id.

        Args:
            number: of the signal.
            memory: whether the job's memory had run out.
        """
        held = [(id, folder) for id, folder, attempt in self._attempts() if attempt.ended is None]
        for _, folder in held:
            why = f"Killed: by signal {number} ({signal.Signals(number).name})"
            if memory:
                why = "OutOfMemory: killed because the job's memory ran out; raise "
                why += "hydra.launcher.mem_gb, or lower batch_size"
            elif number == signal.SIGKILL:
                why += "; if memory ran out: raise hydra.launcher.mem_gb, or lower batch_size"
            folder.write_failure(why + "\n")
        return [id for id, _ in held]

    def _attempts(self) -> list[tuple[str, Folder, Attempt]]:
        """The cells that this process was the last to have in its hands."""
        found: list[tuple[str, Folder, Attempt]] = []
        for id, folder in _cells(self._pack):
            last = latest(folder.path)
            if last is not None and last[0].process == self._attempt.process:
                found.append((id, folder, last[0]))
        return found

    def _signal(self, number: signal.Signals) -> None:
        """To a child that is not yet reaped, so that its number is still its own."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, number)

    def _runs(self) -> bool:
        """Whether it runs; without reaping it, which the interrupted main program will do."""
        try:
            return os.waitid(os.P_PID, self._process.pid, _ENDED) is None
        except ChildProcessError:
            return False


def _cells(pack: Path) -> list[tuple[str, Folder]]:
    """Ids and folders of a pack's cells, and of its dense one."""
    content = json.loads(pack.read_text())
    cells = {cell["id"]: cell for cell in (content["dense"], *content["cells"])}
    return [(id, Folder(c["config"]["outputs"], c["name"])) for id, c in cells.items()]


_PRCTL: Any = getattr(ctypes.CDLL(None), "prctl", None)
"""Of Linux; elsewhere a worker may outlive what watches it."""

_PDEATHSIG = 1


def _end_with(parent: int) -> None:
    """Called in a new process: it is killed when the one that started it ends, however that ends.

    Where SLURM knows the processes of a job only by their parents, it would outlive the job.
    """
    _PRCTL(_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:  # which has ended before this was said
        os.kill(os.getpid(), signal.SIGKILL)


_ENDED = os.WEXITED | os.WNOHANG | os.WNOWAIT


def _killed_for_memory(root: Path = Path("/")) -> int:
    """How many processes of this control group the kernel has killed for their memory."""
    try:
        groups = (root / "proc/self/cgroup").read_text()
    except OSError:
        return 0
    for pattern, file in (
        (r"^0::(.*)$", "sys/fs/cgroup{}/memory.events"),  # version 2
        (r"^\d+:memory:(.*)$", "sys/fs/cgroup/memory{}/memory.oom_control"),  # version 1
    ):
        group = re.search(pattern, groups, re.MULTILINE)
        with contextlib.suppress(OSError):
            events = (root / file.format(group[1])).read_text() if group else ""
            if number := re.search(r"^oom_kill (\d+)", events, re.MULTILINE):
                return int(number[1])
    return 0
