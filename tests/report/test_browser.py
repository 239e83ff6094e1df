"""The page in a real browser: it sorts, filters and links, asks no network and has no errors."""

from __future__ import annotations

import json
import os
import re
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest

from sweep.report.__main__ import main
from sweep.report.page import PRINTED
from tests.report.conftest import HOSTILE, Page, opened, seen, writes

NAME = "out 'puts' \"#1\" ?x=%41&y <b> é漢 \n\udc80 ;"
"""Of a folder: whatever a file system takes, a byte that is no letter included."""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with what is hostile in it, in folders that are."""
    outputs = tmp_path_factory.mktemp("report") / NAME
    write_cell = writes(outputs)
    write_cell("dense", quality=1.0, model=HOSTILE[0])
    for i, label in enumerate(("40%", "50%", "60%")):
        for calib in ("c4", HOSTILE[1]):
            for seed in (0, 1):
                quality = 0.9 - i / 5 - (calib == "c4") / 10 - seed / 50
                answers = ("answer 0 True", *HOSTILE)
                about = {"model": HOSTILE[0], "quality": quality, "answers": answers}
                write_cell("wanda", label, calib, seed, **about)
    write_cell("wanda", "2:4", "c4", model=HOSTILE[0], quality=0.7)
    write_cell("sparsegpt", failed=HOSTILE[2], model=HOSTILE[0])
    assert main([str(outputs)]) == 0
    return outputs / "reports/all/report.html"


@pytest.fixture
def page(browser: Any, report: Path) -> Iterator[Path]:
    """The report, opened; nothing has gone wrong by its end."""
    yield from opened(browser, report)


def test_nothing_that_a_model_said_has_run(browser: Any, page: Path) -> None:
    assert browser.execute_script("return document.querySelectorAll('h1').length") == 1
    shown = browser.execute_script(
        "return [...document.querySelectorAll('.answer dd')].map((one) => one.textContent)"
    )
    for said in HOSTILE:
        assert said in shown
    drawn = browser.execute_script(
        "return [...document.images].map((one) => one.complete && one.naturalWidth > 100)"
    )
    assert len(drawn) >= 5
    assert all(drawn)


def test_a_heading_sorts_up_and_down_and_what_is_missing_stays_last(
    browser: Any, page: Path
) -> None:
    def column() -> list[str]:
        found: list[str] = browser.execute_script(
            "return [...document.querySelector('table.named').tBodies[0].rows]"
            ".map((row) => row.querySelector('.number').dataset.value ?? '')"
        )
        return found

    heading = browser.find_element("css selector", "table.named th.number")
    for order, turned in (("ascending", False), ("descending", True)):
        heading.find_element("tag name", "button").click()
        assert heading.get_attribute("aria-sort") == order
        *values, last = column()
        assert last == ""
        assert values == sorted(values, key=float, reverse=turned)
    assert len(set(column())) > 4


def test_every_table_sorts_by_numbers_and_not_by_their_letters(browser: Any, page: Path) -> None:
    """Also where there is a deviation, a difference or a minus beside them, or words between."""

    def click(table: str, column: str) -> list[str]:
        found: list[str] = browser.execute_script(
            """
            const table = document.querySelector(`[aria-label="${arguments[0]}"] table`);
            for (const details of document.querySelectorAll("details")) details.open = true;
            const heads = [...table.tHead.rows[0].cells];
            const place = heads.findIndex((one) => one.textContent.startsWith(arguments[1]));
            heads[place].querySelector("button").click();
            return [...table.tBodies[0].rows].map((row) => row.cells[place].innerText);
            """,
            table,
            column,
        )
        return [(said.split() or [""])[0].replace("−", "-") for said in found]

    means = click("Table over seeds", "perplexity")
    assert means[:-1] == sorted(means[:-1], key=float)
    assert means[-1] == "–"
    assert len(set(means)) > 5
    differences = click("Effects of the calibration set", "difference")
    assert float(differences[0]) < 0 < float(differences[-1])
    assert differences == sorted(differences, key=float)
    labels = click("Table of cells", "sparsity")
    assert labels[:-2] == sorted(labels[:-2])
    assert labels[-2:] == ["2:4", ""]  # what is no number is after all numbers; dense has none


def test_on_paper_are_the_first_answers_that_the_filter_leaves(browser: Any, page: Path) -> None:
    from selenium.webdriver.support.ui import Select

    def printed() -> list[str]:
        return [one["flip"] for one in seen(browser, ".answer")]

    every = len(printed())
    media = "Emulation.setEmulatedMedia"
    try:
        browser.execute_cdp_cmd(media, {"media": "print"})
        assert len(printed()) == PRINTED < every
        said = browser.find_element("css selector", ".paper")
        assert f"the first {PRINTED} of those" in said.text
        browser.execute_cdp_cmd(media, {"media": ""})
        assert not said.is_displayed()
        Select(browser.find_element("name", "flip")).select_by_visible_text("right to wrong")
        browser.execute_cdp_cmd(media, {"media": "print"})
        assert printed() == ["right to wrong"] * PRINTED
    finally:
        browser.execute_cdp_cmd(media, {"media": ""})
    pdf = b64decode(browser.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert max(int(n) for n in re.findall(rb"/Count (\d+)", pdf)) < 30  # with all answers 74
    closed = "return document.querySelectorAll('details[open]').length"
    assert browser.execute_script(closed) == 0  # what was open on paper only


COLUMNS = [f"rouge1_of_corpus_{i}" for i in range(20)]


@pytest.fixture
def wide(browser: Any, tmp_path: Path) -> Iterator[Path]:
    """A report of more columns than a paper has room for."""
    write_cell = writes(tmp_path / "outputs")
    write_cell("dense", quality=1.0, more=COLUMNS)
    for label in ("40%", "50%", "60%", "70%"):
        for calib in ("c4", "alpaca"):
            quality = 1.2 - int(label[:-1]) / 100 + (calib == "alpaca") / 10
            write_cell("wanda", label, calib, quality=quality, more=COLUMNS)
    assert main([str(tmp_path / "outputs")]) == 0
    yield from opened(browser, tmp_path / "outputs/reports/all/report.html")


def test_no_column_is_lost_on_paper(browser: Any, wide: Path) -> None:
    tables = """
    return [...document.querySelectorAll("table")].filter((one) => one.offsetWidth).map((one) => ({
      label: one.closest(".part, .wide").ariaLabel, inside: one.closest("#table") !== null,
      width: one.getBoundingClientRect().right,
      heads: [...one.tHead.rows[0].cells].map((cell) => cell.innerText.trim().split(" ")[0]),
      rows: one.tBodies[0].rows.length,
    }));
    """
    on_screen = browser.execute_script(tables)
    assert {one["inside"] for one in on_screen} == {True, False}
    try:
        browser.execute_script("dispatchEvent(new Event('beforeprint'))")
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        printed = []
        for inside, paper in ((True, 255), (False, 186)):  # mm of Letter, turned, and of A4
            width = int(paper / 25.4 * 96)
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            own = [one for one in browser.execute_script(tables) if one["inside"] == inside]
            assert [one["heads"] for one in own if one["width"] > width] == []
            printed += own
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        browser.execute_script("dispatchEvent(new Event('afterprint'))")
    assert len(printed) > len(on_screen) + 1
    table = [one for one in printed if one["inside"]]
    assert len(table) > 1
    for one in table:
        assert one["heads"][:4] == ["model", "method", "sparsity", "calib"]
        assert one["rows"] == 9
    for inside in (True, False):
        heads = {head for one in printed if one["inside"] == inside for head in one["heads"]}
        assert {*COLUMNS, "em", "f1", "perplexity"} <= heads
    assert browser.execute_script(tables) == on_screen
    pdf = b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})["data"])
    sizes = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", pdf)
    assert {float(x) > float(y) for x, y in sizes} == {True, False}  # the table is on its side


def test_answers_are_filtered_by_flip_cell_and_text(browser: Any, page: Path) -> None:
    from selenium.webdriver.support.ui import Select

    def shown() -> list[dict[str, str]]:
        return seen(browser, ".answer")

    every = len(shown())
    flip, cell = (Select(browser.find_element("name", name)) for name in ("flip", "cell"))
    flip.select_by_visible_text("right to wrong")
    flips = shown()
    assert 0 < len(flips) < every
    assert {one["flip"] for one in flips} == {"right to wrong"}
    cell.select_by_index(1)
    of_cell = shown()
    assert 0 < len(of_cell) < len(flips)
    assert len({one["cell"] for one in of_cell}) == 1
    flip.select_by_value("")
    cell.select_by_value("")
    browser.find_element("name", "text").send_keys("{% RAW %}")
    assert 0 < len(shown()) < every
    output = browser.find_element("css selector", "#filter output").text
    assert output == f"{len(shown())} shown"


def test_a_number_leads_to_its_file(browser: Any, page: Path) -> None:
    browser.find_element("css selector", "table.sortable td.number a").click()
    assert browser.current_url.endswith("/metrics/perplexity.json")
    text = browser.find_element("tag name", "body").text
    assert json.loads(text)["settings_id"] == "p"


def test_every_link_leads_somewhere_whatever_the_folders_are_called(report: Path) -> None:
    links = {link for link in Page(report).attributes("a", "href") if not link.startswith("#")}
    assert len(links) > 50
    for link in links:
        assert Path(
            os.fsdecode(os.fsencode(report.parent) + b"/" + unquote_to_bytes(link))
        ).exists()


def test_on_a_phone_nothing_but_tables_and_figures_is_wider_than_the_screen(
    browser: Any, page: Path
) -> None:
    phone = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        browser.refresh()  # as a phone would lay it out
        assert browser.execute_script("return screen.width") == 360
        width = "return [document.documentElement.scrollWidth, visualViewport.width]"
        assert browser.execute_script(width) == [360, 360]
        scroll = (
            "const t = document.querySelector('.wide'); t.scrollLeft = 400; return t.scrollLeft"
        )
        assert browser.execute_script(scroll) > 100
        place = "return document.querySelector('tbody .kept').getBoundingClientRect().left"
        assert browser.execute_script(place) >= 0  # what a row is stays in sight
        kept = "return [...document.querySelectorAll('thead .kept')].map((e) => e.textContent)"
        assert "sparsity" in browser.execute_script(kept)
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
