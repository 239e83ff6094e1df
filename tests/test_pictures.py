"""Every picture of the README has a command that makes it anew, there are no others, and what is
said of them is what they show."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks import pictures
from benchmarks.page import README
from sweep.config import CONF


def test_every_picture_of_the_readme_is_made_by_the_command_and_every_one_made_is_shown() -> None:
    shown = set(re.findall(r"\]\((docs/[\w.-]+)\)", README.read_text()))
    made = {
        picture.file(study).relative_to(README.parent).as_posix()
        for study, picture in pictures.PICTURES.items()
    }
    assert shown == made == {f"docs/{file.name}" for file in pictures.DOCS.iterdir()}
    assert all((CONF / "study" / f"{study}.yaml").is_file() for study in pictures.PICTURES)


def _said_of(study: str) -> str:
    """What the README says of a study, from its command to its picture."""
    text = README.read_text()
    end = text.index(f"({pictures.PICTURES[study].file(study).relative_to(README.parent)})")
    return text[text.rindex(f"+study={study}", 0, end) : end]


def test_the_correlations_that_the_readme_names_are_those_of_the_picture() -> None:
    """In the order of the sentence: on the instructions' responses, then on prose."""
    named = re.findall(r"(-?\d\.\d\d) \[(-?\d\.\d\d),\s(-?\d\.\d\d)\]", _said_of("metric_validity"))
    found = json.loads(pictures.RESULT.read_text())["metric_validity"]["spearman"]
    metrics = [f"{m}_{c}" for c in ("alpaca", "c4") for m in ("jsd", "perplexity_compressed")]
    shown = [found[f"{metric} em_alpaca"] for metric in metrics]
    assert [tuple(map(float, ends)) for ends in named] == [
        pytest.approx(ends, abs=0.005 + 1e-9) for ends in shown
    ]


@pytest.mark.parametrize("study", pictures.PICTURES)
def test_the_readme_counts_the_cells_that_the_picture_is_of(study: str) -> None:
    said = re.search(r"(\d+) (compressed )?cells", _said_of(study))
    assert said is not None
    cells = json.loads(pictures.RESULT.read_text())[study]["cells"]
    assert int(said[1]) == cells - bool(said[2])  # the dense one is not compressed


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The commands that are run; a stand-in writes what a sweep and its report would leave."""
    commands: list[tuple[str, ...]] = []

    def run(module: str, *words: str) -> None:
        commands.append((module, *words))
        if module == "sweep":
            (outputs,) = (word.partition("=")[2] for word in words if word.startswith("outputs="))
            study = words[0].partition("=")[2]
            report = Path(outputs) / "reports" / study
            report.mkdir(parents=True, exist_ok=True)
            names = ["dense", "wanda-1", "wanda-2"]
            (report / "sweep.json").write_text(json.dumps({"cells": [{"name": n} for n in names]}))
            for name in names:
                log = Path(outputs) / "cells" / name / "log.txt"
                log.parent.mkdir(parents=True, exist_ok=True)
                log.write_text("done in 2.50 s: compressing 1.00 s, measuring 1.25 s\n")
            return
        (Path(words[0]) / "figures").mkdir()
        (Path(words[0]) / "figures" / "truth.png").write_bytes(b"drawn")
        (Path(words[0]) / "figures" / "calib.n_samples.png").write_bytes(b"drawn")
        header = "model,metric,task,spearman,spearman_low,spearman_high"
        rows = ["tiny,jsd_alpaca,em_alpaca,0.98765,0.95,1.0", "tiny,jsd_c4,em_alpaca,,,"]
        (Path(words[0]) / "correlations.csv").write_text("\n".join([header, *rows]) + "\n")

    monkeypatch.setattr(pictures, "_run", run)
    monkeypatch.setattr(pictures, "DOCS", tmp_path / "docs")
    monkeypatch.setattr(pictures, "RESULT", tmp_path / "pictures.json")
    (tmp_path / "docs").mkdir()
    return commands


def test_a_picture_is_a_figure_of_the_report_and_a_record_says_what_it_is_of(
    ran: list[tuple[str, ...]], tmp_path: Path
) -> None:
    where = ["--outputs", str(tmp_path / "outputs")]
    pictures.main(["calibration_size", *where])
    pictures.main(["metric_validity", *where])
    assert sorted(file.name for file in (tmp_path / "docs").iterdir()) == [
        "tiny-calibration_size-n_samples.png",
        "tiny-metric_validity-truth.png",
    ]
    assert ran[0][:3] == ("sweep", "+study=calibration_size", "model=tiny")
    assert ran[1][-2:] == ("--columns", "jsd,em_alpaca,em_unnatural")
    assert "--columns" not in ran[3]
    record = json.loads((tmp_path / "pictures.json").read_text())
    assert record["metric_validity"]["spearman"] == {"jsd_alpaca em_alpaca": [0.9877, 0.95, 1.0]}
    assert [record[study]["cells"] for study in record] == [3, 3]
    assert record["calibration_size"]["seconds"] == 8
    assert record["calibration_size"]["machine"]["date"]


def test_a_quick_run_writes_nothing(
    ran: list[tuple[str, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--outputs", str(tmp_path / "outputs")]
    pictures.main(["metric_validity", "--quick", *where])
    assert set(pictures.SMALL) <= set(ran[0])
    assert not (tmp_path / "pictures.json").exists()
    assert not [*(tmp_path / "docs").iterdir()]
    assert "3 cells, 8 s" in capsys.readouterr().out


def test_a_report_without_the_figure_is_named(ran: list[tuple[str, ...]], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="the report on sparsity_frontier has no such"):
        pictures.make("sparsity_frontier", tmp_path, [])
    assert len(ran) == 2
