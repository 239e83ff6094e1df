"""Python's search for cyclic garbage, kept away from what imports have made.

torch and transformers make half a million objects that live as long as the process. To look through
them again and again while they are made, and at times later, took a second of every command and two
of a sweep of five cells; to take them apart at the end, one by one, two seconds more.
"""

from __future__ import annotations

import atexit
import gc
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_status: list[int] = []
"""The exit code, once work has ended in a process that does nothing else."""


@contextmanager
def alone() -> Iterator[None]:
    """What is within is all that this process does.

    Nobody searches before `begin`, if that is called. At the end all are called who have asked for
    it since the project was imported, and the process is left without taking its objects apart.
    """
    gc.disable()
    try:
        yield
    except SystemExit as end:
        known = isinstance(end.code, int | None)
        _status.append(int(end.code or 0) if known else 1)  # what else there is, Python prints
        raise
    _status.append(0)


def begin() -> None:
    """What is there by now is never looked through again; what comes after it is, as always.

    Nothing, where the search was not put off: the process is somebody else's.
    """
    if gc.isenabled():
        return
    gc.freeze()
    gc.enable()
    atexit.register(gc.unfreeze)  # libraries that count their objects at the end find them gone


def _leave() -> None:
    """Nothing, where the process ends by an error that nobody has put in a line, or is not ours."""
    if not _status:
        return
    logging.shutdown()  # which asked before
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # closed by who started the process
                stream.flush()
    except (OSError, ValueError):
        return  # a reader that left, a full disk: for Python to say
    os._exit(_status[0])


atexit.register(_leave)  # the first to ask is the last to be called: see sweep/__init__.py
