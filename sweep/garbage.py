"""What a command needs no more: objects are not searched for in vain, memory is not given back.

torch and transformers make half a million objects that live as long as the process. For Python to
look through them for cyclic garbage again and again while they are made, and at times later, took a
second of every command and two of a sweep of five cells; to take them apart at the end, one by one,
two seconds more.

And the C library gives memory back to the system as soon as some tens of MB are free, which a small
model's every layer takes again, as new pages, each filled with zeros when it is first touched: a
tenth to a quarter of the time in which such a model is compressed.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

KEPT = 128 * 2**20
"""Bytes that are kept for what is taken next: a few activations of a small model."""

WHOLE = 32 * 2**20
"""Bytes of a tensor that goes back at once all the same; the C library's own greatest, to which it
goes by itself."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of malloc.h."""

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
    """What is there by now is never looked through again; what comes after it is, as always. What
    is freed from now on is kept.

    Nothing, where the search was not put off: the process is somebody else's.
    """
    if gc.isenabled():
        return
    _keep_freed()
    gc.freeze()
    gc.enable()
    atexit.register(gc.unfreeze)  # libraries that count their objects at the end find them gone


def _keep_freed() -> None:
    """Nothing, where the C library is not GNU's, or is told by its environment what to do."""
    told = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
    if sys.platform != "linux" or any(name in os.environ for name in told):
        return
    if set_limit := getattr(ctypes.CDLL(None), "mallopt", None):
        set_limit(M_TRIM_THRESHOLD, KEPT)
        set_limit(M_MMAP_THRESHOLD, WHOLE)  # it would stay where it is by now


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
