"""A cell is in one process's hands; a dead process holds nothing."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from sweep import attempt
from sweep.attempt import Attempt, latest, take
from sweep.refusal import Overtaken


def hold(cell: Path) -> attempt.Holding:
    holding = take(cell)
    assert holding is not None
    return holding


def test_a_cell_is_taken_once_and_free_again_when_its_holder_ends(tmp_path: Path) -> None:
    with hold(tmp_path):
        assert take(tmp_path) is None
    said = latest(tmp_path)
    assert said is not None
    assert said[0].ended == "done"
    assert not said[1]
    with hold(tmp_path):
        pass
    assert [file.name for file in sorted((tmp_path / "attempts").iterdir())] == [
        "001.json",
        "002.json",
    ]


def test_how_it_ended_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no"), hold(tmp_path):
        raise ValueError("no")
    assert latest(tmp_path)[0].ended == "failed"  # type: ignore[index]
    with hold(tmp_path) as holding:
        holding.end("stopped")
    assert latest(tmp_path)[0].ended == "stopped"  # type: ignore[index]


def test_whoever_can_say_nothing_at_the_end_has_not_got_the_cell_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with hold(tmp_path):
        monkeypatch.setattr(attempt, "write", full)
    assert latest(tmp_path) is None
    with hold(tmp_path):
        pass


def test_of_many_who_want_a_cell_at_once_one_gets_it(tmp_path: Path) -> None:
    for cell in (tmp_path / str(i) for i in range(20)):
        start = threading.Barrier(8)
        got: list[Any] = []

        def want(cell: Path = cell, start: threading.Barrier = start, got: Any = got) -> None:
            start.wait()
            got.append(take(cell))

        threads = [threading.Thread(target=want) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(holding is not None for holding in got) == 1


HOLDS = """
import sys, time
from pathlib import Path
from sweep.attempt import take
with take(Path(sys.argv[1])):
    print("holds", flush=True)
    time.sleep(60)
"""


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holds\n"
        assert take(tmp_path) is None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with hold(tmp_path):
        assert take(tmp_path) is None


def elsewhere(cell: Path, age: float) -> None:
    """An attempt on another machine whose last sign of life is so many seconds old."""
    file = cell / "attempts" / "001.json"
    file.parent.mkdir(parents=True)
    said = {**json.loads(attempt._text(Attempt())), "host": "node7", "boot": "another"}
    file.write_text(json.dumps(said))
    then = time.time() - age
    os.utime(file, (then, then))


def test_another_machine_is_believed_as_long_as_it_gives_signs_of_life(tmp_path: Path) -> None:
    elsewhere(tmp_path / "fresh", attempt.OLD - 20)
    assert take(tmp_path / "fresh") is None
    elsewhere(tmp_path / "old", attempt.OLD + 5)
    with hold(tmp_path / "old"):
        assert take(tmp_path / "old") is None


def test_signs_of_life_say_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "BEAT", 0.02)
    with hold(tmp_path) as holding:
        file = tmp_path / "attempts" / "001.json"
        holding.progress("blocks", 3, 32)
        before = file.stat().st_mtime_ns
        deadline = time.monotonic() + 20
        while latest(tmp_path)[0].doing is None and time.monotonic() < deadline:  # type: ignore[index]
            time.sleep(0.02)
        assert latest(tmp_path)[0].doing == ("blocks", 3, 32)  # type: ignore[index]
        assert file.stat().st_mtime_ns > before


def test_a_damaged_file_is_a_hindrance_until_it_is_old(tmp_path: Path) -> None:
    file = tmp_path / "attempts" / "001.json"
    file.parent.mkdir()
    file.write_text("{")  # whoever makes it may be in the middle of that
    assert take(tmp_path) is None
    then = time.time() - attempt.OLD - 5
    os.utime(file, (then, then))
    with hold(tmp_path):
        assert (tmp_path / "attempts" / "002.json").is_file()


def test_a_holder_that_was_taken_for_dead_leaves_the_cell_to_its_successor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "BEAT", 0.02)

    def work(own: attempt.Holding) -> None:
        own.progress("blocks", 1, 2)
        (tmp_path / "attempts" / "002.json").write_text(attempt._text(Attempt()))
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            own.progress("blocks", 2, 2)
            time.sleep(0.02)

    with hold(tmp_path) as own, pytest.raises(Overtaken, match="another process has taken it over"):
        work(own)


def test_a_link_whose_answer_was_lost_is_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file server that is asked again says that the name is taken."""
    made = os.link

    def link(whole: Path, path: Path) -> None:
        made(whole, path)
        raise FileExistsError

    monkeypatch.setattr(os, "link", link)
    with hold(tmp_path):
        assert take(tmp_path) is None


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP])
def test_where_there_are_no_hard_links_a_cell_is_taken_once_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def link(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", link)
    with hold(tmp_path):
        assert take(tmp_path) is None
        said = latest(tmp_path)
        assert said is not None
        assert said[0].process == Attempt().process
    hold(tmp_path)


@pytest.mark.parametrize(
    ("environment", "job"),
    [
        ({}, None),
        ({"SLURM_JOB_ID": "12"}, "12"),
        (
            {"SLURM_JOB_ID": "14", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "2"},
            "12_2",
        ),
    ],
)
def test_the_job_is_named_as_slurm_names_it(environment: dict[str, str], job: str | None) -> None:
    assert attempt.job_id(environment) == job
