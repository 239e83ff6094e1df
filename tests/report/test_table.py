"""The table of a sweep, from result files written by hand."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweep.cell import Cell, make
from sweep.files import Folder
from sweep.refusal import OutOfSpace
from sweep.report import entries, notes, table, typeset, write
from sweep.report.paired import Paired

Frozen = Callable[..., dict[str, Any]]


@pytest.fixture
def cells(frozen: Frozen) -> list[Cell]:
    """Dense, and Wanda with two calibration sets."""
    points = [("method=dense",), ("method=wanda",), ("method=wanda", "calib=alpaca")]
    return [make(frozen("metric=[perplexity]", *point), str) for point in points]


DATA = {
    "corpus": "c4",
    "source": "embedded",
    "scored": "windows",
    "sequences": 4,
    "seqlen": 256,
    "scored_tokens": 1020,
}


def rows_of(cells: list[Cell]) -> table.Rows:
    return table.rows(entries.of(cells))


def conclude(outputs: Path, cells: list[Cell]) -> str:
    return write.conclude(str(outputs), "trial", cells, page=False)


def record(cell: Cell, perplexity: float, column: str = "perplexity") -> None:
    value = {"value": perplexity, "low": perplexity - 0.1, "high": perplexity + 0.1}
    folder = Folder(cell.settings.outputs, cell.name)
    result: dict[str, Any] = {
        "values": {column: value},
        "columns": [column],
        "data": [DATA],
        "calibration_data": [{"corpus": "alpaca", "source": "embedded"}],
    }
    result["settings_id"] = cell.metric_id("perplexity")
    folder.write_metric("perplexity", result, {})
    folder.write_compression(
        {"sparsity": 0.5, "layers": [], "weights_sha256": "0", "calibration": None}
    )
    asked = cell.described()["metrics"]
    folder.write_cell(cell.id, cell.identity, asked, cell.config, cell.about)


def test_every_value_comes_with_its_interval_and_its_difference_to_dense(cells: list[Cell]) -> None:
    for cell, value in zip(cells, (3.0, 3.5, 4.0), strict=True):
        record(cell, value)
    found = rows_of(cells)
    rows = found.rows
    assert found.metrics == ["perplexity"]
    assert found.settings == []
    assert [row["perplexity"] for row in rows] == [3.0, 3.5, 4.0]
    assert [row["perplexity_vs_dense"] for row in rows] == [0.0, 0.5, 1.0]
    assert rows[1]["perplexity_low"] == pytest.approx(3.4)
    assert rows[2]["calib"] == "alpaca"
    assert rows[0]["calib"] == ""


def test_missing_and_failed_cells_are_rows_too(cells: list[Cell], tmp_path: Path) -> None:
    record(cells[0], 3.0)
    Folder(cells[1].settings.outputs, cells[1].name).write_failure("ValueError: no\n\ntrace")
    text = conclude(tmp_path, cells)
    lines = [line for line in text.splitlines() if "wanda" in line]
    assert lines[0].split()[-2:] == ["–", "failed"]
    assert lines[1].split()[-2:] == ["–", "missing"]
    written = (tmp_path / "reports" / "trial" / "results.csv").read_text()
    statuses = [row["status"] for row in csv.DictReader(written.splitlines())]
    assert statuses == ["done", "failed: ValueError: no", "missing"]


def test_a_result_of_other_settings_is_not_this_sweeps(cells: list[Cell]) -> None:
    record(cells[0], 3.0)
    record(cells[2], 3.0)
    other: dict[str, Any] = {"values": {}, "columns": [], "data": [], "settings_id": "another"}
    Folder(cells[1].settings.outputs, cells[1].name).write_metric("perplexity", other, {})
    rows = rows_of(cells).rows
    assert [row["status"] for row in rows] == ["done", "missing", "done"]
    assert "perplexity" not in rows[1]


def test_a_failure_that_left_nothing_missing_is_over(cells: list[Cell], tmp_path: Path) -> None:
    for cell in cells:
        record(cell, 3.0)
    Folder(cells[1].settings.outputs, cells[1].name).write_failure("ValueError: in tasks")
    assert {row["status"] for row in rows_of(cells).rows} == {"done"}
    assert "status" not in conclude(tmp_path, cells)


def test_a_sweep_without_any_result_says_so_in_every_row(cells: list[Cell], tmp_path: Path) -> None:
    text = conclude(tmp_path, cells)
    assert sum(line.endswith("missing") for line in text.splitlines()) == 3


def test_rows_that_look_alike_are_told_apart_by_what_differs(
    frozen: Frozen, files: dict[str, Path], tmp_path: Path
) -> None:
    def told(*points: tuple[str, ...]) -> tuple[list[str], list[list[Any]]]:
        cells = [make(frozen("metric=[perplexity]", *point), str) for point in points]
        found = rows_of(cells)
        return found.settings, [[row[name] for name in found.settings] for row in found.rows]

    assert told(("method.scope=mlp",), ("method.scope=attention",), ("method=dense",)) == (
        ["method.scope"],
        [["mlp"], ["attention"], [""]],
    )
    assert told(("method.scope=mlp",), ("method=wanda",)) == (
        ["method.scope"],
        [["mlp"], ["all"]],
    )
    assert told(("calib=c4", "calib.packing=pad"), ("calib=alpaca",)) == ([], [[], []])
    assert told(("model.dtype=float32",), ("model.dtype=bfloat16",))[0] == ["model.dtype"]
    other = tmp_path / "other.txt"
    other.write_text("Another text.")
    local = [("calib=local", f"calib.path={path}") for path in (files["text"], other)]
    names, values = told(*local)
    assert names == ["calib.path"]
    assert values == [[str(files["text"])], [str(other)]]


def test_a_models_folder_may_be_named_like_a_method(
    frozen: Frozen, files: dict[str, Path], tmp_path: Path
) -> None:
    copy = tmp_path / "a-wanda-model"
    shutil.copytree(files["model"], copy)
    config = frozen("model=local", f"model.path={copy}", "seqlen=64", "calib=tokens",
                    f"calib.path={files['tokens']}", "calib.key=calibration",
                    "metric=[perplexity]", "metric.perplexity.source=tokens",
                    f"metric.perplexity.path={files['tokens']}",
                    "metric.perplexity.key=evaluation", "method=wanda")  # fmt: skip
    assert rows_of([make(config, str)]).rows[0]["model"] == "a-wanda-model"


def test_a_full_disk_leaves_the_table_on_the_terminal(
    cells: list[Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for cell in cells:
        record(cell, 3.0)

    def full(*_: Any) -> None:
        raise OutOfSpace("results.csv: cannot be written (No space left on device)")

    monkeypatch.setattr(write, "write", full)
    text = conclude(tmp_path, cells)
    assert text.count("3.000") >= 3
    assert "report: results.csv: cannot be written (No space left" in text


def test_a_value_without_dense_stands_alone(cells: list[Cell]) -> None:
    record(cells[1], 3.5)
    rows = rows_of(cells).rows
    assert rows[1]["perplexity"] == 3.5
    assert "perplexity_vs_dense" not in rows[1]


def test_stand_ins_are_named_in_the_text_and_in_both_files(
    cells: list[Cell], tmp_path: Path
) -> None:
    for cell in cells:
        record(cell, 3.0)
    text = conclude(tmp_path, cells)
    assert "perplexity: 4 windows of 256 tokens, 1020 of them scored, of c4 (embedded)" in text
    assert "source: embedded (alpaca, c4 are stand-ins" in text
    folder = tmp_path / "reports" / "trial"
    assert "source: embedded" in (folder / "results.md").read_text()
    assert ",embedded," in (folder / "results.csv").read_text()
    assert str(folder / "results.csv") in text


def test_examples_that_were_left_out_or_cut_are_named_below_the_table(cells: list[Cell]) -> None:
    lost = {**DATA, "left_out": 14, "unanswered": 3, "cut": 36}
    result: dict[str, Any] = {"values": {}, "columns": [], "data": [lost]}
    result["settings_id"] = cells[0].metric_id("perplexity")
    Folder(cells[0].settings.outputs, cells[0].name).write_metric("perplexity", result, {})
    (line,) = notes.measured_on(entries.of(cells))
    said = "14 left out, too long; 3 left out, answered by nobody; 36 cut at seqlen"
    assert line.endswith(f"of c4 (embedded); {said}")


def test_a_narrow_terminal_gets_tables_below_each_other(cells: list[Cell]) -> None:
    for cell in cells:
        folder = Folder(cell.settings.outputs, cell.name)
        values = {f"score_{i}": {"value": i, "low": i, "high": i} for i in range(12)}
        result: dict[str, Any] = {"values": values, "columns": list(values), "data": []}
        result["settings_id"] = cell.metric_id("perplexity")
        folder.write_metric("perplexity", result, {})
    found = rows_of(cells)
    text = typeset._render(found, markdown=False, width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert text.count("method") > 1
    wide = typeset._render(found, markdown=False, width=400)
    assert wide.count("method") == 1


def test_markdown_is_one_table_however_wide(cells: list[Cell]) -> None:
    for cell in cells:
        record(cell, 3.0)
    lines = typeset._render(rows_of(cells), markdown=True, width=1000).splitlines()
    assert len(lines) == 2 + len(cells)
    assert all(line.startswith("|") and line.endswith("|") for line in lines)


LONE = table.Rows([], [], [], ["x"], {})


@pytest.mark.parametrize(
    ("value", "change", "shown"),
    [
        (0.00012, 0.00012, "1.2e-04 (+1.2e-04)"),
        (0.0058, 0.0058, "0.0058 (+0.0058)"),
        (0.935, -0.04, "0.935 (-0.040)"),
        (36.6012, 33.0, "36.60 (+33.00)"),
        (2.951, 0.043, "2.951 (+0.043)"),
        (1.0, 0.0, "1.000 (+0.000)"),
        (1920.4, 1917.2, "1920 (+1917)"),
    ],
)
def test_numbers_keep_the_digits_that_mean_something(
    value: float, change: float, shown: str
) -> None:
    row = {"method": "wanda", "x": value, "x_vs_dense": change}
    assert typeset._against(LONE, row, "x", " ") == shown


def test_markdown_holds_the_intervals_and_the_model() -> None:
    row = {"method": "wanda", "x": 0.935, "x_low": 0.9, "x_high": 0.96, "x_vs_dense": -0.04}
    assert typeset._against(LONE, row, "x", " ", intervals=True) == "0.935 [0.900, 0.960] (-0.040)"


def test_the_best_is_marked_among_cells_of_the_same_sparsity() -> None:
    def row(method: str, sparsity: str, x: float) -> dict[str, Any]:
        return {"weights": "w", "method": method, "sparsity": sparsity, "x": x}

    rows = [
        row("dense", "", 1.0),
        row("wanda", "10%", 1.1),
        row("sparsegpt", "10%", 1.2),
        row("wanda", "50%", 2.2),
        row("sparsegpt", "50%", 2.1),
        row("sparsegpt", "2:4", 3.0),
    ]
    found = table.Rows(rows, [], [], ["x"], {"x": "lower"})
    best = [(r["method"], r["sparsity"]) for r in rows if found.best(r, "x")]
    assert best == [("wanda", "10%"), ("sparsegpt", "50%")]  # one alone is the best of nothing


@pytest.mark.parametrize(
    ("sd", "shown", "said"),
    [
        (0.0123, "2.951", " ± 0.012"),
        (0.0003, "2.951", " ± 0.0003"),
        (0.0, "2.951", " ± 0.000"),
        (4.1e-6, "3.4e-04", " ± 4.1e-06"),
        (0.2, "1920", " ± 0.2"),
        (None, "2.951", ""),
    ],
)
def test_a_deviation_is_never_said_to_be_0_that_is_not(
    sd: float | None, shown: str, said: str
) -> None:
    assert typeset.spread(sd, shown) == said


def test_a_minus_is_one_and_a_hyphen_stays_one() -> None:
    assert typeset.minus("-0.040 [-0.1, 3.1e-04]") == "−0.040 [−0.1, 3.1e−04]"
    assert typeset.minus("c4-alpaca-2 a-1") == "c4-alpaca-2 a-1"


def test_the_end_of_a_sweep_marks_unclear_differences_and_need_not_take_them_twice(
    cells: list[Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"loss": float(i % 2), "tokens": 1} for i in range(30)]
    for cell, more in zip(cells, (0.0, 0.0, 1.0), strict=True):
        own = [{**row, "loss": row["loss"] + more} for row in rows]
        mean = {"corpus": "c4", "field": "loss", "weight": None, "exp": False}
        value = {"value": 1.0 + more, "low": 0.5, "high": 2.5, "unit": "1", "mean": mean}
        result: dict[str, Any] = {"values": {"loss": value}, "columns": ["loss"], "data": [DATA]}
        result["settings_id"] = cell.metric_id("perplexity")
        Folder(cell.settings.outputs, cell.name).write_metric("perplexity", result, {"c4": own})
    text = conclude(tmp_path, cells)
    assert text.count("(+0.000~)") == 1
    assert text.count("(+1.000?)") == 1  # of every example: how much others differ is not known
    assert [text.count(f"\n{sign}: {said}\n") for sign, said in typeset.LEGEND.items()] == [1, 1]
    monkeypatch.setattr(Paired, "difference", None)
    assert conclude(tmp_path, cells) == text


def test_csv_quotes_what_needs_it() -> None:
    rows: list[dict[str, Any]] = [{"a": "x,y", "b": 1}, {"a": "z"}]
    assert typeset.csv_text(["a", "b"], rows) == 'a,b\n"x,y",1\nz,\n'
