"""What is imported is not searched for garbage; what comes after it is; nothing is taken apart; and
what is freed is kept."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SEARCHED = """
import gc
from sweep import garbage
garbage.begin()
assert gc.get_freeze_count() == 0, "somebody else's process"
with garbage.alone():
    kept = [[i] for i in range(50_000)]
    assert not gc.isenabled()
    garbage.begin()
    assert gc.isenabled() and gc.get_freeze_count() > 50_000
    cycle = []; cycle.append(cycle); del cycle
    assert gc.collect() > 0
"""

LEFT = """
import atexit, logging, sys
from sweep import garbage
class Kept:
    def __del__(self):
        print("taken apart")
kept = Kept()
kept.itself = kept
logging.basicConfig(stream=sys.stdout, format="%(message)s")
atexit.register(print, "asked before")
with garbage.alone():
    atexit.register(print, "ended")
    logging.warning("worked")
"""

CLEARED = """
import weakref
import sweep.worker
from sweep import garbage
class Kept: pass
kept = Kept()
weakref.finalize(kept, print, "cleared")
with garbage.alone():
    pass
"""

FREED = """
import resource
import torch
from sweep import garbage
def new():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    kept = [torch.ones(2**20) for _ in range(20)]  # 80 MiB
    while kept:
        kept.pop()  # from the last to the first, so that all of it is one piece in the end
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
with garbage.alone():
    garbage.begin()
    first = new()
    print(new() / first)
"""

QUIET = """
import sys
from sweep import garbage
from sweep.explain import in_one_line
with garbage.alone(), in_one_line():
    sys.exit(3)
"""


GLIBC = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def run(script: str, **options: Any) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-E", "-c", script]  # whatever PYTHONUNBUFFERED says here
    return subprocess.run(words, capture_output=True, text=True, check=False, **options)


def test_what_was_there_before_work_began_is_never_looked_through() -> None:
    done = run(SEARCHED)
    assert done.returncode == 0, done.stderr


def test_at_the_end_whoever_asked_is_called_and_nothing_is_taken_apart() -> None:
    done = run(LEFT)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "worked\nended\nasked before\n"


def test_what_a_job_keeps_in_a_folder_goes_with_it() -> None:
    """Its finalisers are called, though torch asked first that they be."""
    done = run(CLEARED)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "cleared\n")


def test_a_process_whose_output_is_closed_ends_as_quietly() -> None:
    words = ["sh", "-c", 'exec "$0" -c "$1" >&-', sys.executable, QUIET]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (3, "")


@pytest.mark.parametrize(
    ("last", "code", "said"),
    [
        ("sys.exit()", 0, ""),
        ("sys.exit(0)", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("sys.exit(True)", 1, ""),
        ("sys.exit('one line')", 1, "one line\n"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero\n"),
        ("raise KeyboardInterrupt", -2, "KeyboardInterrupt\n"),
    ],
)
def test_the_exit_code_is_that_of_the_work(last: str, code: int, said: str) -> None:
    done = run(f"{LEFT}    {last}\n")
    assert done.returncode == code
    assert done.stderr.endswith(said)
    assert done.stderr.count("\n") == said.count("\n") or "Traceback" in done.stderr
    assert done.stdout.startswith("worked\nended\nasked before\n")


def test_what_cannot_be_written_at_the_end_is_said() -> None:
    script = "from sweep import garbage\nwith garbage.alone(): print('worked')"
    with Path("/dev/full").open("w") as full:
        words = [sys.executable, "-E", "-c", script]  # whatever PYTHONUNBUFFERED says here
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 120  # Python's own
    assert "No space left on device" in done.stderr


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not GNU's")
def test_what_is_freed_is_kept_unless_the_environment_says_what_to_do() -> None:
    """As a share of the pages that were new the first time; by itself the C library takes nearly
    all anew, and with what it keeps some, as it splits what it has otherwise."""
    left = {name: said for name, said in os.environ.items() if name not in GLIBC}
    done = run(FREED, env=left)
    assert (done.returncode, done.stderr) == (0, "")
    assert float(done.stdout) < 0.5
    told = run(FREED, env=left | {"MALLOC_MMAP_THRESHOLD_": str(2**20)})
    assert (told.returncode, told.stderr) == (0, "")
    assert float(told.stdout) > 0.9
