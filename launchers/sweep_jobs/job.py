"""What runs in a job: a worker with the job's cells, watched by a process that loads nothing.

The worker shares the loaded model among the cells of the pack. If it is killed, the cell that it
held has failed, and another worker goes on with the others. If SLURM gives notice of the job's end,
the worker is asked to stop at the next block or batch, and submitit has the job queued again.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sweep.attempt import latest
from sweep.files import Folder
from sweep.refusal import Failed

DONE, STOPPED = 0, 3
"""Exit codes of `sweep.worker`, which is not imported: it would load torch."""

LOOK = 0.2
"""Seconds between two looks at the worker."""


class PackJob:
    """Runs packs, one after the other; what submitit calls a checkpointable function.

    Args:
        packs: paths of their files.
        offline: whether the hub is not to be asked for anything.
        threads: of the worker; None: as many as the job has processors.
        notice: seconds that a worker has to stop in before it is killed.
        killed: ids of cells that have killed their worker, and are not run again.
    """

    def __init__(
        self,
        packs: Sequence[str],
        offline: bool,
        *,
        threads: int | None = None,
        notice: float = 30.0,
        killed: Sequence[str] = (),
    ) -> None:
        self._packs = list(packs)
        self._offline = offline
        self._threads = threads
        self._notice = notice
        self._killed = list(killed)
        self._pid: int | None = None

    def checkpoint(self) -> Any:
        """Called by submitit in a signal's handler: the worker stops, and the job is run again."""
        from submitit.helpers import DelayedSubmission

        if self._pid is not None:
            _signal(self._pid, signal.SIGUSR2)
            end = time.monotonic() + self._notice
            while _runs(self._pid) and time.monotonic() < end:
                time.sleep(LOOK)
            _signal(self._pid, signal.SIGKILL)  # in the middle of a long block, which is lost
        again = PackJob(
            self._packs,
            self._offline,
            threads=self._threads,
            notice=self._notice,
            killed=self._killed,
        )
        return DelayedSubmission(again)

    def __call__(self) -> None:
        """Run until every cell is done, has failed, or the worker was asked to stop.

        Raises:
            Failed: cells failed, so that the job has failed too.
        """
        done = [self._run(pack) for pack in self._packs]
        if not all(done):
            raise Failed("cells failed; see failure.txt in their folders")

    def _run(self, pack: str) -> bool:
        """One pack, with as many workers as it takes; whether all its cells are done."""
        while True:
            before = _killed_for_memory()
            command = [sys.executable, "-m", "sweep.worker", pack, *self._killed]
            worker = subprocess.Popen(command, env=self._environment())
            self._pid = worker.pid
            while (code := worker.poll()) is None:
                time.sleep(LOOK)
            self._pid = None
            if code == STOPPED:
                raise Failed("stopped; the same command goes on with what is left")
            if code >= 0:
                return code == DONE and not self._killed
            cell = _blame(Path(pack), worker.pid, -code, _killed_for_memory() > before)
            if cell is None:
                raise Failed(f"the worker was killed by signal {-code} before it began a cell")
            self._killed.append(cell)

    def _environment(self) -> dict[str, str]:
        """Of the worker: a thread for each processor of the job, and nothing from the network."""
        environment = dict(os.environ)
        processors = self._threads or environment.get("SLURM_CPUS_PER_TASK")
        if processors is not None:  # what the login node has set is not meant for here
            environment["OMP_NUM_THREADS"] = str(processors)
        if self._offline:
            environment |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
        return environment


def _blame(pack: Path, pid: int, number: int, memory: bool) -> str | None:
    """Say why the cell that a killed worker held has failed; its id."""
    content = json.loads(pack.read_text())
    for cell in (content["dense"], *content["cells"]):
        folder = Folder(cell["config"]["outputs"], cell["name"])
        last = latest(folder.path)
        if last is None or last[0].ended is not None:
            continue
        if (last[0].host, last[0].pid) == (platform.node(), pid):
            why = f"Killed: by signal {number} ({signal.Signals(number).name})"
            if memory:
                why = "OutOfMemory: killed because the job's memory ran out; raise "
                why += "hydra.launcher.mem_gb, or lower batch_size"
            elif number == signal.SIGKILL:
                why += "; if memory ran out: raise hydra.launcher.mem_gb, or lower batch_size"
            folder.write_failure(why + "\n")
            return str(cell["id"])
    return None


def _signal(pid: int, number: signal.Signals) -> None:
    """To a child that is not yet reaped, so that its number is still its own."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _runs(pid: int) -> bool:
    """Whether a child runs; without reaping it, which the interrupted main program will do."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return False


def _killed_for_memory() -> int:
    """How many processes of this control group the kernel has killed for their memory."""
    try:
        group = Path("/proc/self/cgroup").read_text().rpartition("::")[2].strip()
        events = Path(f"/sys/fs/cgroup{group}/memory.events").read_text()
    except OSError:
        return 0
    number = re.search(r"^oom_kill (\d+)", events, re.MULTILINE)
    return int(number[1]) if number else 0
