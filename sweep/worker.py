"""`python -m sweep.worker PACK`: the cells of one job, in a process that may be stopped or killed.

What starts it (a job of a cluster, a process of this machine) reads its exit code: 0, everything is
done; 1, cells failed; 3, it was asked to stop (SIGUSR2, which SLURM sends before the end of a job,
or SIGTERM) and has left at the end of a block or a batch what it had; 4, the disk is full; 5, the
GPU takes no more work from this process, and another process should go on.
"""

from __future__ import annotations

import logging
import signal
import sys
from pathlib import Path
from types import FrameType

from sweep import garbage
from sweep.grid import quiet, work
from sweep.pack import load
from sweep.progress import Progress
from sweep.refusal import Broken, Interrupted, OutOfSpace, Refusal
from sweep.workshop import Workshop

DONE, FAILED, STOPPED, FULL, BROKEN = 0, 1, 3, 4, 5

log = logging.getLogger("sweep")


def main(words: list[str]) -> int:
    """Run the pack.

    Args:
        words: path of the pack, then the ids of cells that are not to be run.

    Returns:
        The exit code.
    """
    progress = Progress()

    def stop(number: int, _: FrameType | None) -> None:
        progress.stopping = True  # and nothing else: the program may be in the middle of anything

    for number in (signal.SIGUSR2, signal.SIGTERM):
        signal.signal(number, stop)
    quiet()
    workshop = Workshop(progress)
    failures: dict[str, str] = {}
    path, *without = words
    try:
        planned = load(Path(path), workshop, failures, without)
        for name, reason in failures.items():
            log.error("%s: %s", name, reason)
        work(planned, workshop, failures)
    except Refusal as refusal:
        log.error("%s", refusal)
        return FAILED
    except Broken as broken:
        log.error("%s", broken)
        return BROKEN
    except Interrupted as interrupted:
        log.info("%s; goes on when the job is started again", interrupted)
        return STOPPED
    except OutOfSpace as full:
        log.error("%s", full)
        return FULL
    return FAILED if failures else DONE


if __name__ == "__main__":
    with garbage.alone():
        sys.exit(main(sys.argv[1:]))
