"""Sweeps on disk, written by hand: what cells, metrics and answers say, without a model; and what
looks at their pages: a parser, a browser."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweep.files import Folder
from sweep.numerics.bootstrap import interval
from sweep.report import entries, table
from tests.needed import program

Write = Callable[..., Path]

HOSTILE = (
    "<script>document.title = 'taken'</script>",
    '"><img src=x onerror="document.title = \'taken\'">',
    "</style></script><h1>out</h1>",
    "{{ 7 * 7 }} {% raw %} $x_{ | a\tb\nc \\textbf{x} & % # ~ ^ é 漢 \u202eback",
)
"""What a model, a data set or a name may hold."""


@cache  # five hundred cells have twenty-five qualities
def _interval(
    sums: tuple[float, ...], counts: tuple[float, ...], scale: tuple[float, float] | None
) -> tuple[float, float] | tuple[None, None]:
    return interval(np.array(sums), np.array(counts), scale)


def value(rows: Sequence[dict[str, Any]], field: str, better: str, **mean: Any) -> dict[str, Any]:
    weights = np.array([float(row.get(mean.get("weight") or "", 1.0)) for row in rows])
    numbers = np.array([float(row[field]) for row in rows])
    change = np.exp if mean.get("exp") else float
    found = float((weights * numbers).sum() / weights.sum())
    scale = None if mean.get("exp") else (0.0, 1.0)
    low, high = _interval(tuple(weights * numbers), tuple(weights), scale)
    how = {"corpus": mean["corpus"], "field": field, "weight": mean.get("weight")}
    return {
        "value": float(change(found)),
        "low": None if low is None else float(change(low)),
        "high": None if high is None else float(change(high)),
        "unit": "1",
        "n": len(rows),
        "of": "examples",
        "better": better,
        "mean": {**how, "exp": bool(mean.get("exp"))},
    }


class Page(HTMLParser):
    """What a page holds: elements, links, and text."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def attributes(self, tag: str, name: str) -> list[str]:
        return [said for found, has in self.elements if found == tag and (said := has.get(name))]


QUIET = (
    "headless=new no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
    "disable-component-update disable-sync disable-dev-shm-usage"
)


@pytest.fixture(scope="session")
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


def opened(browser: Any, file: Path) -> Iterator[Path]:
    """A page, opened; by its end it has asked no network and complained of nothing."""
    browser.get("about:blank")  # and not the browser's own first page, which asks for its files
    browser.get_log("performance")
    browser.set_window_size(1200, 900)
    browser.get(file.as_uri())
    assert browser.title == "all – sweep"
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


def seen(browser: Any, selector: str) -> list[dict[str, str]]:
    """The data of the elements that are displayed."""
    script = """
    return [...document.querySelectorAll(arguments[0])]
      .filter((one) => getComputedStyle(one).display !== "none")
      .map((one) => ({ ...one.dataset }));
    """
    found: list[dict[str, str]] = browser.execute_script(script, selector)
    return found


@pytest.fixture
def write_cell(tmp_path: Path) -> Write:
    """Writes a cell below `outputs` of the test's folder."""
    return writes(tmp_path / "outputs")


def writes(below: Path) -> Write:
    """What writes a cell below a folder of outputs; it returns the cell's folder.

    `quality` in 0..1 is how good its losses and answers are; `answers` replaces the texts; `more`
    are further columns, with the numbers of `em`.
    """

    def write_cell(
        method: str = "wanda",
        sparsity: str = "50%",
        calib: str | None = "c4",
        seed: int | None = 0,
        *,
        quality: float = 0.8,
        model: str = "tiny",
        outputs: Path | None = None,
        examples: int = 30,
        answers: Sequence[str] = (),
        failed: str = "",
        layers: int = 2,
        weights: str = "",
        n_samples: int | None = None,
        more: Sequence[str] = (),
        **settings: Any,
    ) -> Path:
        outputs = below if outputs is None else outputs
        compresses = method != "dense"
        about = {
            "model": model,
            "weights": hashlib.sha256((model + weights).encode()).hexdigest()[:8],
            "method": method,
            "compresses": compresses,
            "sparsity": sparsity if compresses else None,
            "ratio": (0.5 if ":" in sparsity else float(sparsity[:-1]) / 100)
            if compresses
            else None,
            "calib": calib if compresses else None,
            "seed": seed if compresses and calib else None,
        }
        id = hashlib.sha256(repr((about, settings, n_samples)).encode()).hexdigest()
        name = f"{'-'.join(str(v) for v in about.values() if v is not None)}-{id[:8]}"
        name = "".join(c for c in name if c.isalnum() or c in "-.")
        folder = Folder(outputs, name)
        config: dict[str, Any] = {"model": {"dtype": "float32"}, "method": settings}
        config |= {"sparsity": {}, "keep": "none"}
        config["calib"] = {} if n_samples is None else {"n_samples": n_samples}
        identity = {"sparsity": {}, "calib": {}} if compresses else {}
        folder.write_cell(id, identity, {"perplexity": "p", "tasks": "t"}, config, about)
        if failed:
            folder.write_failure(f"{failed}\n\ntrace\n")
            return folder.path
        rng = np.random.default_rng(7)  # the same examples are hard for every cell
        hard = rng.uniform(size=examples)
        losses = [
            {"sequence": i, "tokens": 10 + i % 3, "loss": float(1 + h * (1.2 - quality))}
            for i, h in enumerate(hard)
        ]
        texts = [
            {
                "prompt": f"question {i}",
                "gold": f"gold {i}",
                "answer": answers[i % len(answers)] if answers else f"answer {i} {h < quality}",
                "dense_answer": f"answer {i} True",
                "em": float(h < quality),
                "dense_em": 1.0,
                "f1": float(h < quality) / 2 + 0.5,
                "dense_f1": 1.0,
                "kind": "skill" if i % 3 else "recall",
            }
            for i, h in enumerate(hard)
        ]
        data = {"corpus": "c4", "source": "embedded", "rows": examples, "sha256": str(examples)}
        common = {
            "data": [data],
            "calibration_data": [],
            "environment": {"torch": "2", "threads": 2},
        }
        folder.write_metric(
            "perplexity",
            {
                "settings_id": "p",
                "values": {
                    "perplexity": value(
                        losses, "loss", "lower", corpus="c4", weight="tokens", exp=True
                    )
                },
                "columns": ["perplexity"],
                **common,
            },
            {"c4": losses},
        )
        em = value(texts, "em", "higher", corpus="alpaca")
        recall = value(texts[::3], "em", "higher", corpus="alpaca") | {"better": None}
        recall["mean"]["where"] = ["kind", "recall"]
        folder.write_metric(
            "tasks",
            {
                "settings_id": "t",
                "values": {
                    "em": em,
                    "f1": value(texts, "f1", "higher", corpus="alpaca"),
                    "em_recall": recall,
                    **dict.fromkeys(more, em),
                },
                "columns": ["em", "f1", *more],
                **common,
            },
            {"alpaca": texts},
        )
        share = about["ratio"] or 0.0
        folder.write_compression(
            {
                "sparsity": share,
                "weights_sha256": id,
                "calibration": None,
                "layers": [
                    {
                        "name": f"model.layers.{i}.{kind}",
                        "shape": [4, 4],
                        "sparsity": share,
                        "zeros": round(16 * share),
                        "remarks": [],
                        "output_error": None if calib is None else share * (i + 1) / 4,
                    }
                    for i in range(layers if compresses else 0)
                    for kind in ("self_attn.q_proj", "mlp.up_proj")
                ],
            }
        )
        return folder.path

    return write_cell


@pytest.fixture
def rows(tmp_path: Path) -> Callable[[], table.Rows]:
    return lambda: table.rows(entries.below(tmp_path / "outputs"))
