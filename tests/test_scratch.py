"""Folders of processes: each has its own, and nobody takes that of a living one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sweep.scratch import own_folder

MANY = """
import sys
from pathlib import Path
from sweep.scratch import own_folder
lost = 0
for _ in range(200):
    folder, clear = own_folder(Path(sys.argv[1]))
    lost += not (folder / "lock").is_file()
    clear()
print(lost)
"""


def test_processes_that_make_folders_at_once_lose_none(tmp_path: Path) -> None:
    words = [sys.executable, "-c", MANY, str(tmp_path)]
    several = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate()[0] for process in several] == 4 * ["0\n"]
    assert not list(tmp_path.iterdir())


def test_a_folder_goes_with_its_holder_and_not_before(tmp_path: Path) -> None:
    one, clear = own_folder(tmp_path)
    other, clear_other = own_folder(tmp_path)
    assert one.is_dir()
    clear()
    assert [*tmp_path.iterdir()] == [other]
    clear_other()
