"""Which cells are compared with which, and what they are called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pytest

from sweep.files import Folder
from sweep.report import entries, frontier, table, truth
from sweep.report.__main__ import main
from sweep.report.paired import Paired
from tests.report.conftest import Page

Write = Callable[..., Path]


def test_what_was_measured_in_another_way_has_another_name_and_is_not_compared(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    write_cell("dense", quality=1.0)
    write_cell("wanda", quality=0.8)
    path = write_cell("sparsegpt", quality=0.8)
    for file in (path / "cell.yaml", path / "metrics" / "tasks.json"):  # with other settings
        text = file.read_text().replace("tasks: t", "tasks: u")
        file.write_text(text.replace('"settings_id": "t"', '"settings_id": "u"'))
    found = rows()
    assert {"em@t", "em@u", "perplexity"} <= set(found.metrics)
    sparsegpt = next(row for row in found.rows if row["method"] == "sparsegpt")
    assert "em@u" in sparsegpt
    assert "em@u_vs_dense" not in sparsegpt
    assert "perplexity_vs_dense" in sparsegpt
    assert {link.task for link in truth.links(found.entries)} <= {"em@t", "f1@t", "em@u", "f1@u"}


def asked_since(path: Path, settings_id: str, **columns: float) -> None:
    """A cell's tasks are measured once more, with other settings, as another sweep asks."""
    folder = Folder.at(path)
    said, first = folder.cell(), folder.metric("tasks", "t")
    assert said is not None
    assert first is not None
    changed = {name: {**first["values"][name], "value": value} for name, value in columns.items()}
    record = {**first, "settings_id": settings_id, "values": {**first["values"], **changed}}
    folder.write_metric("tasks", record, folder.examples("tasks", "t"))
    asked = {**said["metrics"], "tasks": settings_id}
    folder.write_cell(said["id"], said["identity"], asked, said["config"], said["about"])


def test_what_another_sweep_has_asked_since_of_the_dense_model_hides_no_difference_to_it(
    write_cell: Write, tmp_path: Path
) -> None:
    asked_since(write_cell("dense", quality=0.9), "u", em=0.5)
    write_cell("wanda", quality=0.5)
    asked_since(write_cell("magnitude", calib=None, quality=0.7), "u")
    outputs = tmp_path / "outputs"
    found = table.rows(entries.below(outputs), paired=Paired())
    dense, magnitude, wanda = found.rows
    assert (dense["em@u"], dense["em@t"]) == (0.5, 0.9)
    assert wanda["em@t_vs_dense"] == pytest.approx(wanda["em@t"] - dense["em@t"])
    assert wanda["em@t_vs_dense_low"] < wanda["em@t_vs_dense"] < wanda["em@t_vs_dense_high"]
    assert "em@u" not in wanda
    assert "em@t" in magnitude  # it has both, too
    assert magnitude["em@u_vs_dense"] == pytest.approx(magnitude["em@u"] - 0.5)
    assert "no dense" not in str(frontier.tolerances(found, Paired()))
    assert main([str(outputs), "--html"]) == 0
    page = outputs / "reports/all/report.html"
    links = [unquote(link) for link in Page(page).attributes("a", "href")]
    for file in ("metrics/tasks.json", "metrics/tasks@t.json"):
        assert any(link.endswith(f"{magnitude['cell']}/{file}") for link in links), file
    assert all((page.parent / link).exists() for link in links if link.startswith("../"))


def test_settings_that_differ_are_shown_and_only_equal_ones_are_compared(
    write_cell: Write, tmp_path: Path, rows: Callable[[], table.Rows]
) -> None:
    write_cell("wanda", scope="all", quality=0.9)
    write_cell("sparsegpt", scope="all", quality=0.8)
    write_cell("sparsegpt", scope="mlp", quality=0.7)
    found = table.rows(entries.below(tmp_path / "outputs"), baseline="wanda")
    assert found.settings == ["method.scope"]
    compared = {row["method.scope"] for row in found.rows if "em_vs_wanda" in row}
    assert compared == {"all"}
    names = {line.name for line in frontier.lines(found, "em", Paired())}
    assert names == {"wanda c4 scope=all", "sparsegpt c4 scope=all", "sparsegpt c4 scope=mlp"}


def test_models_of_one_name_are_told_apart(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    for outputs_of in ("one", "other"):
        for i in range(6):
            write_cell("wanda", f"{10 * (i + 1)}%", quality=1 - i / 9, weights=outputs_of)
        write_cell("sparsegpt", "10%", quality=0.5, weights=outputs_of)
    found = rows()
    assert len({link.model for link in truth.links(found.entries)}) == 2
    assert sum(found.best(row, "em") for row in found.rows) == 2


def test_a_metric_that_a_line_lacks_is_empty_in_its_own_column(
    write_cell: Write, rows: Callable[[], table.Rows]
) -> None:
    write_cell("dense", quality=1.0, examples=200)
    (write_cell("wanda", quality=1.0, examples=200) / "metrics" / "perplexity.json").unlink()
    write_cell("sparsegpt", quality=1.0, examples=200)
    found = {row["method"]: row for row in frontier.tolerances(rows(), Paired())}
    assert list(found["wanda"]) == list(found["sparsegpt"])
    assert (found["wanda"]["perplexity"], found["wanda"]["em"]) == ("", "50%")
