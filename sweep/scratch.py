"""Folders for what is larger than memory: they last as long as the process that made them.

A process that is killed cannot remove its own. The next one does: each folder has a lock, which the
system takes back from a process that ends in whatever way.
"""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO


def own_folder(below: Path) -> tuple[Path, Callable[[], None]]:
    """A new folder, and what removes it; those beside it that no process holds go.

    Args:
        below: the folder in which it is made, with others of its kind only.

    Raises:
        OSError: it cannot be written.
    """
    below.mkdir(parents=True, exist_ok=True)
    for left in below.glob("*/lock"):
        with suppress(OSError), left.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left.parent, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(dir=below))
    lock = (folder / "lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return folder, partial(_clear, folder, lock)


def _clear(folder: Path, lock: IO[str]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    lock.close()
