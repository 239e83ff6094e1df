"""A grid on the embedded model, in this process: plan, run, resume, retry, table."""

from __future__ import annotations

import csv
import json
import logging
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sweep import workshop
from sweep.attempt import latest
from sweep.cell import make
from sweep.files import Folder
from sweep.grid import sweep
from sweep.method.wanda import Wanda
from sweep.metric.perplexity import Perplexity
from sweep.model.contents import fingerprint
from sweep.model.embedded import WEIGHTS
from sweep.plan import plan
from sweep.progress import Progress
from sweep.refusal import Failed, OutOfSpace, Refusal
from sweep.report import entries
from sweep.status import standings, summary
from sweep.workshop import Workshop

Frozen = Callable[..., dict[str, Any]]

SMALL = {
    "perplexity": ("n_samples=4",),
    "divergence": ("n_samples=6",),
    "tasks": ("n_samples=5", "max_new_tokens=8"),
}


@pytest.fixture
def small(frozen: Frozen) -> Frozen:
    """A configuration whose cells take a second."""

    def small(*overrides: str) -> dict[str, Any]:
        chosen = [text for text in overrides if text.startswith("metric=[")]
        names = chosen[0][len("metric=[") : -1].split(",") if chosen else list(SMALL)
        sizes = [f"metric.{name}.{size}" for name in names for size in SMALL[name]]
        return frozen("calib.n_samples=4", *sizes, *overrides)

    return small


def cells(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "outputs" / "cells").iterdir())


def table(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text().splitlines()))


def without_a_number(folder: Path) -> tuple[str, ...]:
    """The words for a model in this folder: the embedded one, with NaN in one of its weights."""
    shutil.copytree(WEIGHTS, folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.2.self_attn.q_proj.weight"][5, 7] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return ("model=local", f"model.path={folder}", "corpora=embedded", "seqlen=256")


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(file.relative_to(folder)): (file.read_bytes(), file.stat().st_mtime_ns)
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != "log.txt"
    }


def values(cell: Path, metric: str) -> dict[str, float]:
    record = json.loads((cell / "metrics" / f"{metric}.json").read_text())
    return {name: value["value"] for name, value in record["values"].items()}


class TestPlan:
    def test_points_that_mean_the_same_are_one_cell_and_dense_is_added(self, small: Frozen) -> None:
        configs = [small("method=magnitude", f"calib={calib}") for calib in ("c4", "alpaca")]
        planned = plan(configs, Workshop(Progress()))
        assert [cell.label for cell in planned.cells] == ["tiny-dense", "tiny-magnitude-50"]
        assert planned.points == 2

    def test_every_point_is_looked_at_also_one_that_means_the_same(self, small: Frozen) -> None:
        good = small("method=magnitude")
        bad = small("method=magnitude", "calib=local", "calib.path=/no.jsonl")
        with pytest.raises(Refusal, match=r"calib\.path=/no\.jsonl: no such file"):
            plan([good, bad], Workshop(Progress()))

    def test_dense_asked_for_is_not_added_again(self, small: Frozen) -> None:
        configs = [small(f"method={method}") for method in ("wanda", "dense")]
        planned = plan(configs, Workshop(Progress()))
        assert [cell.label for cell in planned.cells] == ["tiny-dense", "tiny-wanda-50-c4"]

    def test_a_models_files_are_read_once_for_all_commands_on_them(
        self, small: Frozen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = tmp_path / "model"
        shutil.copytree(WEIGHTS, folder)
        read: list[Path] = []

        def noted(folder: Path) -> str:
            read.append(folder)
            return fingerprint(folder)

        monkeypatch.setattr("sweep.workshop.fingerprint", noted)
        config = small("model=local", f"model.path={folder}", "corpora=embedded", "seqlen=256")
        first, second = (plan([config], Workshop(Progress())) for _ in range(2))
        assert read == [folder]
        assert [cell.id for cell in first.cells] == [cell.id for cell in second.cells]
        (folder / "generation_config.json").write_text('{"changed": true}')
        third = plan([config], Workshop(Progress()))
        assert read == [folder] * 2
        assert third.cells[0].id != first.cells[0].id

    def test_metrics_of_the_same_cell_are_joined(self, small: Frozen) -> None:
        points = [small("metric=[perplexity]"), small("metric=[divergence]")]
        planned = plan(
            [{**points[0]}, {**points[1]}],
            Workshop(Progress()),
        )
        assert {tuple(sorted(cell.parts.metrics)) for cell in planned.cells} == {
            ("divergence", "perplexity")
        }

    def test_one_metric_with_two_settings_on_one_cell_is_refused(self, small: Frozen) -> None:
        points = [small(f"metric.tasks.n_samples={n}") for n in (3, 4)]
        with pytest.raises(Refusal, match=r"metric\.tasks\.n_samples=4: .* is asked for 3;"):
            plan(points, Workshop(Progress()))

    def test_one_wrong_point_and_nothing_runs(self, small: Frozen, tmp_path: Path) -> None:
        points = [small(), small("method.scope=nothing_like_it")]
        with pytest.raises(Refusal, match="nothing_like_it"):
            sweep(points)
        assert not (tmp_path / "outputs" / "cells").exists()

    def test_the_same_grid_has_the_same_name(self, small: Frozen) -> None:
        one = plan([small(), small("method=wanda")], Workshop(Progress()))
        other = plan([small("method=wanda"), small()], Workshop(Progress()))
        assert one.name == other.name

    @pytest.mark.parametrize("change", ["outputs=/tmp/x", "name=x", "tracker=wandb"])
    def test_what_belongs_to_the_sweep_may_not_differ_among_its_points(
        self, change: str, small: Frozen
    ) -> None:
        name = change.split("=")[0]
        with pytest.raises(Refusal, match=f"{name}=.*: is the sweep's; it cannot differ"):
            plan([small(), small(change)], Workshop(Progress()))


class TestSweep:
    @pytest.fixture
    def configs(self, small: Frozen) -> list[dict[str, Any]]:
        return [small(f"method={method}") for method in ("wanda", "sparsegpt")]

    def test_a_grid_leaves_a_row_per_cell_and_files_behind_it(
        self, configs: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        sweep(configs)
        out = capsys.readouterr().out
        (file,) = (tmp_path / "outputs" / "reports").glob("*/results.csv")
        assert str(file) in out
        rows = table(file)
        assert [row["method"] for row in rows] == ["dense", "wanda", "sparsegpt"]
        assert {row["status"] for row in rows} == {"done"}
        for row in rows:
            assert float(row["perplexity"]) > 1
            assert row["source"] == "embedded"
        dense, wanda, _ = rows
        assert float(dense["jsd"]) == 0
        assert float(wanda["jsd"]) > 0
        change = float(wanda["perplexity"]) - float(dense["perplexity"])
        assert float(wanda["perplexity_vs_dense"]) == pytest.approx(change)
        assert float(wanda["em_alpaca_low"]) <= float(wanda["em_alpaca"])

    def test_every_result_file_says_that_the_corpora_are_stand_ins(
        self, configs: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        sweep(configs[:1])
        assert "source: embedded" in capsys.readouterr().out
        for cell in cells(tmp_path):
            for file in (cell / "metrics").glob("*.json"):
                record = json.loads(file.read_text())
                assert {data["source"] for data in record["data"]} == {"embedded"}
            for file in cell.rglob("*.jsonl"):
                for line in file.read_text().splitlines():
                    assert json.loads(line)["source"] == "embedded", file
            assert "INFO source: embedded (alpaca, c4, unnatural" in (cell / "log.txt").read_text()
        compression = json.loads((cells(tmp_path)[1] / "compression.json").read_text())
        assert compression["calibration"]["data"][0]["source"] == "embedded"
        (markdown,) = (tmp_path / "outputs" / "reports").glob("*/results.md")
        assert "source: embedded" in markdown.read_text()

    def test_a_second_run_does_nothing(
        self, configs: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sweep(configs)
        before = snapshot(tmp_path / "outputs")
        monkeypatch.setattr(Workshop, "bench", lambda *_: pytest.fail("a model was loaded"))
        monkeypatch.setattr(Workshop, "tokenizer", lambda *_: pytest.fail("data were read"))
        sweep(configs)
        assert snapshot(tmp_path / "outputs") == before

    def test_a_metric_added_later_computes_only_itself(self, small: Frozen, tmp_path: Path) -> None:
        sweep([small("method=wanda", "metric=[perplexity]")])
        before = {cell: snapshot(cell) for cell in cells(tmp_path)}
        sweep([small("method=wanda", "metric=[perplexity,divergence]")])
        after = {cell: snapshot(cell) for cell in cells(tmp_path)}
        for cell, files in before.items():
            kept = {name: after[cell][name] for name in files if name != "cell.yaml"}
            assert kept == {name: files[name] for name in files if name != "cell.yaml"}
            assert "metrics/divergence.json" in after[cell]

    def test_numbers_do_not_depend_on_what_else_ran_in_the_process(
        self, configs: list[dict[str, Any]], small: Frozen, tmp_path: Path
    ) -> None:
        sweep(configs)
        together = values(cells(tmp_path)[1], "perplexity")
        alone = {**configs[1], "outputs": str(tmp_path / "alone")}
        sweep([alone])
        other = sorted((tmp_path / "alone" / "cells").iterdir())[1]
        assert other.name == cells(tmp_path)[1].name
        assert values(other, "perplexity") == together

    def test_a_failed_cell_does_not_stop_the_others_and_is_retried(
        self, configs: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as broken:

            def fails(*_: Any) -> None:
                raise FloatingPointError("NaN in block 1")

            broken.setattr(Wanda, "compress", fails)
            with pytest.raises(Failed, match=r"1 of 3 cells failed\n.*wanda.*NaN in block 1"):
                sweep(configs)
        dense, sparsegpt, wanda = cells(tmp_path)
        assert "NaN in block 1" in (wanda / "failure.txt").read_text()
        assert "Traceback" in (wanda / "failure.txt").read_text()
        assert not (wanda / "metrics").exists()
        (file,) = (tmp_path / "outputs" / "reports").glob("*/results.csv")
        statuses = {row["method"]: row["status"] for row in table(file)}
        assert statuses["wanda"].startswith("failed: FloatingPointError")
        done = {cell: snapshot(cell) for cell in (dense, sparsegpt)}
        sweep(configs)
        assert {cell: snapshot(cell) for cell in (dense, sparsegpt)} == done
        assert not (wanda / "failure.txt").exists()
        assert (wanda / "metrics" / "perplexity.json").is_file()

    @pytest.mark.parametrize("metric", ["perplexity", "divergence", "tasks"])
    def test_a_model_with_nan_in_it_fails_and_is_retried(
        self, metric: str, small: Frozen, tmp_path: Path
    ) -> None:
        own = without_a_number(tmp_path / "model")
        config = small("method=dense", f"metric=[{metric}]", *own)
        for _ in range(2):
            with pytest.raises(Failed, match=r"1 of 1 .*\n.*model\.layers\.2.*q_proj.*NaN"):
                sweep([config])
        (cell,) = cells(tmp_path)
        assert not (cell / "metrics").exists()

    def test_a_model_that_cannot_be_used_is_loaded_once_and_ends_all_its_cells_in_one_line(
        self, small: Frozen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The cells of other models are run."""
        own = without_a_number(tmp_path / "model")
        bad = [small(f"method={m}", "metric=[perplexity]", *own) for m in ("magnitude", "wanda")]
        good = small("method=magnitude", "metric=[perplexity]")
        loads: list[Any] = []
        load = workshop.load
        monkeypatch.setattr(workshop, "load", lambda c, *more: loads.append(c) or load(c, *more))
        for attempt in (1, 2):
            with pytest.raises(Failed) as caught:
                sweep([*bad, good])
            first, line, *_ = str(caught.value).splitlines()
            assert first == f"3 of {5 if attempt == 1 else 3} cells failed"
            assert str(caught.value).count("holds NaN or infinity") == 1
            failed = [cell for cell in cells(tmp_path) if cell.name in line]
            assert len(failed) == 3
            assert len([one for one in loads if getattr(one, "path", None)]) == attempt
            for cell in failed:
                assert "q_proj.weight holds NaN" in (cell / "failure.txt").read_text()
                assert "q_proj.weight holds NaN" in (cell / "log.txt").read_text()
                assert (cell / "cell.yaml").is_file()
                last, alive = latest(cell) or (None, True)
                assert not alive
                assert last is not None
                assert last.ended == "failed"
        assert len([cell for cell in cells(tmp_path) if (cell / "metrics").is_dir()]) == 2

    def test_a_value_that_is_no_number_fails_its_cell_and_is_retried(
        self, small: Frozen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config = small("method=dense", "metric=[perplexity]")
        with monkeypatch.context() as broken:
            nothing = (float("nan"), float("nan"))
            broken.setattr("sweep.metric.perplexity.interval", lambda *_: nothing)
            with pytest.raises(Failed, match=r"FloatingPointError: perplexity is .* \[nan, nan\]"):
                sweep([config])
        (cell,) = cells(tmp_path)
        assert not (cell / "metrics").exists()
        sweep([config])
        assert values(cell, "perplexity")["perplexity"] > 1

    def test_after_a_failure_the_next_cell_starts_from_dense_weights(
        self, configs: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sweep([configs[1]])
        clean = values(cells(tmp_path)[1], "divergence")
        with monkeypatch.context() as broken:

            def fails(*_: Any) -> None:
                raise RuntimeError("after compression")

            broken.setattr(Perplexity, "measure", fails)
            other = [{**config, "outputs": str(tmp_path / "other")} for config in configs]
            with pytest.raises(Failed, match="3 of 3"):
                sweep(other)
        sweep([{**configs[1], "outputs": str(tmp_path / "other")}])
        (cell,) = (tmp_path / "other" / "cells").glob("*sparsegpt*")
        assert values(cell, "divergence") == clean

    def test_a_killed_run_continues_where_it_was(
        self, configs: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as killed:

            def dies(*_: Any) -> None:
                raise KeyboardInterrupt

            killed.setattr("sweep.metric.tasks.Tasks.measure", dies)
            with pytest.raises(KeyboardInterrupt):
                sweep(configs)
        (dense,) = cells(tmp_path)
        before = snapshot(dense)
        assert "metrics/perplexity.json" in before
        outputs = tmp_path / "outputs"
        (list_of_cells,) = outputs.glob("reports/*/sweep.json")
        for lacking in (entries.below(outputs), entries.listed(list_of_cells.parent)):
            methods = [(one.about["method"], one.status) for one in lacking]
            assert sorted(methods) == [(n, "missing") for n in ("dense", "sparsegpt", "wanda")]
        assert summary(standings(outputs)) == "3 missing"
        sweep(configs)
        after = snapshot(dense)
        assert after["metrics/perplexity.json"] == before["metrics/perplexity.json"]
        assert "metrics/tasks.json" in after

    def test_a_full_disk_stops_the_sweep_and_keeps_what_was_finished(
        self,
        configs: list[dict[str, Any]],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        write = Folder.write_compression

        def full(self: Folder, record: dict[str, Any]) -> None:
            if "wanda" in self.path.name:
                raise OutOfSpace("disk full")
            write(self, record)

        monkeypatch.setattr(Folder, "write_compression", full)
        with pytest.raises(OutOfSpace):
            sweep(configs)
        assert [cell.name.split("-")[1] for cell in cells(tmp_path)] == ["dense", "wanda"]
        out = capsys.readouterr().out
        assert [line.split()[-1] for line in out.splitlines() if "wanda" in line] == ["missing"]
        assert (cells(tmp_path)[0] / "metrics" / "tasks.json").is_file()

    def test_the_model_is_loaded_once_for_all_cells(
        self, configs: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        loads: list[Any] = []
        load = workshop.load
        monkeypatch.setattr(workshop, "load", lambda c, *more: loads.append(c) or load(c, *more))
        sweep(configs)
        assert len(loads) == 1

    def test_a_kept_model_gives_the_measured_logits_in_plain_transformers(
        self, small: Frozen, tmp_path: Path
    ) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        sweep([small("method=wanda", "keep=model", "metric=[perplexity]")])
        folder = cells(tmp_path)[1] / "model"
        kept = AutoModelForCausalLM.from_pretrained(folder)
        AutoTokenizer.from_pretrained(folder)
        weight = kept.model.layers[0].mlp.up_proj.weight
        zeros = (weight == 0).sum(1)
        assert torch.equal(zeros, torch.full_like(zeros, weight.shape[1] // 2))
        assert not (cells(tmp_path)[0] / "model").exists()
        result = values(cells(tmp_path)[1], "perplexity")
        cell = make(small("method=wanda", "metric=[perplexity]"), fingerprint)
        ids = Workshop(Progress()).material(cell, "perplexity")["c4"].ids
        with torch.inference_mode():
            loss = kept(input_ids=ids, labels=ids).loss.item()
        assert math.exp(loss) == pytest.approx(result["perplexity"], rel=1e-4)

    def test_a_kept_model_that_was_altered_or_cannot_be_read_is_not_measured(
        self, small: Frozen, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        sweep([small("method=wanda", "keep=model", "metric=[perplexity]")])
        cell = cells(tmp_path)[1]
        first = json.loads((cell / "metrics" / "perplexity.json").read_text())["weights_sha256"]
        kept = cell / "model" / "model.safetensors"
        good = load_file(kept)
        weights = {name: tensor.clone() for name, tensor in good.items()}
        weights["model.layers.0.mlp.up_proj.weight"].zero_()
        save_file(weights, kept, metadata={"format": "pt"})
        sweep([small("method=wanda", "keep=model", "metric=[perplexity,divergence]")])
        assert "is not the model that was measured" in capsys.readouterr().err
        added = json.loads((cell / "metrics" / "divergence.json").read_text())["weights_sha256"]
        assert added == first
        assert all(torch.equal(tensor, good[name]) for name, tensor in load_file(kept).items())
        kept.write_bytes(kept.read_bytes()[:-100_000])
        (cell / "metrics" / "divergence.json").unlink()
        sweep([small("method=wanda", "keep=model", "metric=[perplexity,divergence]")])
        said = capsys.readouterr().err
        assert "/model: cannot be read (model.safetensors is damaged or cut short" in said
        assert "; compressed again\n" in said
        assert all(torch.equal(tensor, good[name]) for name, tensor in load_file(kept).items())

    def test_rows_that_were_deleted_are_made_again(self, small: Frozen, tmp_path: Path) -> None:
        sweep([small("method=wanda")])
        before = {cell: snapshot(cell) for cell in cells(tmp_path)}
        for file in ("generations/tasks-alpaca.jsonl", "metrics/perplexity-c4.jsonl"):
            (cells(tmp_path)[1] / file).unlink()
        sweep([small("method=wanda")])
        for cell, files in before.items():
            assert {
                name: text for name, (text, _) in snapshot(cell).items() if "jsonl" in name
            } == {name: text for name, (text, _) in files.items() if "jsonl" in name}

    def test_a_calibration_with_stand_ins_is_a_source_too(
        self, small: Frozen, files: dict[str, Path], tmp_path: Path
    ) -> None:
        local = ("metric.perplexity.source=local", f"metric.perplexity.path={files['text']}")
        sweep([small("method=wanda", "metric=[perplexity]", *local)])
        (file,) = (tmp_path / "outputs" / "reports").glob("*/results.csv")
        assert [row["source"] for row in table(file)] == ["local", "embedded local"]
        record = json.loads((cells(tmp_path)[1] / "metrics" / "perplexity.json").read_text())
        assert [origin["source"] for origin in record["calibration_data"]] == ["embedded"]

    def test_a_dense_model_that_is_asked_for_is_kept(self, small: Frozen, tmp_path: Path) -> None:
        sweep([small("method=dense", "keep=model", "metric=[perplexity]")])
        assert (cells(tmp_path)[0] / "model" / "model.safetensors").is_file()

    def test_either_point_may_ask_for_the_model(self, small: Frozen) -> None:
        points = [small("metric=[perplexity]"), small("metric=[perplexity]", "keep=model")]
        (_, cell) = plan(points, Workshop(Progress())).cells
        assert cell.settings.keep == cell.config["keep"] == "model"

    def test_a_metrics_earlier_settings_keep_their_result(
        self, small: Frozen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        two, three = (
            small("method=dense", "metric=[perplexity]", f"metric.perplexity.n_samples={n}")
            for n in (2, 3)
        )
        sweep([two])
        sweep([three])
        (cell,) = cells(tmp_path)
        assert len(list((cell / "metrics").glob("perplexity*.json"))) == 2
        assert len(list((tmp_path / "outputs" / "reports").iterdir())) == 2
        monkeypatch.setattr(Workshop, "bench", lambda *_: pytest.fail("measured again"))
        sweep([two])
        latest = json.loads((cell / "metrics" / "perplexity.json").read_text())
        assert latest["settings"]["n_samples"] == 2  # a script reads what was asked for last
        sweep([three])
        latest = json.loads((cell / "metrics" / "perplexity.json").read_text())
        assert latest["settings"]["n_samples"] == 3
        assert len(list((cell / "metrics").glob("perplexity*.json"))) == 2

    def test_a_metric_added_to_a_kept_model_is_measured_on_it(
        self, small: Frozen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sweep([small("method=wanda", "keep=model", "metric=[perplexity]")])
        monkeypatch.setattr(Wanda, "compress", lambda *_: pytest.fail("compressed again"))
        sweep([small("method=wanda", "keep=model", "metric=[perplexity,divergence]")])
        divergence = values(cells(tmp_path)[1], "divergence")
        assert divergence["jsd"] > 0

    def test_each_cell_keeps_its_log(self, configs: list[dict[str, Any]], tmp_path: Path) -> None:
        sweep(configs[:1])
        text = (cells(tmp_path)[1] / "log.txt").read_text()
        assert "compressed: 50.00 %" in text
        assert "perplexity" in text

    def test_every_attempt_in_a_cells_log_begins_with_its_header(
        self, small: Frozen, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        sweep([small("method=dense", "metric=[perplexity]")])
        sweep([small("method=dense", "metric=[perplexity,divergence]")])
        (cell,) = cells(tmp_path)
        said = [line.split(" INFO ")[1] for line in (cell / "log.txt").read_text().splitlines()]
        begun = [place for place, line in enumerate(said) if line.startswith("source: embedded")]
        assert [said[place + 1] for place in begun] == [f"[1/1] {cell.name}"] * 2
        assert begun[0] == 0
        assert capsys.readouterr().err.count("source: embedded") == 2  # the grid's own lines

    def test_the_time_that_is_left_is_not_reckoned_from_the_first_cell(
        self, small: Frozen, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The first loads for all; of the others each takes ten seconds."""
        now = [0.0]
        monkeypatch.setattr("sweep.grid.time.monotonic", lambda: now[0])

        def run(cell: Any, *_: Any) -> str:
            now[0] += 10 if cell.parts.method.compresses else 1000
            return ""

        monkeypatch.setattr("sweep.grid.run", run)
        ratios = (0.1, 0.2, 0.3)
        sweep([small("method=wanda", f"sparsity.ratio={ratio}") for ratio in ratios])
        said = capsys.readouterr().err
        lines = [line for line in said.splitlines() if line.startswith("[")]
        assert [line.partition("(")[2] for line in lines] == [
            *("", "", "about 20 s left)", "about 10 s left)")
        ]

    def test_the_grids_progress_names_the_cells_and_what_is_left(
        self, configs: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
    ) -> None:
        log = logging.getLogger("sweep")
        log.addHandler(caplog.handler)
        try:
            sweep(configs)
        finally:
            log.removeHandler(caplog.handler)
        text = caplog.text
        assert "2 points of the grid, 3 cells with dense, 3 to run" in text
        assert "[1/3] tiny-dense" in text
        assert "[2/3] tiny-wanda-50-c4" in text
        assert "left)" in text


def test_by_default_perplexity_and_divergence_read_the_same_text_in_one_pass(
    frozen: Frozen,
) -> None:
    cell = make(
        frozen("metric=[perplexity,divergence]", "metric.divergence.source=c4"), fingerprint
    )
    workshop = Workshop(Progress())
    texts = [workshop.material(cell, metric)["c4"] for metric in ("perplexity", "divergence")]
    assert texts[0].key == texts[1].key  # and `scan` runs once per key


def test_kept_dense_answers_are_not_generated_again(
    small: Frozen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep([small("method=dense", "metric=[tasks]")])
    asked: list[str] = []
    from sweep.metric import questions

    generate = questions.generate
    monkeypatch.setattr(
        questions, "generate", lambda *a, **k: asked.append(k["name"]) or generate(*a, **k)
    )
    sweep([small("method=wanda", "metric=[tasks]")])
    assert len(asked) == 2  # alpaca and unnatural, of the compressed model only


def test_statistics_of_the_dense_model_are_collected_once_per_calibration_set(
    small: Frozen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever varies fastest in the grid."""
    passes: list[str] = []
    once = workshop.gather
    monkeypatch.setattr(workshop, "gather", lambda *a, **k: (passes.append(""), once(*a, **k))[1])
    points = [
        small(
            f"method={method}",
            "method.propagate=dense",
            f"sparsity.ratio={ratio}",
            f"calib={calib}",
            "metric=[perplexity]",
        )
        for method in ("wanda", "sparsegpt")
        for ratio in (0.5, 0.6)
        for calib in ("c4", "alpaca")
    ]
    planned = plan(points, Workshop(Progress()))
    assert [cell.parts.method.compresses for cell in planned.todo] == [False] + 8 * [True]
    assert [cell.config["options"]["calib"] for cell in planned.todo[1:]] == (
        4 * ["c4"] + 4 * ["alpaca"]
    )
    assert planned.cells == tuple(sorted(planned.todo, key=planned.cells.index))
    sweep(points)
    assert len(passes) == 2


@pytest.mark.parametrize("metric", ["perplexity", "divergence", "tasks"])
@pytest.mark.parametrize("count", ["null", "1000000000"])
def test_all_of_a_corpus_without_an_end_is_refused(frozen: Frozen, metric: str, count: str) -> None:
    config = frozen("method=magnitude", f"metric=[{metric}]", f"metric.{metric}.n_samples={count}")
    with pytest.raises(Refusal, match=r"is embedded and has no end; set a number up to") as refused:
        plan([config], Workshop(Progress()))
    assert refused.value.setting == f"metric.{metric}.n_samples"


def test_results_carry_seed_threads_versions_and_hashes(small: Frozen, tmp_path: Path) -> None:
    sweep([small("method=wanda", "metric=[perplexity]", "seed=5")])
    cell = cells(tmp_path)[1]
    compression = json.loads((cell / "compression.json").read_text())
    result = json.loads((cell / "metrics" / "perplexity.json").read_text())
    assert compression["calibration"]["seed"] == 5
    assert len(compression["calibration"]["sha256"]) == 64
    for record in (compression, result):
        assert record["environment"]["threads"] == torch.get_num_threads()
        assert record["environment"]["torch"] == torch.__version__
        assert record["weights_sha256"] == compression["weights_sha256"]
    assert len(result["data"][0]["sha256"]) == 64
    assert result["values"]["perplexity"]["n"] == 4 * 255
    identity = make(small("method=wanda", "metric=[perplexity]", "seed=5"), fingerprint).identity
    assert Folder(tmp_path / "outputs", cell.name).cell()["identity"] == identity  # type: ignore[index]
