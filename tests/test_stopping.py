"""A stopped cell goes on where it was, and what comes out is the same; nobody doubles it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sweep import blocks
from sweep.cell import Cell
from sweep.grid import quiet, sweep, work
from sweep.method.sparsegpt import SparseGPT
from sweep.plan import plan
from sweep.progress import Progress
from sweep.refusal import Interrupted
from sweep.track import Mirror, SilentMirror, Tracker
from sweep.workshop import Workshop

Frozen = Callable[..., dict[str, Any]]

SMALL = (
    "calib.n_samples=8",
    "metric=[perplexity,divergence,tasks]",
    "metric.perplexity.n_samples=40",
    "metric.divergence.n_samples=6",
    "metric.tasks.n_samples=5",
    "metric.tasks.max_new_tokens=8",
)


class StopsAt(Tracker, SilentMirror):
    """Asks for a stop at one step of a loop, as a signal would."""

    def __init__(self, progress: Progress, method: str, what: str, done: int) -> None:
        self.stop = (method, what, done)
        self.shared = progress
        self.method = ""

    def open(self, cell: Cell, group: str) -> Mirror:
        self.method = cell.config["options"]["method"]
        return self

    def conclude(self, name: str, outputs: Path) -> None:
        """No sweep is ended by `work`."""

    def progress(self, what: str, done: int, total: int) -> None:
        self.shared.stopping = (self.method, what, done) == self.stop


def stopped(config: Mapping[str, Any], what: str, done: int, method: str = "sparsegpt") -> None:
    workshop = Workshop(Progress())
    planned = plan([config], workshop)
    tracker = StopsAt(workshop.progress, method, what, done)
    with pytest.raises(Interrupted, match=f"stopped as asked, at {what} {done} of"):
        work(replace(planned, tracker=tracker), workshop, {})


def results(outputs: Path) -> dict[str, Any]:
    """All that the cells' files say, without the time of day."""
    found: dict[str, Any] = {}
    for file in sorted(outputs.glob("cells/*/**/*.json*")):
        if file.parent.name == "attempts":
            continue
        rows = [json.loads(line) for line in file.read_text().splitlines()] if (
            file.suffix == ".jsonl"
        ) else json.loads(file.read_text())  # fmt: skip
        if isinstance(rows, dict):
            rows.pop("seconds")
        found[str(file.relative_to(outputs))] = rows
    return found


def test_a_compression_goes_on_at_the_block_where_it_was_stopped(
    frozen: Frozen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep([{**frozen(*SMALL), "outputs": str(tmp_path / "whole")}])
    whole = results(tmp_path / "whole")
    quiet()
    together = SparseGPT.compress_together  # which one layer goes through as well
    for every in (0.0, 1000.0):
        monkeypatch.setattr(blocks, "EVERY", every)
        outputs = tmp_path / f"every{every}"
        config = {**frozen(*SMALL), "outputs": str(outputs)}
        stopped(config, "blocks", 3)
        (cell,) = (outputs / "cells").glob("*sparsegpt*")
        assert len(list((cell / "blocks").iterdir())) == 3
        assert "stopped as asked, at blocks 3 of" in (cell / "log.txt").read_text()
        assert not (cell / "compression.json").exists()
        calls: list[Any] = []
        with monkeypatch.context() as patch:
            patch.setattr(
                SparseGPT,
                "compress_together",
                lambda self, weights, *more, calls=calls: (
                    calls.extend(weights) or together(self, weights, *more)
                ),
            )
            sweep([config])
        layers = whole[f"cells/{cell.name}/compression.json"]["layers"]
        blocks_in_all = len({layer["name"].split(".")[2] for layer in layers})
        assert len(calls) == len(layers) * (blocks_in_all - 3) // blocks_in_all
        assert "goes on from block 3" in (cell / "log.txt").read_text()
        assert results(outputs) == whole
        assert not (cell / "blocks").exists()


def test_blocks_that_are_finished_outlive_an_interrupt_from_the_keyboard(
    frozen: Frozen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet()
    together, calls = SparseGPT.compress_together, []

    def interrupted(self: SparseGPT, *given: Any) -> Any:
        calls.append(given)
        if len(calls) > 12:  # in the third block or a later one; its groups are five at the most
            raise KeyboardInterrupt
        return together(self, *given)

    monkeypatch.setattr(SparseGPT, "compress_together", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sweep([frozen(*SMALL)])
    (cell,) = (tmp_path / "outputs" / "cells").glob("*sparsegpt*")
    assert len(list((cell / "blocks").iterdir())) >= 2


def test_a_metric_that_is_stopped_costs_no_second_compression(
    frozen: Frozen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet()
    config = frozen(*SMALL, "metric.divergence.source=c4", "metric.divergence.n_samples=50")
    sweep([{**config, "outputs": str(tmp_path / "whole")}])
    stopped(config, "c4 windows", 1)
    monkeypatch.setattr(SparseGPT, "compress", lambda *_: pytest.fail("compressed again"))
    stopped(config, "alpaca answers, drafts", 1)
    (cell,) = (tmp_path / "outputs" / "cells").glob("*sparsegpt*")
    finished = {file: file.stat().st_mtime_ns for file in (cell / "metrics").glob("*.json")}
    assert {file.stem for file in finished} == {"divergence", "perplexity"}
    sweep([config])
    assert {file: file.stat().st_mtime_ns for file in finished} == finished
    assert results(tmp_path / "outputs") == results(tmp_path / "whole")


def test_two_sweeps_at_once_compute_every_cell_once(frozen: Frozen, tmp_path: Path) -> None:
    command = [
        *(
            sys.executable,
            "-m",
            "sweep",
            "method=wanda,magnitude",
            "tracker=none",
            "report=table",
            "-m",
        ),
        *(*SMALL, f"outputs={tmp_path / 'outputs'}"),
    ]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    cells = sorted((tmp_path / "outputs" / "cells").iterdir())
    assert len(cells) == 3
    for cell in cells:
        assert [file.name for file in (cell / "attempts").iterdir()] == ["001.json"]
        assert (cell / "log.txt").read_text().count("done in") == 1
    assert said[0][0] == said[1][0]  # both end with the whole table
