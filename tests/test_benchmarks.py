"""The README's numbers on speed and memory are those that the benchmarks have written."""

from __future__ import annotations

from benchmarks import page


def test_the_readmes_section_is_made_of_what_the_benchmarks_have_written() -> None:
    readme = page.README.read_text()
    section = readme.partition(page.OPENING)[2].partition(page.CLOSING)[0]
    records = page.written()
    assert "grid" in records
    assert section == page.section(records)


def test_a_ratio_below_its_bound_and_what_was_not_measured_are_on_the_page_as_they_are() -> None:
    one = {
        "work": "a walk",
        "against": "the plain form",
        "unit": "s",
        "bound": 4.0,
        "ours": [1.0, 3.0, 2.0],
        "theirs": [2.0, 2.0, 2.0],
        "ratio": 1.0,
        "agreement": "the same",
        "note": "",
    }
    none = one | {"ours": [], "theirs": [], "ratio": None, "bound": None, "note": "no GPU"}
    machine = {"date": "2026-01-01", "device": "x", "cores": 2, "torch": "2", "threads": 2}
    text = page.section({"compress": {"machine": machine, "contests": [one, none]}})
    assert "| a walk | the plain form | 2 s | 2 s | 1.00 | 4 | the same |" in text
    assert "| a walk | the plain form |  |  | not measured |  | the same; no GPU |" in text
