"""Python's search for cyclic garbage, kept away from what imports have made.

torch and transformers make half a million objects that live as long as the process. To look through
them again and again while they are made, and at times later, took a second of every command and two
of a sweep of five cells.
"""

from __future__ import annotations

import atexit
import gc


def put_off() -> None:
    """Nobody searches until `begin`: in a process that imports, plans, and works or ends."""
    gc.disable()


def begin() -> None:
    """What is there by now is never looked through again; what comes after it is, as always.

    Nothing, where the search was not put off: the process is somebody else's.
    """
    if gc.isenabled():
        return
    gc.freeze()
    gc.enable()
    atexit.register(gc.unfreeze)  # libraries that count their objects at the end find them gone
