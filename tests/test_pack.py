"""The cells of one job, as a file: what was planned, or a word why it cannot be run any more."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sweep import attempt, pack, worker
from sweep.files import Folder
from sweep.plan import Plan, plan
from sweep.progress import Progress
from sweep.refusal import Refusal
from sweep.workshop import Workshop

Frozen = Callable[..., dict[str, Any]]
SMALL = (
    "method=wanda",
    "calib.n_samples=2",
    "metric=[perplexity]",
    "metric.perplexity.n_samples=2",
)


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """A worker's are not those of the tests."""
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR2, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def text(tmp_path: Path, files: dict[str, Path]) -> Path:
    """Data of a user's."""
    text = tmp_path / "text.txt"
    text.write_text(files["text"].read_text())
    return text


@pytest.fixture
def planned(frozen: Frozen, text: Path) -> Plan:
    """Dense, a cell calibrated with prose, and one with the user's data."""
    local = ("calib=local", f"calib.path={text}", "calib.seqlen=32")
    return plan([frozen(*SMALL), frozen(*SMALL, *local)], Workshop(Progress()))


def saved(planned: Plan) -> Path:
    """The cells but the dense one, for one job."""
    dense, *others = planned.cells
    one = pack.Pack(tuple(others), dense)
    tracker = {"_target_": "sweep.track.Silent"}
    return pack.save(one, planned, "pack", tracker, Workshop(Progress()))


def test_a_pack_holds_what_was_planned_and_the_dense_cell_if_nobody_has_done_that(
    planned: Plan,
) -> None:
    failures: dict[str, str] = {}
    loaded = pack.load(saved(planned), Workshop(Progress()), failures)
    assert [cell.id for cell in loaded.todo] == [cell.id for cell in planned.cells]
    assert [cell.config for cell in loaded.cells] == [cell.config for cell in planned.cells]
    assert not failures
    first = planned.cells[0].id
    loaded = pack.load(saved(planned), Workshop(Progress()), failures, [first])
    assert first not in [cell.id for cell in loaded.todo]


def test_a_dense_cell_that_has_failed_since_is_not_tried_by_every_job(planned: Plan) -> None:
    path = saved(planned)
    dense = planned.cells[0]
    Folder(dense.settings.outputs, dense.name).write_failure("OutOfMemory: killed")
    loaded = pack.load(path, Workshop(Progress()), {})
    assert [cell.id for cell in loaded.todo] == [cell.id for cell in planned.cells[1:]]


def test_a_cell_that_was_in_hand_when_its_process_died_shares_no_job(planned: Plan) -> None:
    dense, first, second = planned.cells
    todo = [first, second]
    assert pack.packs(planned, todo, 2) == [pack.Pack((first, second), dense)]
    attempts = Folder(first.settings.outputs, first.name).path / "attempts"
    attempts.mkdir(parents=True)
    dead = attempt.Attempt(pid=1, start=0)  # there is such a process, and it began later
    (attempts / "001.json").write_text(json.dumps(vars(dead)))
    assert pack.packs(planned, todo, 2) == [pack.Pack((one,), dense) for one in (second, first)]
    Folder(first.settings.outputs, first.name).write_failure("Killed: by signal 9")  # a word
    assert pack.packs(planned, todo, 2) == [pack.Pack((first, second), dense)]


def test_a_cell_whose_data_changed_has_failed_and_the_others_run(
    planned: Plan, text: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = saved(planned)
    text.write_text("It is another text now. " * 400)
    assert worker.main([str(path)]) == worker.FAILED
    dense, prose, own = (Folder(cell.settings.outputs, cell.name) for cell in planned.cells)
    assert dense.compression() is not None
    assert prose.compression() is not None
    assert own.compression() is None
    assert "is not what it was when it was submitted; submit again" in (own.failure() or "")
    assert planned.cells[2].name in capfd.readouterr().err


def test_a_model_that_changed_is_a_word_in_every_folder(planned: Plan) -> None:
    path = saved(planned)
    content = json.loads(path.read_text())
    content["dense"]["id"] = "0" * 64
    path.write_text(json.dumps(content))
    with pytest.raises(Refusal, match="is not what it was"):
        pack.load(path, Workshop(Progress()), {})
    for cell in planned.cells[1:]:
        assert Folder(cell.settings.outputs, cell.name).failure()


def test_a_worker_whose_gpu_takes_no_more_work_says_so_to_what_watches_it(
    planned: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(*_: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    path = saved(planned)
    monkeypatch.setattr("sweep.grid.run", fault)
    monkeypatch.setattr("sweep.grid.device_works", lambda: False)
    assert worker.main([str(path)]) == worker.BROKEN
    dense, *others = (Folder(cell.settings.outputs, cell.name) for cell in planned.cells)
    assert "CUDA error" in (dense.failure() or "")
    assert not any(other.path.exists() for other in others)
