"""What is imported is not searched for garbage; what comes after it is."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import gc, sys
from sweep import garbage
garbage.begin()
assert gc.get_freeze_count() == 0, "somebody else's process"
garbage.put_off()
kept = [[i] for i in range(50_000)]
assert not gc.isenabled()
garbage.begin()
assert gc.isenabled() and gc.get_freeze_count() > 50_000
cycle = []; cycle.append(cycle); del cycle
assert gc.collect() > 0
"""


def test_what_was_there_before_work_began_is_never_looked_through() -> None:
    subprocess.run([sys.executable, "-c", SCRIPT], check=True)
