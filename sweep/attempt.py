"""Who works on a cell: a numbered file that only one process can make, and that dies with it.

It holds on a shared file system without locks. To take a cell is to make the file with the next
number, by a hard link, which either makes it whole or finds it there. The holder rewrites its file
every few seconds; one that has grown old, or whose process is gone from this machine, is no
hindrance any more. Nothing is ever taken away, so nobody can take away what another has just made;
a holder that was taken for dead finds its successor's file, and leaves the cell to it.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from sweep.disk import write, writing
from sweep.refusal import Overtaken

BEAT = 5.0
"""Seconds between two signs of life."""

OLD = 60.0
"""Seconds without a sign of life after which a holder counts as dead."""

_NO_LINKS = {errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS, errno.EXDEV}
"""What file systems without hard links say."""


@dataclass(frozen=True)
class Attempt:
    """What the file says.

    Attributes:
        host, boot, pid, start: the process; `boot` is the machine's and `start` the process's, so
            that a number means one process for ever.
        job: its SLURM job, `12` or `12_3`; None outside of one.
        began: seconds since the epoch.
        doing: what loop it is in, how many are done and how many there are.
        ended: how it ended: `done`, `failed`, `stopped`; None while it lasts.
        seen: when it last gave a sign of life, by the same clock as `began`.
    """

    host: str = field(default_factory=platform.node)
    boot: str = field(default_factory=lambda: _boot())
    pid: int = field(default_factory=os.getpid)
    start: int | None = field(default_factory=lambda: _start(os.getpid()))
    job: str | None = field(default_factory=lambda: job_id(os.environ))
    began: float = field(default_factory=time.time)
    doing: tuple[str, int, int] | None = None
    ended: str | None = None
    seen: float | None = None

    @classmethod
    def of(cls, pid: int) -> Attempt:
        """Another process of this machine."""
        return cls(pid=pid, start=_start(pid))

    @property
    def process(self) -> tuple[str, str, int, int | None]:
        """Equal for attempts of one process only."""
        return self.host, self.boot, self.pid, self.start

    def runs_here(self) -> bool:
        """Whether the process is on this machine, and there."""
        here = bool(self.boot) and (self.host, self.boot) == (platform.node(), _boot())
        return here and self.start is not None and _start(self.pid) == self.start


def job_id(environment: Any) -> str | None:
    """The SLURM job in whose environment this is: `12`, or `12_3` in an array."""
    array, task = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else environment.get("SLURM_JOB_ID")


class Holding:
    """A cell in this process's hands, as a context: signs of life until it ends.

    Args:
        path: of the file.
        attempt: what it says.
    """

    def __init__(self, path: Path, attempt: Attempt) -> None:
        self._path = path
        self._attempt = attempt
        self._over = threading.Event()
        self._overtaken = False
        self._thread = threading.Thread(target=self._live, daemon=True)

    def progress(self, what: str, done: int, total: int) -> None:
        """Said with the next sign of life.

        Raises:
            Overtaken: this process was taken for dead, and another has the cell now.
        """
        if self._overtaken:
            raise Overtaken(f"{self._path.parent.parent.name}: another process has taken it over")
        self._attempt = replace(self._attempt, doing=(what, done, total))

    def end(self, how: str) -> None:
        """`done`, `failed` or `stopped`."""
        self._attempt = replace(self._attempt, ended=how)

    def __enter__(self) -> Holding:
        """Begins to give signs of life."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """The last sign of life says how it ended."""
        self._over.set()
        self._thread.join()
        if self._attempt.ended is None:
            self.end("failed" if error is not None else "done")
        with suppress(Exception):
            self._write()
            return
        with suppress(OSError):  # a full disk: nothing can be said, and so nobody has the cell
            self._path.unlink()

    def _live(self) -> None:
        successor = self._path.with_name(_name(int(self._path.stem) + 1))
        while not self._over.wait(BEAT):
            with suppress(Exception):
                self._overtaken = self._overtaken or successor.exists()
                self._write()

    def _write(self) -> None:
        write(self._path, _text(replace(self._attempt, seen=time.time())))


def take(cell: Path) -> Holding | None:
    """The cell in this folder, if nobody else works on it.

    Raises:
        OutOfSpace: the file cannot be made.
    """
    folder = cell / "attempts"
    number, latest = _latest(folder)
    if latest is not None and alive(folder / _name(number), latest):
        return None
    attempt = Attempt()
    path = folder / _name(number + 1)
    with writing(path):
        folder.mkdir(parents=True, exist_ok=True)
        handle, whole = tempfile.mkstemp(dir=folder, prefix=".taking-")
        try:
            with os.fdopen(handle, "w") as file:
                file.write(_text(attempt))
            Path(whole).chmod(0o644)  # whoever shares the folder must see who holds the cell
            _link(Path(whole), path)
        except FileExistsError:
            # NFS may have made the link, lost its answer, and been asked again
            if path.read_text() != _text(attempt):
                return None
        finally:
            Path(whole).unlink()
    return Holding(path, attempt)


def _link(whole: Path, path: Path) -> None:
    """Another name for a file, or a copy of it where the file system knows only one name.

    Raises:
        FileExistsError: the name is taken.
    """
    try:
        os.link(whole, path)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with path.open("x") as file:
            file.write(whole.read_text())


def latest(cell: Path) -> tuple[Attempt, bool] | None:
    """The last attempt at a cell, and whether it is still alive; None if there was none."""
    folder = cell / "attempts"
    number, attempt = _latest(folder)
    return None if attempt is None else (attempt, alive(folder / _name(number), attempt))


def spent(cell: Path) -> float:
    """Seconds for which processes had a cell in their hands, loading and all, as far as they say.

    A try that failed is not in it.
    """
    folder = cell / "attempts"
    found = 0.0
    for number in _numbers(folder):
        attempt = _read(folder, number)
        if attempt.ended == "failed":
            continue
        lasts = alive(folder / _name(number), attempt)
        end = time.time() if lasts else attempt.seen
        found += 0 if end is None else max(0.0, end - attempt.began)
    return found


def given_up(cell: Path) -> bool:
    """Whether whoever had a cell last is gone, and did not say how it ended."""
    last = latest(cell)
    return last is not None and last[0].ended is None and not last[1]


def alive(path: Path, attempt: Attempt) -> bool:
    """Whether the process that made the file still works on it."""
    if attempt.ended is not None:
        return False
    if attempt.boot and (attempt.host, attempt.boot) == (platform.node(), _boot()):
        return attempt.runs_here()
    return _now(path.parent) - path.stat().st_mtime < OLD


def _latest(folder: Path) -> tuple[int, Attempt | None]:
    numbers = _numbers(folder)
    return (numbers[-1], _read(folder, numbers[-1])) if numbers else (0, None)


def _numbers(folder: Path) -> list[int]:
    return sorted(int(file.stem) for file in folder.glob("[0-9]*.json"))


def _read(folder: Path, number: int) -> Attempt:
    try:
        said = json.loads((folder / _name(number)).read_text())
        if said["doing"] is not None:
            said["doing"] = tuple(said["doing"])
        return Attempt(**said)
    except OSError:  # somebody else's, who keeps it private: its age is all that can be known
        return Attempt(host="?", boot="?", pid=0, start=None)
    except (ValueError, TypeError, KeyError):  # or half written, where there are no hard links
        return Attempt(host="?", boot="?", pid=0, start=None)


def _name(number: int) -> str:
    return f"{number:03d}.json"


def _text(attempt: Attempt) -> str:
    return json.dumps(asdict(attempt)) + "\n"


def _now(folder: Path) -> float:
    """The time by the clock of the file system, which may differ from this machine's."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".clock-") as probe:
            return Path(probe.name).stat().st_mtime
    except OSError:  # whoever only looks may not be allowed to write
        return time.time()


def _start(pid: int) -> int | None:
    """When a process began, in ticks; None if it is not there, or nothing but its remains."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def _boot() -> str:
    """This start of this machine, as seen from this namespace of process numbers."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""
