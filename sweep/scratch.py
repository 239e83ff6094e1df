"""Folders for what is larger than memory: they last as long as the process that made them.

A process that is killed cannot remove its own. The next one of the same machine does: each folder
has a lock, which the system takes back from a process that ends in whatever way. Locks of another
machine are not looked at, for on some file systems of clusters nobody else sees them.
"""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from socket import gethostname
from typing import IO


def own_folder(below: Path) -> tuple[Path, Callable[[], None]]:
    """A new folder, and what removes it; those beside it that no process here holds go.

    Args:
        below: the folder in which it is made, with others of its kind only.

    Raises:
        OSError: it cannot be written.
    """
    below.mkdir(parents=True, exist_ok=True)
    here = f"{gethostname()}-"
    for left in below.glob(f"{here}*/lock"):
        with suppress(OSError), left.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left.parent, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=here, dir=below))
    lock = (folder / "new").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    (folder / "new").rename(folder / "lock")  # under this name nobody finds it free
    return folder, partial(_clear, folder, lock)


def _clear(folder: Path, lock: IO[str]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    lock.close()
