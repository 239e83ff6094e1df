"""W&B is a mirror: real offline runs are read back, and whatever it does, the cell goes on."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweep.cell import make
from sweep.grid import sweep
from sweep.model.checkpoint import fingerprint
from sweep.refusal import Failed
from sweep.track import Silent, SilentMirror

Frozen = Callable[..., dict[str, Any]]

SMALL = (
    "method=wanda",
    "calib.n_samples=4",
    "metric=[perplexity,tasks]",
    "metric.perplexity.n_samples=2",
    "metric.tasks.n_samples=3",
    "metric.tasks.max_new_tokens=4",
)


HEADER, BLOCK, PIECE = 7, 2**15, 7
WHOLE, LAST = 1, 4
"""An offline run is a LevelDB log behind seven bytes of its own: blocks of 32 KB, in them pieces of
records, each with a head of seven bytes (checksum, length, kind)."""


def records(run: Path) -> list[Any]:
    """Every record of an offline run's file, as `wandb sync` reads it."""
    from wandb.proto import wandb_internal_pb2

    (file,) = run.glob("*.wandb")
    data = file.read_bytes()
    assert data.startswith(b":W&B")
    found: list[Any] = []
    place, text = HEADER, b""
    while place + PIECE <= len(data):
        left = BLOCK - place % BLOCK
        if left < PIECE:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + PIECE])
        text += data[place + PIECE : place + PIECE + length]
        place += PIECE + length
        if kind in (WHOLE, LAST):
            found.append(wandb_internal_pb2.Record.FromString(text))
            text = b""
    return found


@pytest.fixture
def mirrored(frozen: Frozen, tmp_path: Path) -> dict[str, Any]:
    config = frozen(*SMALL, "tracker=wandb", "name=trial")
    sweep([config])
    return config


def test_a_cell_is_one_offline_run_below_outputs(mirrored: dict[str, Any], tmp_path: Path) -> None:
    cell = make(mirrored, fingerprint)
    runs = sorted((tmp_path / "outputs" / "wandb" / "wandb").glob("offline-run-*"))
    assert len(runs) == 2
    (run,) = (path for path in runs if path.name.endswith(cell.id))
    said = next(record.run for record in records(run) if record.HasField("run"))
    assert said.run_id == cell.id
    assert said.run_group == "trial"
    assert said.job_type == "wanda"
    assert said.display_name == "tiny-wanda-50-c4"


def test_the_run_holds_the_configuration_the_metrics_the_progress_and_generations(
    mirrored: dict[str, Any], tmp_path: Path
) -> None:
    cell = make(mirrored, fingerprint)
    (run,) = (tmp_path / "outputs" / "wandb" / "wandb").glob(f"offline-run-*{cell.id}")
    found = records(run)
    kinds = [record.WhichOneof("record_type") for record in found]
    configs = [
        {item.key: json.loads(item.value_json) for item in record.run.config.update}
        for record in found
        if record.HasField("run")
    ]
    assert configs[0]["method"]["_target_"] == "sweep.method.wanda.Wanda"
    assert configs[0]["cell"] == cell.id
    assert kinds.index("run") < kinds.index("history")  # a killed run has it too
    logged = {
        item.key or "/".join(item.nested_key)
        for record in found
        if record.HasField("history")
        for item in record.history.item
    }
    assert "progress/blocks" in logged
    assert "tasks/generations_alpaca/nrows" in logged
    summary = {
        item.key or "/".join(item.nested_key): json.loads(item.value_json)
        for record in found
        if record.HasField("summary")
        for item in record.summary.update
    }
    result = tmp_path / "outputs" / "cells" / cell.name / "metrics" / "perplexity.json"
    value = json.loads(result.read_text())["values"]["perplexity"]["value"]
    assert summary["perplexity/perplexity"] == pytest.approx(value)
    assert "tasks/em_alpaca" in summary


def test_a_tracker_that_cannot_start_does_not_stop_the_cell(
    frozen: Frozen,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import wandb

    def fails(**given: Any) -> None:
        assert given["settings"].init_timeout <= 15
        raise wandb.errors.CommError("no service")

    monkeypatch.setattr(wandb, "init", fails)
    sweep([frozen(*SMALL, "tracker=wandb")])
    said = capsys.readouterr().err
    assert said.count("not shown in W&B, and the cells that follow neither: no service") == 1
    assert len(list((tmp_path / "outputs" / "cells").glob("*/metrics/tasks.json"))) == 2


def test_a_tracker_that_fails_midway_does_not_stop_the_cell(
    frozen: Frozen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        summary: dict[str, Any] = {}  # noqa: RUF012

        def log(self, *_: Any) -> None:
            raise RuntimeError("gone")

        def finish(self, **_: Any) -> None:
            raise RuntimeError("gone")

    import wandb

    monkeypatch.setattr(wandb, "init", lambda **_: Broken())
    sweep([frozen(*SMALL, "tracker=wandb")])
    assert len(list((tmp_path / "outputs" / "cells").glob("*/metrics/tasks.json"))) == 2


class Ended:
    """In place of a W&B run: remembers its summary, what was logged, and how it ended."""

    def __init__(self) -> None:
        self.summary: dict[str, Any] = {}
        self.logged: dict[str, Any] = {}
        self.code: int | None = None

    def log(self, values: dict[str, Any]) -> None:
        self.logged |= values

    def finish(self, exit_code: int) -> None:
        self.code = exit_code


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> dict[str, Ended]:
    """The runs that were opened, by the cell's label; a later one of a cell replaces the former."""
    import wandb

    runs: dict[str, Ended] = {}
    monkeypatch.setattr(wandb, "init", lambda **given: runs.setdefault(given["name"], Ended()))
    return runs


def test_a_metric_added_later_comes_with_those_that_were_there(
    frozen: Frozen, ended: dict[str, Ended]
) -> None:
    small = ("method=wanda", "calib.n_samples=4", "metric.perplexity.n_samples=2", "tracker=wandb")
    sweep([frozen(*small, "metric=[perplexity]")])
    assert ended["tiny-wanda-50-c4"].summary["sparsity"] == pytest.approx(0.5, abs=1e-3)
    ended.clear()
    sweep([frozen(*small, "metric=[perplexity,divergence]", "metric.divergence.n_samples=3")])
    summary = ended["tiny-wanda-50-c4"].summary
    assert {"sparsity", "perplexity/perplexity", "divergence/jsd"} <= summary.keys()


def test_an_interrupted_cell_is_not_closed_as_finished(
    frozen: Frozen, ended: dict[str, Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sweep.metric.tasks.Tasks.measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sweep([frozen(*SMALL, "tracker=wandb")])
    assert ended["tiny-dense"].code == 1
    assert ended["tiny-dense"].summary["failure"] == "KeyboardInterrupt"


def test_a_failed_cell_is_a_failed_run(
    frozen: Frozen, ended: dict[str, Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise ValueError("no")

    monkeypatch.setattr("sweep.method.wanda.Wanda.compress", fails)
    with pytest.raises(Failed):
        sweep([frozen(*SMALL, "tracker=wandb")])
    assert ended["tiny-dense"].code == 0
    assert ended["tiny-wanda-50-c4"].code == 1
    assert ended["tiny-wanda-50-c4"].summary["failure"] == "ValueError: no"


def test_without_a_tracker_wandb_is_not_imported(
    frozen: Frozen, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "wandb", None)  # an import would now raise
    assert isinstance(Silent().open(make(frozen(*SMALL), fingerprint), "x"), SilentMirror)
    sweep([frozen("method=dense", "metric=[perplexity]", "metric.perplexity.n_samples=2")])
