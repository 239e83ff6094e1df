"""W&B is a mirror: real offline runs are read back, and whatever it does, the cell goes on."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from socket import gethostname
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir

from sweep.cell import Cell, make
from sweep.config import CONF, freeze
from sweep.files import EVERYTHING, Folder
from sweep.grid import sweep
from sweep.method.wanda import Wanda
from sweep.model.contents import fingerprint
from sweep.refusal import Failed
from sweep.report import entries
from sweep.report.write import write_report
from sweep.track import Silent, SilentMirror, WandB, server, shown
from sweep.track.found import Found
from sweep.track.journal import Journal, layers
from sweep.track.live import CellMirror
from sweep.track.offline import render, runs
from sweep.track.shown import RESULTS, Shown, Table, of_cell, origin_of
from tests.report.conftest import writes

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


@dataclass(frozen=True)
class Mirrored:
    """A sweep that was shown offline: its folder of outputs, a cell, and the cell's run."""

    outputs: Path
    cell: Cell
    run: Path

    @property
    def folder(self) -> Path:
        return self.outputs / "cells" / self.cell.name


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory: pytest.TempPathFactory) -> Mirrored:
    outputs = tmp_path_factory.mktemp("mirrored")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        given = [f"outputs={outputs}", *SMALL, "tracker=wandb", "name=trial"]
        composed = compose("config", given, return_hydra_config=True)
        config = freeze(composed, composed.hydra.runtime.choices, given)
    sweep([config])
    cell = make(config, fingerprint)
    (run,) = (outputs / "wandb" / "wandb").glob(f"offline-run-*{cell.id}")
    return Mirrored(outputs, cell, run)


def test_a_cell_is_one_offline_run_below_outputs(mirrored: Mirrored) -> None:
    assert len(offline_runs(mirrored.outputs)) == 2
    said = next(record.run for record in records(mirrored.run) if record.HasField("run"))
    assert said.run_id == mirrored.cell.id
    assert said.run_group == "trial"
    assert said.job_type == "wanda"
    assert said.display_name == "tiny-wanda-50-c4"


def offline_runs(outputs: Path) -> list[Path]:
    return sorted((outputs / "wandb" / "wandb").glob("offline-run-*"))


def config_of(found: list[Any]) -> dict[str, Any]:
    """The configuration in an offline run's records; what is said later stands."""
    said = [record.run.config for record in found if record.HasField("run")]
    said += [record.config for record in found if record.HasField("config")]
    return {
        item.key or "/".join(item.nested_key): json.loads(item.value_json)
        for config in said
        for item in config.update
    }


def history_of(found: list[Any]) -> list[dict[str, Any]]:
    return [
        {
            item.key or "/".join(item.nested_key): json.loads(item.value_json)
            for item in r.history.item
        }
        for r in found
        if r.HasField("history")
    ]


def summary_of(found: list[Any]) -> dict[str, Any]:
    return {
        item.key or "/".join(item.nested_key): json.loads(item.value_json)
        for record in found
        if record.HasField("summary")
        for item in record.summary.update
    }


def test_the_run_holds_all_on_which_its_numbers_depend(mirrored: Mirrored) -> None:
    cell, found = mirrored.cell, records(mirrored.run)
    config = config_of(found)
    assert config["method"]["_target_"] == "sweep.method.wanda.Wanda"
    assert config["cell"] == cell.id
    assert config["identity"] == json.loads(json.dumps(cell.identity))
    assert {"sweep", "commit", "torch", "device", "threads"} <= config["environment"].keys()
    assert len(config["data"]["calib"]["sha256"]) == 64
    assert all(len(data["sha256"]) == 64 for data in config["data"]["tasks"])
    (said,) = [record.run for record in found if record.HasField("run")]
    own = (mirrored.outputs / "reports/trial/wandb-run").read_text()
    assert set(said.tags) == {"trial", own, "tiny", "wanda", "50%", "c4", "stand-in"}
    (note,) = config["notes"]
    assert note.startswith("source: embedded (alpaca, c4, unnatural are stand-ins")


def test_the_run_holds_how_it_went(mirrored: Mirrored) -> None:
    rows = history_of(records(mirrored.run))
    assert [row["done/blocks"] for row in rows if "done/blocks" in row] == [1, 2, 3, 4]
    assert all(row["memory/peak_gb"] > 0 for row in rows if "done/blocks" in row)
    compressing = [row["tokens_per_second/compression"] for row in rows if "done/blocks" in row]
    assert min(compressing) > 0
    assert [row["layer/index"] for row in rows if "layer/index" in row] == list(range(28))
    assert {row["layer/sparsity"] for row in rows if "layer/index" in row} == {0.5}
    marks = [
        "b" if "done/blocks" in row else "l"
        for row in rows
        if {"done/blocks", "layer/index"} & row.keys()
    ]
    assert "".join(marks) == 4 * (7 * "l" + "b")  # block by block
    assert any("tokens_per_second/tasks" in row for row in rows)
    assert [row["_step"] for row in rows] == list(range(len(rows)))


def test_the_run_holds_every_value_with_its_interval_and_the_generations(
    mirrored: Mirrored,
) -> None:
    summary, folder = summary_of(records(mirrored.run)), mirrored.folder
    for metric in ("perplexity", "tasks"):
        values = json.loads((folder / "metrics" / f"{metric}.json").read_text())["values"]
        for name, value in values.items():
            assert summary[f"{metric}/{name}"] == pytest.approx(value["value"])
            for bound in ("low", "high"):
                if value[bound] is not None:
                    assert summary[f"{metric}/{name}_{bound}"] == pytest.approx(value[bound])
    assert "perplexity/perplexity_low" in summary
    table = summary["tasks/generations_alpaca"]
    drawn = json.loads((mirrored.run / "files" / table["path"]).read_text())
    assert drawn["columns"] == ["prompt", "gold", "dense_answer", "answer", "em", "f1", "rouge1"]
    lines = (folder / "generations" / "tasks-alpaca.jsonl").read_text().splitlines()
    assert [row[3] for row in drawn["data"]] == [json.loads(line)["answer"] for line in lines]
    assert summary["layers"]["nrows"] == 28


def test_answers_that_a_table_has_no_room_for_are_said(
    mirrored: Mirrored, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = yaml.safe_load((mirrored.folder / "cell.yaml").read_text())
    folder = Folder(mirrored.outputs, mirrored.cell.name)
    whole = of_cell(folder, said)
    monkeypatch.setattr(shown, "SAMPLES", 2)
    cut = of_cell(folder, said)
    assert [len(one.tables["tasks/generations_alpaca"].rows) for one in (whole, cut)] == [3, 2]
    more = [note for note in cut.config["notes"] if note not in whole.config["notes"]]
    name = f"cells/{mirrored.cell.name}/generations/tasks"
    assert more == [
        f"tasks/generations_{corpus}: the first 2 of 3; all are in {name}-{corpus}.jsonl"
        for corpus in ("alpaca", "unnatural")
    ]
    assert all((mirrored.outputs / note.rpartition(" ")[2]).is_file() for note in more)
    assert "stand-in" in cut.tags


def test_the_errors_of_layers_are_shown_where_they_are_known(tmp_path: Path) -> None:
    layer = {"name": "q_proj", "shape": [4, 8], "zeros": 16, "sparsity": 0.5}
    compression = {
        "layers": [{**layer, "output_error": 0.25}, {**layer, "output_error": None}, layer]
    }
    found = Journal(tmp_path / "progress.jsonl").untold(layers(compression))
    assert [row.get("layer/output_error") for row in found] == [0.25, None, None]


def test_tokens_per_second_are_those_of_the_blocks_that_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("sweep.track.live.time.monotonic", lambda: now[0])
    journal = Journal(tmp_path / "progress.jsonl")

    def read() -> Any:
        raise AssertionError("there is no place to show it in")

    mirror = CellMirror(read, journal)
    mirror.calibrated(1000)
    for now[0], done in ((102.0, 1), (110.0, 4)):  # 250 in 2 s, all 1000 in 10 s
        mirror.progress("blocks", done, 4)
    assert [row["tokens_per_second/compression"] for row in journal.rows] == [125, 100]
    assert [row["progress/blocks"] for row in journal.rows] == [0.25, 1]


def test_a_disabled_tracker_shows_nothing(
    frozen: Frozen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "wandb", None)
    dense = ("method=dense", "metric=[perplexity]", "metric.perplexity.n_samples=2")
    sweep([frozen(*dense, "tracker=wandb", "tracker.mode=disabled")])
    assert not (tmp_path / "outputs" / "wandb").exists()


def test_constructing_a_tracker_connects_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "wandb", None)
    assert WandB("online").mode == "online"


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
    assert "`python -m sweep.track " in said
    assert len(list((tmp_path / "outputs" / "cells").glob("*/metrics/tasks.json"))) == 2
    # what happened is written all the same, for a mirror that is made later
    assert len(list((tmp_path / "outputs" / "cells").glob("*/progress.jsonl"))) == 2


def test_a_disk_that_takes_no_history_does_not_stop_the_cell(
    frozen: Frozen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sweep.track.journal.Journal.add", full)
    sweep([frozen(*SMALL, "tracker=wandb")])
    assert len(list((tmp_path / "outputs" / "cells").glob("*/metrics/tasks.json"))) == 2


def test_a_metric_added_later_comes_with_those_that_were_there(
    frozen: Frozen, tmp_path: Path
) -> None:
    small = ("method=wanda", "calib.n_samples=4", "metric.perplexity.n_samples=2", "tracker=wandb")
    sweep([frozen(*small, "metric=[perplexity]")])
    before = sum(len(history_of(records(run))) for run in offline_runs(tmp_path / "outputs"))
    sweep([frozen(*small, "metric=[perplexity,divergence]", "metric.divergence.n_samples=3")])
    runs = offline_runs(tmp_path / "outputs")
    assert len(runs) == 2  # one for each cell, as before
    assert sum(len(history_of(records(run))) for run in runs) > before
    for run in runs:
        summary, rows = summary_of(records(run)), history_of(records(run))
        assert {"sparsity", "perplexity/perplexity", "divergence/jsd"} <= summary.keys()
        assert [row["_step"] for row in rows] == list(range(len(rows)))
        assert sum("tokens_per_second/perplexity" in row for row in rows) == 1


def test_a_cell_of_which_a_file_was_sent_goes_on_in_another(frozen: Frozen, tmp_path: Path) -> None:
    small = ("method=dense", "metric.perplexity.n_samples=2", "tracker=wandb")
    sweep([frozen(*small, "metric=[perplexity]")])
    (run,) = offline_runs(tmp_path / "outputs")
    (file,) = run.glob("*.wandb")
    file.with_name(f"{file.name}.synced").touch()  # as `wandb sync` does
    sweep([frozen(*small, "metric=[perplexity,divergence]", "metric.divergence.n_samples=3")])
    before, after = offline_runs(tmp_path / "outputs")
    steps = [row["_step"] for path in (before, after) for row in history_of(records(path))]
    assert steps == list(range(len(steps)))
    assert len(steps) > len(history_of(records(before))) > 0
    assert "perplexity/perplexity" in summary_of(records(after))


def test_a_file_goes_when_the_next_has_come_and_what_a_killed_process_left_goes_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.prepare(tmp_path / "wandb")
    table = Table(("prompt",), [["a"]])
    first = Shown("0123", "origin", "name", "trial", "dense", {}, tables={"answers": table})
    render(first, tmp_path, "p", None)
    (before,) = runs(tmp_path, first.id)
    left = tmp_path / "wandb" / "making" / f"{gethostname()}-left"
    copies = tmp_path / "wandb" / "staged" / f"offline-run-20200101_000000-{first.id}"
    for folder in (left, copies):
        folder.mkdir()
        (folder / "lock").touch()
    seen: list[list[Path]] = []
    renamed = Path.rename

    def rename(path: Path, target: Path) -> Path:
        moved = renamed(path, target)
        seen.append(runs(tmp_path, first.id))
        return moved

    monkeypatch.setattr(Path, "rename", rename)
    monkeypatch.setattr(shutil, "rmtree", watched(lambda: seen.append(runs(tmp_path, first.id))))
    render(replace(first, summary={"sparsity": 0.5}), tmp_path, "p", None)
    (after,) = runs(tmp_path, first.id)
    assert after != before
    assert all(seen)
    assert summary_of(records(after))["sparsity"] == 0.5
    assert [*(tmp_path / "wandb" / "making").iterdir()] == []
    assert [path.name for path in (tmp_path / "wandb" / "staged").iterdir()] == [after.name]


def watched(look: Callable[[], None]) -> Callable[..., None]:
    """What removes a folder, with a look at what is there afterwards."""
    remove = shutil.rmtree

    def removed(*given: Any, **more: Any) -> None:
        remove(*given, **more)
        look()

    return removed


def test_a_copy_of_outputs_is_another_folder_and_one_that_was_moved_is_not(tmp_path: Path) -> None:
    one, copy, link, moved = (tmp_path / name for name in ("one", "copy", "link", "moved"))
    first = origin_of(one)
    shutil.copytree(one, copy)
    other = origin_of(copy)
    assert other != first
    assert (origin_of(one), origin_of(copy)) == (first, other)  # from then on as they are
    link.symlink_to(one)
    assert origin_of(link) == first
    one.rename(moved)
    assert origin_of(moved) == first
    (copy / "wandb" / "origin").write_text("0123")  # as earlier versions wrote it
    assert origin_of(copy) == "0123"


def test_an_interrupted_cell_is_not_closed_as_finished(
    frozen: Frozen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sweep.metric.tasks.Tasks.measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sweep([frozen(*SMALL, "tracker=wandb")])
    (run,) = offline_runs(tmp_path / "outputs")
    assert exit_code(run) == 1
    assert summary_of(records(run))["failure"] == "KeyboardInterrupt"


def test_layers_are_told_of_block_by_block_and_each_once(
    frozen: Frozen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compress, calls = Wanda.compress, []

    def stops_in_the_third_block(*words: Any) -> Any:
        calls.append(words)
        if len(calls) == 2 * 7 + 1:
            raise KeyboardInterrupt
        return compress(*words)

    def told() -> list[int]:
        (file,) = (tmp_path / "outputs" / "cells").glob("tiny-wanda*/progress.jsonl")
        return [row["layer/index"] for row in Journal(file).rows if "layer/index" in row]

    with monkeypatch.context() as patched:
        patched.setattr(Wanda, "compress", stops_in_the_third_block)
        with pytest.raises(KeyboardInterrupt):
            sweep([frozen(*SMALL, "tracker=wandb")])
    assert told() == list(range(14))
    sweep([frozen(*SMALL, "tracker=wandb")])
    assert told() == list(range(28))


def test_a_failed_cell_is_a_failed_run_until_it_succeeds(
    frozen: Frozen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise ValueError("no")

    with monkeypatch.context() as patched:
        patched.setattr("sweep.method.wanda.Wanda.compress", fails)
        with pytest.raises(Failed):
            sweep([frozen(*SMALL, "tracker=wandb")])
    found = {exit_code(run): run for run in offline_runs(tmp_path / "outputs")}
    assert found.keys() == {0, 1}
    assert summary_of(records(found[1]))["failure"] == "ValueError: no"
    sweep([frozen(*SMALL, "tracker=wandb")])
    runs = offline_runs(tmp_path / "outputs")
    assert [exit_code(run) for run in runs] == [0, 0]
    assert not any("failure" in summary_of(records(run)) for run in runs)


def exit_code(run: Path) -> int:
    (code,) = [r.exit.exit_code for r in records(run) if r.HasField("exit")]
    return int(code)


def test_a_line_that_was_cut_off_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    journal = Journal(path)
    journal.begin({"sweep": "trial"})
    journal.add({"a": 1}, {"a": 2})
    with path.open("a") as file:
        file.write('{"step": 2, "ti')
    again = Journal(path)
    assert again.next == 2
    again.begin({"sweep": "other"})
    again.add({"a": 3})
    assert [(row["step"], row["a"]) for row in Journal(path).rows] == [(0, 1), (1, 2), (2, 3)]
    assert [head["sweep"] for head in Journal(path).heads] == ["trial", "other"]


def test_without_a_tracker_wandb_is_not_imported(
    frozen: Frozen, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "wandb", None)  # an import would now raise
    assert isinstance(Silent().open(make(frozen(*SMALL), fingerprint), "x"), SilentMirror)
    sweep([frozen("method=dense", "metric=[perplexity]", "metric.perplexity.n_samples=2")])


def test_what_lies_below_is_found_by_any_folder_of_a_report_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = tmp_path / "outputs"
    write_cell = writes(outputs)
    write_cell("dense")
    write_report(outputs / "reports" / "trial", entries.below(outputs), formats=("csv",))
    write_cell("wanda")
    write_report(outputs / "reports" / EVERYTHING, entries.below(outputs), formats=("csv",))
    monkeypatch.chdir(outputs / "reports" / "trial")
    for folder, names in (
        (outputs, {"dense", "wanda"}),
        (outputs / "reports" / EVERYTHING, {"dense", "wanda"}),
        (Path("../all"), {"dense", "wanda"}),
        (Path(), {"dense"}),
    ):
        found = Found.below(folder)
        assert {said["about"]["method"] for said, _ in found.cells} == names
        assert found.outputs == outputs
        assert found.only == ("trial" if names == {"dense"} else None)
        assert [*{name for own in found.sweeps.values() for name in own}] == ["trial"]


def test_a_sweeps_table_has_the_results_that_it_asks_for_whatever_another_has_asked_since(
    tmp_path: Path,
) -> None:
    outputs = tmp_path / "outputs"
    write_cell = writes(outputs)
    write_cell("wanda")
    dense = Folder(outputs, write_cell("dense", quality=0.9).name)
    write_report(outputs / "reports" / "hi", entries.below(outputs), formats=("csv",))
    said, first = dense.cell(), dense.metric("tasks", "t")
    assert said is not None
    assert first is not None
    em = {**first["values"]["em"], "value": 0.25}
    other = {**first, "settings_id": "other", "values": {**first["values"], "em": em}}
    dense.write_metric("tasks", other, dense.examples("tasks", "t"))
    asked = {**said["metrics"], "tasks": "other"}
    dense.write_cell(said["id"], said["identity"], asked, said["config"], said["about"])

    def shown_in(name: str) -> dict[str, float]:
        found = Found.below(outputs).sweep(name)
        assert found is not None
        rows = [dict(zip(RESULTS, row, strict=True)) for row in found.tables["results"].rows]
        return {row["method"]: row["value"] for row in rows if row["metric"] == "tasks/em"}

    begun = Journal(dense.progress)
    begun.begin({"sweep": "b"})  # and the list of its cells is gone
    assert shown_in("b") == {"dense": 0.25}
    own = entries.begun(dense, dense.cell() or {})
    write_report(outputs / "reports" / "b", [own], formats=("csv",))
    assert shown_in("b") == {"dense": 0.25}
    assert shown_in("hi").keys() == {"dense", "wanda"}
    assert shown_in("hi")["dense"] == first["values"]["em"]["value"] > 0.25
