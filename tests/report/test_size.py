"""A page of one cell, and one of five hundred: below three megabytes, whole, and usable."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweep.report import entries
from sweep.report.write import write_report
from tests.report.conftest import Page, opened, seen, writes

Write = Callable[..., Path]
CELLS = 500


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of five hundred cells with long names, long answers and seventeen metrics."""
    outputs = tmp_path_factory.mktemp("many") / "outputs"
    write_cell = writes(outputs)
    long = [f"{'a very long answer ' * 60}{i}" for i in range(20)]
    more = [f"rouge1_of_a_corpus_with_a_long_name_{i}" for i in range(14)]
    write_cell("dense", quality=1.0, more=more)
    for i in range(CELLS - 1):
        rest, ratio = divmod(i, 25)
        method, seed = ("wanda", "sparsegpt")[rest % 2], rest // 4
        calib = f"a-calibration-set-with-a-name-that-goes-on-and-on-{rest // 2 % 2}"
        about = (method, f"{20 + 3 * ratio}%", calib, seed)
        write_cell(*about, quality=1 - ratio / 30, answers=long, more=more)
    folder = outputs / "reports/all"
    write_report(folder, entries.below(outputs), formats=("html",))
    return folder / "report.html"


def test_the_page_of_one_cell_is_whole(write_cell: Write, tmp_path: Path) -> None:
    write_cell("dense", quality=1.0)
    folder = tmp_path / "outputs/reports/all"
    write_report(folder, entries.below(tmp_path / "outputs"), formats=("html",))
    page = Page(folder / "report.html")
    assert "1 cell: 1 done" in page.text
    assert (folder / "results.csv").is_file()  # the page refers to it
    assert not (folder / "results.md").exists()


def test_a_page_of_many_cells_stays_below_three_megabytes_and_says_what_it_has_not(
    report: Path,
) -> None:
    assert report.stat().st_size < 3_000_000
    page = Page(report)
    assert f"{CELLS} cells: {CELLS} done" in page.text
    shown = re.search(r"(\d+) of (\d+) answers", page.text)
    assert shown is not None
    assert 0 < int(shown[1]) < int(shown[2]) == (CELLS - 1) * 30
    said = re.search(r"room for the first (\d+) of 17 columns; all are in results.csv", page.text)
    assert said is not None
    html = report.read_text(encoding="utf-8")
    table = html[html.index('aria-label="Table of cells"') :]
    rows = re.findall(r"<tr><td class=\"name\">.*?</tr>", table[: table.index("</table>")])
    assert len(rows) == CELLS  # every cell is there, with as many columns as there is room for
    assert {row.count('class="number"') for row in rows} == {int(said[1])}
    assert "largest of each metric, all are in calibration.csv" in page.text
    for name in ("tolerance.csv", "calibration.csv"):
        assert re.search(rf"The first \d+ of \d+; all are in\s+{name}", page.text), name
    assert re.search(rf"Over these {CELLS - 1} cells, of which the first \d+ are linked", page.text)


def test_a_browser_opens_sorts_opens_up_and_filters_many_cells(browser: Any, report: Path) -> None:
    """In bounded work: so many elements, and so few times at which the page is laid out anew."""
    for _ in opened(browser, report):
        assert browser.execute_script("return document.querySelectorAll('*').length") < 60_000
        layouts = laid_out(browser)
        click = """
        const table = document.querySelector('[aria-label="Table of cells"] table');
        const place = [...table.tHead.rows[0].cells].findIndex((one) => one.matches(".number"));
        const heading = table.tHead.rows[0].cells[place].querySelector("button");
        for (let i = 0; i < 2; i++) heading.click();
        return [...table.tBodies[0].rows].map((row) => Number(row.cells[place].dataset.value));
        """
        values = browser.execute_script(click)
        assert len(values) == CELLS
        assert values == sorted(values, reverse=True)
        opens = "const all = [...document.querySelectorAll('details')];"
        opens += "for (const one of all) one.open = true; return all.length"
        assert browser.execute_script(opens) > 100
        for said in ("question", "of nothing that is there"):
            ask = """
            const text = document.querySelector("[name=text]");
            text.value = arguments[0];
            text.dispatchEvent(new Event("input", { bubbles: true }));
            """
            browser.execute_script(ask, said)
            shown = len(seen(browser, ".answer"))
            assert (shown > 0) == (said == "question")
            assert browser.find_element("css selector", "#filter output").text == f"{shown} shown"
        assert laid_out(browser) - layouts < 30


def laid_out(browser: Any) -> int:
    browser.execute_cdp_cmd("Performance.enable", {})
    found = browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return int(next(one["value"] for one in found if one["name"] == "LayoutCount"))
