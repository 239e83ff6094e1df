"""The page in a real browser: it sorts, filters and links, asks no network and has no errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sweep.report.__main__ import main
from tests.needed import program
from tests.report.conftest import HOSTILE

Write = Callable[..., Path]
QUIET = (
    "headless=new no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
    "disable-component-update disable-sync disable-dev-shm-usage"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium, without a window."""
    chromium = program("chromium", "chromium")
    driver = program("chromedriver", "chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for word in [*QUIET.split(), f"user-data-dir={tmp_path_factory.mktemp('chromium')}"]:
        options.add_argument(f"--{word}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    yield browser
    browser.quit()


@pytest.fixture
def page(browser: Any, write_cell: Write, tmp_path: Path) -> Iterator[Path]:
    """A report with what is hostile in it, opened; nothing has gone wrong by its end."""
    outputs = tmp_path / "outputs"
    write_cell("dense", quality=1.0, model=HOSTILE[0])
    for i, label in enumerate(("40%", "50%", "60%")):
        for calib in ("c4", HOSTILE[1]):
            quality = 0.9 - i / 5 - (calib == "c4") / 10
            answers = ("answer 0 True", *HOSTILE)
            write_cell("wanda", label, calib, model=HOSTILE[0], quality=quality, answers=answers)
    write_cell("sparsegpt", failed=HOSTILE[2], model=HOSTILE[0])
    assert main([str(outputs)]) == 0
    file = outputs / "reports/all/report.html"
    browser.get_log("performance")
    browser.set_window_size(1200, 900)
    browser.get(file.as_uri())
    yield file
    assert browser.get_log("browser") == []
    asked = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [
        said["params"]["request"]["url"]
        for said in asked
        if said["method"] == "Network.requestWillBeSent"
    ]
    assert urls
    assert all(url.startswith(("file://", "data:")) for url in urls), urls


def test_nothing_that_a_model_said_has_run(browser: Any, page: Path) -> None:
    assert browser.title == "all – sweep"
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
            "return [...document.querySelectorAll('table.named tbody tr')]"
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


def test_answers_are_filtered_by_flip_cell_and_text(browser: Any, page: Path) -> None:
    from selenium.webdriver.support.ui import Select

    def shown() -> list[Any]:
        answers = browser.find_elements("css selector", ".answer")
        return [one for one in answers if one.get_attribute("hidden") is None]

    every = len(shown())
    flip, cell = (Select(browser.find_element("name", name)) for name in ("flip", "cell"))
    flip.select_by_visible_text("right to wrong")
    flips = shown()
    assert 0 < len(flips) < every
    assert {one.get_attribute("data-flip") for one in flips} == {"right to wrong"}
    cell.select_by_index(1)
    of_cell = shown()
    assert 0 < len(of_cell) < len(flips)
    assert len({one.get_attribute("data-cell") for one in of_cell}) == 1
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


def test_on_a_phone_nothing_but_tables_and_figures_is_wider_than_the_screen(
    browser: Any, page: Path
) -> None:
    browser.set_window_size(500, 900)  # Chromium's narrowest
    width = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert width[0] <= width[1]
    scroll = "const t = document.querySelector('.wide'); t.scrollLeft = 400; return t.scrollLeft"
    assert browser.execute_script(scroll) > 100
    place = "return document.querySelector('tbody .kept').getBoundingClientRect().left"
    assert browser.execute_script(place) >= 0  # what a row is stays in sight
    kept = "return [...document.querySelectorAll('thead .kept')].map((e) => e.textContent)"
    assert "sparsity" in browser.execute_script(kept)
