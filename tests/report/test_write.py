"""The report on disk and its command: files, pages, refusals."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, stdev
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt

from sweep.attempt import take
from sweep.report import entries, latex
from sweep.report.__main__ import main
from sweep.report.write import write_report
from tests.commands import forked
from tests.needed import program
from tests.report.conftest import HOSTILE, Page

Write = Callable[..., Path]
ALL = ("html", "csv", "md", "tex")


def grid(write_cell: Write, outputs: Path, sparsities: int = 3) -> None:
    """Dense, two methods with two calibration sets, and magnitude."""
    write_cell("dense", quality=1.0, outputs=outputs)
    for i in range(sparsities):
        label = f"{40 + 40 * i / sparsities:g}%"
        write_cell("magnitude", label, None, None, quality=0.5 - i / 100, outputs=outputs)
        for method in ("wanda", "sparsegpt"):
            for calib in ("c4", "alpaca"):
                quality = 0.9 - i / (2 * sparsities) - (calib == "c4") / 10
                write_cell(method, label, calib, quality=quality, outputs=outputs)


def test_the_page_links_to_every_file_behind_its_numbers(write_cell: Write, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    grid(write_cell, outputs)
    assert main([str(outputs)]) == 0
    folder = outputs / "reports" / "all"
    page = Page(folder / "report.html")
    links = [link for link in page.attributes("a", "href") if not link.startswith("#")]
    html = (folder / "report.html").read_text(encoding="utf-8")
    for label in ("Largest sparsity within tolerance", "Effects of the calibration set"):
        table = html[html.index(f'aria-label="{label}"') :]
        table = table[: table.index("</table>")]
        assert table.count('<a href="../../cells/tiny-') > 5, label  # each row's cells
    assert len(links) > 50
    for link in links:
        assert (folder / unquote(link)).exists(), link
    assert any(link.endswith("/generations/tasks-alpaca.jsonl") for link in links)
    assert "layers.csv" in links
    assert sum(link.endswith("/compression.json") for link in links) == 15
    correlations = html[html.index('aria-label="Rank correlations"') :]
    (over,) = set(re.findall(r'<td><a href="#(cells-\d+)">15</a>', correlations))  # not the table
    cells = correlations[correlations.index(f'id="{over}"') :]
    assert cells[: cells.index("</p>")].count('<a href="../../cells/tiny-') == 15
    answer = re.search(
        r'<h3><a href="(.*?)">.*?, line (\d+).*?<pre class="prompt">(.*?)</pre>', html, re.DOTALL
    )
    assert answer is not None
    row = (folder / unquote(answer[1])).read_text().splitlines()[int(answer[2]) - 1]
    assert json.loads(row)["prompt"] == answer[3]
    assert all(src.startswith("data:image/svg+xml") for src in page.attributes("img", "src"))
    assert all(len(alt) > 20 for alt in page.attributes("img", "alt"))
    assert len(page.attributes("img", "alt")) == len(page.attributes("img", "src"))
    for name in ("tolerance", "correlations", "calibration", "layers"):
        assert len((folder / f"{name}.csv").read_text().splitlines()) > 1
    for name in ("curves", "truth", "against", "calibration", "layers_output_error"):
        assert (folder / "figures" / f"{name}.svg").read_text().startswith("<?xml")
        assert (folder / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_results_give_the_same_bytes_and_are_not_drawn_twice(
    write_cell: Write, tmp_path: Path
) -> None:
    outputs = tmp_path / "outputs"
    grid(write_cell, outputs, sparsities=2)
    found = entries.below(outputs)
    folder = outputs / "reports" / "all"
    write_report(folder, found, formats=ALL)
    first = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    times = {file: file.stat().st_mtime_ns for file in first}
    write_report(folder, found, formats=ALL)
    assert {file: file.stat().st_mtime_ns for file in first} == times
    shutil.rmtree(folder)
    write_report(folder, entries.below(outputs), formats=ALL)
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == first


@pytest.mark.parametrize("name", ["report.html", "figures/curves.png", "layers.csv"])
def test_what_is_gone_is_made_again(name: str, write_cell: Write, tmp_path: Path) -> None:
    write_cell("dense", quality=1.0)
    write_cell("wanda")
    folder = tmp_path / "outputs/reports/all"
    found = entries.below(tmp_path / "outputs")
    write_report(folder, found, formats=("html",))
    first = (folder / name).read_bytes()
    (folder / name).unlink()
    write_report(folder, found, formats=("html",))
    assert (folder / name).read_bytes() == first


def test_no_page_of_older_results_stays_beside_newer_tables(
    write_cell: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = tmp_path / "outputs"
    write_cell("dense", quality=1.0)
    write_cell("wanda")
    assert main([str(outputs), "--html", "--md"]) == 0
    report = outputs / "reports/all"
    page = (report / "report.html").read_bytes()
    assert main([str(outputs), "--latex"]) == 0  # of the same results
    assert "removed" not in capsys.readouterr().out
    assert (report / "report.html").read_bytes() == page
    write_cell("sparsegpt")
    assert main([str(outputs), "--csv"]) == 0
    assert {file.name for file in report.iterdir()} == {"results.csv", "sweep.json"}
    assert "older results or other options: report.html, results.md, " in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--baseline", "wanda"], ["--columns", "em"]])
def test_no_table_with_another_baseline_or_other_columns_stays_beside_a_new_one(
    words: list[str], write_cell: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = tmp_path / "outputs"
    for method in ("dense", "wanda", "sparsegpt"):
        write_cell(method)
    assert main([str(outputs), "--html", "--md"]) == 0
    capsys.readouterr()
    assert main([str(outputs), "--latex", "--csv", *words]) == 0
    left = {file.name for file in (outputs / "reports/all").iterdir()}
    assert left == {"results.csv", "results.tex", "sweep.json"}
    assert "report.html, results.md, tolerance.csv" in capsys.readouterr().out


def test_a_page_and_its_figures_stay_where_only_means_are_asked_for(
    write_cell: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = tmp_path / "outputs"
    report = outputs / "reports/all"
    write_cell("dense", quality=1.0)
    for seed in (0, 1):
        write_cell(seed=seed, quality=0.5 + seed / 10)
    assert main([str(outputs)]) == 0
    capsys.readouterr()
    tables = {"results.csv", "results.md", "results.tex", "sweep.json"}

    def page() -> dict[str, bytes]:
        files = [file for file in report.rglob("*") if file.is_file() and file.name not in tables]
        return {str(file.relative_to(report)): file.read_bytes() for file in files}

    before = page()
    assert {"report.html", "tolerance.csv", "figures/curves.png"} <= before.keys()
    single = (report / "results.csv").read_bytes()
    for mean in (["--mean"], []):
        for _ in range(2):
            assert main([str(outputs), "--latex", *mean]) == 0
            assert page() == before
            assert not (report / "results.md").exists()
            # the page refers to it; no two tables contradict each other
            assert ((report / "results.csv").read_bytes() == single) == (not mean)
        said = capsys.readouterr().out
        assert said.count("removed, of older results or other options: results.md") == bool(mean)
    write_cell("sparsegpt")
    assert main([str(outputs), "--latex", "--mean"]) == 0
    assert page() == {}


def test_names_and_messages_mean_nothing_in_markdown(write_cell: Write, tmp_path: Path) -> None:
    names = [*HOSTILE, "*x* _y_ ~~z~~ `c` &lt; [link](http://x) <http://x> a_model_name"]
    failed = "ValueError: <img src=x> ![link](http://x) **no**"
    for name in names:
        write_cell("dense", model=name, quality=1.0, more=["*f*"])
    write_cell("wanda", failed=failed, model="tiny")
    outputs = tmp_path / "outputs"
    assert main([str(outputs), "--md"]) == 0
    written = (outputs / "reports/all/results.md").read_text()
    assert "a_model_name |" in written  # what means nothing anyway stays as it is
    found = [
        token
        for block in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(written)
        for token in (block, *(block.children or ()))
    ]
    kinds = {token.type for token in found}
    assert {"table_open", "list_item_open", "heading_open"} <= kinds
    assert not kinds & {"html_block", "html_inline", "link_open", "image", "code_inline"}
    assert not kinds & {"em_open", "s_open", "strong_open"}  # one alone is the best of nothing
    assert sum(token.type == "tr_open" for token in found) == 1 + len(names) + 1
    lines = ["".join(t.content for t in token.children or ()) for token in found]
    for name in names:
        shown = "".join(letter if letter.isprintable() else " " for letter in name)
        assert " ".join(shown.split()) in lines
    assert any(failed in line for line in lines)
    assert "*f*" in lines


def test_what_has_become_of_the_layers_makes_the_report_anew(
    write_cell: Write, tmp_path: Path
) -> None:
    cell = write_cell()
    report = tmp_path / "outputs/reports/all"
    assert main([str(tmp_path / "outputs"), "--csv"]) == 0
    assert csv_rows(report / "results.csv")[0]["achieved_sparsity"] == "0.5"
    file = cell / "compression.json"
    file.write_text(file.read_text().replace('"sparsity": 0.5', '"sparsity": 0.25', 1))
    assert main([str(tmp_path / "outputs"), "--csv"]) == 0
    assert csv_rows(report / "results.csv")[0]["achieved_sparsity"] == "0.25"


def test_notes_are_of_the_columns_that_are_shown(
    write_cell: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a metric on several corpora too: those that a column is of."""
    outputs = tmp_path / "outputs"
    for method in ("dense", "wanda"):
        file = write_cell(method, more=["em_alpaca", "em_unnatural"]) / "metrics/tasks.json"
        said = json.loads(file.read_text())
        (data,) = said["data"]
        said["data"] = [{**data, "corpus": name} for name in ("alpaca", "unnatural")]
        said["values"]["em_unnatural"]["mean"]["corpus"] = "unnatural"
        file.write_text(json.dumps(said))
    on = {"p": "perplexity: 30 questions of c4", "a": "tasks: 30 questions of alpaca"}
    on["u"] = "tasks: 30 questions of unnatural"
    shown = {"perplexity": "p", "em_alpaca,perplexity": "pa", "em_unnatural": "u", "": "pau"}
    for columns, those in shown.items():
        words = [] if not columns else ["--columns", columns]
        assert main([str(outputs), "--latex", "--md", *words]) == 0
        report = outputs / "reports/all"
        # in LaTeX all columns are several tables, each with its own notes
        kinds = ("md", "tex") if columns else ("md",)
        texts = [(report / f"results.{kind}").read_text() for kind in kinds]
        for text in (capsys.readouterr().out, *texts):
            assert [key for key, said in on.items() if said in text] == list(those), columns
            for name, key in (("alpaca", "a"), ("unnatural", "u"), ("c4", "p")):
                (line,) = {x for x in text.splitlines() if "made by a micro-world" in x}
                assert (f"{name}," in line or f"{name} " in line) == (key in those)


def test_of_a_difference_without_an_interval_every_table_says_so(
    write_cell: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for method in ("dense", "wanda"):
        file = write_cell(method) / "metrics/tasks.json"
        said = json.loads(file.read_text())
        del said["values"]["em"]["mean"]
        file.write_text(json.dumps(said))
    report = tmp_path / "outputs/reports/all"
    given = [str(tmp_path / "outputs"), "--latex", "--md", "--html", "--columns"]
    for columns, count in (("em,f1", 1), ("f1", 0)):
        assert main([*given, columns]) == 0
        texts = [(report / f"results.{kind}").read_text() for kind in ("md", "tex")]
        texts += [capsys.readouterr().out, Page(report / "report.html").text]
        for text in texts:
            assert len(re.findall(r"[\d.]+\?", text)) == count, text
            assert text.count("?: the difference has no interval") == count


@pytest.mark.parametrize(
    ("inside", "word"),
    [("reports/trial", "."), ("reports", "trial"), ("cells", "../reports/trial")],
)
def test_a_report_is_made_again_from_wherever_it_is_named(
    inside: str, word: str, write_cell: Write, tmp_path: Path
) -> None:
    grid(write_cell, tmp_path / "outputs", sparsities=1)
    report = tmp_path / "outputs/reports/trial"
    write_report(report, entries.below(tmp_path / "outputs"), formats=ALL)
    first = {file: file.read_bytes() for file in report.rglob("*") if file.is_file()}
    done = forked(word, module="sweep.report", cwd=tmp_path / "outputs" / inside)
    assert done.returncode == 0, done.stderr
    assert "missing" not in done.stdout
    assert "removed" not in done.stdout
    now = {file: file.read_bytes() for file in report.rglob("*") if file.is_file()}
    assert {**now, report / "sweep.json": b""} == {**first, report / "sweep.json": b""}


def test_a_report_by_another_name_is_that_of_its_cells(write_cell: Write, tmp_path: Path) -> None:
    grid(write_cell, tmp_path / "outputs", sparsities=1)
    report = tmp_path / "outputs/reports/trial"
    write_report(report, entries.below(tmp_path / "outputs"), formats=ALL)
    (tmp_path / "link").symlink_to(report)
    assert main([str(tmp_path / "link"), "--csv"]) == 0
    assert {row["status"] for row in csv_rows(report / "results.csv")} == {"done"}


def test_a_report_whose_cells_are_elsewhere_is_refused_and_stays(
    write_cell: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid(write_cell, tmp_path / "outputs", sparsities=1)
    copy = tmp_path / "somewhere/else/copy"
    write_report(copy, entries.below(tmp_path / "outputs"), formats=ALL)
    first = {file: file.read_bytes() for file in copy.rglob("*") if file.is_file()}
    assert main([str(copy)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"report={copy}: is of cells that are not in {tmp_path}/somewhere/cells" in line
    assert {file: file.read_bytes() for file in copy.rglob("*") if file.is_file()} == first


def test_the_report_of_everything_is_of_the_cells_of_now(write_cell: Write, tmp_path: Path) -> None:
    write_cell("dense", quality=1.0)
    report = tmp_path / "outputs/reports/all"
    assert main([str(tmp_path / "outputs"), "--csv"]) == 0
    write_cell("wanda")
    assert main([str(report), "--csv"]) == 0
    assert len(csv_rows(report / "results.csv")) == 2


def test_an_interrupted_report_says_so_in_one_line(write_cell: Write, tmp_path: Path) -> None:
    write_cell("dense", quality=1.0)
    code = (
        "import runpy, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job ignores it\n"
        "from sweep.report import write\n"
        "write.write_report = lambda *_, **__: signal.raise_signal(signal.SIGINT)\n"
        f"sys.argv[1:] = [{str(tmp_path / 'outputs')!r}]\n"
        "runpy.run_module('sweep.report', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == ("sweep.report: interrupted; the same command again goes on from here\n")


def test_a_file_where_reports_should_be_is_named_in_one_line(
    write_cell: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cell("dense", quality=1.0)
    (tmp_path / "outputs/reports").write_text("")
    assert main([str(tmp_path / "outputs")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "outputs/reports/all/sweep.json: cannot be written (Not a directory)" in line


def test_what_no_terminal_can_print_is_printed_all_the_same(
    write_cell: Write, tmp_path: Path
) -> None:
    outputs = tmp_path / "x\udcff"
    write_cell("dense", quality=1.0, outputs=outputs)
    for module in ("sweep.report", "sweep.status"):
        done = subprocess.run(
            [sys.executable, "-m", module, outputs], capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONIOENCODING": "ascii:strict"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        assert module == "sweep.status" or "x\\udcff/reports/all/report.html" in done.stdout


def test_what_models_and_names_say_is_shown_as_text(write_cell: Write, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    for model in HOSTILE:
        write_cell("dense", model=model, outputs=outputs, answers=HOSTILE, quality=1.0)
        for label in ("40%", "50%"):
            write_cell("wanda", label, HOSTILE[0], model=model, outputs=outputs, answers=HOSTILE)
    write_cell("sparsegpt", failed=HOSTILE[0], outputs=outputs, model=HOSTILE[1])
    assert main([str(outputs)]) == 0
    page = Page(outputs / "reports/all/report.html")
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert [tag for tag, _ in page.elements].count("style") == 1
    assert [tag for tag, _ in page.elements].count("h1") == 1
    assert all(src.startswith("data:") for src in page.attributes("img", "src"))
    assert not [has for _, has in page.elements if any(name.startswith("on") for name in has)]
    for said in HOSTILE:
        assert said in page.text
    markdown = (outputs / "reports/all/results.md").read_text().splitlines()
    width = markdown[2].replace("\\|", "").count("|")
    assert all(line.replace("\\|", "").count("|") == width for line in markdown if line[:1] == "|")


def test_a_page_of_a_sweep_without_any_result_says_so_in_every_section(
    write_cell: Write, tmp_path: Path
) -> None:
    for method in ("dense", "wanda"):
        write_cell(method, failed="ValueError: no")
    folder = tmp_path / "outputs/reports/trial"
    write_report(folder, entries.below(tmp_path / "outputs"), formats=ALL)
    page = Page(folder / "report.html")
    assert "2 cells: 0 done, 2 failed, 0 missing" in page.text
    for said in (
        "No compressed cell is finished",
        "Nothing can be said",
        "No two finished cells differ in their calibration alone",
        "No compressed cell has a record of its layers",
        "No metric of this sweep has kept answers",
    ):
        assert said in page.text
    assert not page.attributes("img", "src")


def test_a_folder_without_cells_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said == (
        f"sweep.report: report={tmp_path}: holds no cells; give a folder of outputs, or of a "
        "sweep's report in it\n"
    )


@pytest.mark.parametrize("inside", ["cells", "reports", "cells/tiny"])
def test_a_folder_inside_of_outputs_is_told_which_one_was_meant(
    inside: str, write_cell: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cell()
    outputs = tmp_path / "outputs"
    (outputs / inside).mkdir(exist_ok=True)
    assert main([str(outputs / inside)]) == 1
    assert f"holds no cells; give {outputs}, the folder of outputs, or" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--baseline", "gptq"],
            "baseline=gptq: is no method of these cells; they have dense, wan",
        ),
        (["--columns", "em,bleu"], "columns=bleu: is no value of these cells; they have "),
        (
            ["--columns", "perplexty"],
            "columns=perplexty: is no value of these cells; did you mean perplexity? they have ",
        ),
    ],
)
def test_what_is_not_there_is_refused_by_name(
    words: list[str],
    said: str,
    write_cell: Write,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_cell("dense", quality=1.0)
    write_cell()
    assert main([str(tmp_path / "outputs"), *words]) == 1
    assert capsys.readouterr().err.startswith(f"sweep.report: {said}")


def test_of_many_values_those_spelt_like_it_are_told(
    write_cell: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cell(more=[f"a_score_of_some_length_{i}" for i in range(40)])
    assert main([str(tmp_path / "outputs"), "--columns", "perplexty"]) == 1
    said = capsys.readouterr().err
    assert "did you mean perplexity? they have perplexity, " in said
    assert "more\n" in said
    assert len(said) < 300


def test_failed_and_missing_cells_are_listed(write_cell: Write, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    write_cell("dense", quality=1.0)
    write_cell("wanda", failed="ValueError: a bad thing")
    folder = outputs / "reports" / "trial"
    found = entries.below(outputs)
    write_report(folder, found, formats=ALL)
    page = Page(folder / "report.html")
    assert "1 done, 1 failed, 0 missing" in page.text
    assert "failed: ValueError: a bad thing" in page.text
    shutil.rmtree(outputs / "cells" / found[1].name)  # as a sweep's list still names it
    for given, made in ((folder, folder), (outputs, outputs / "reports" / "all")):
        assert main([str(given)]) == 0
        assert "1 done, 0 failed, 1 missing" in Page(made / "report.html").text


def test_a_cell_that_somebody_works_on_is_running_and_not_missing(
    write_cell: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cell("dense", quality=1.0)
    path = write_cell("wanda", failed="ValueError: of the attempt before")
    holding = take(path)
    assert holding is not None
    assert main([str(tmp_path / "outputs"), "--html", "--csv"]) == 0
    assert "running" in capsys.readouterr().out
    report = tmp_path / "outputs/reports/all"
    assert "1 done, 1 running, 0 failed, 0 missing" in Page(report / "report.html").text
    assert [row["status"] for row in csv_rows(report / "results.csv")] == ["done", "running"]
    with holding:
        holding.end("failed")
    (wanda,) = (one for one in entries.below(tmp_path / "outputs") if one.about["compresses"])
    assert wanda.status == "failed: ValueError: of the attempt before"


def test_differences_to_another_baseline(
    write_cell: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = tmp_path / "outputs"
    grid(write_cell, outputs, sparsities=1)
    assert main([str(outputs), "--baseline", "magnitude", "--csv", "--columns", "em"]) == 0
    assert "perplexity" not in capsys.readouterr().out.splitlines()[0]
    lines = (outputs / "reports/all/results.csv").read_text().splitlines()
    header = lines[0].split(",")
    place = header.index("em_vs_magnitude")
    method, calib = header.index("method"), header.index("calib")
    rows = {(row := line.split(","))[method] + row[calib]: row for line in lines[1:]}
    assert float(rows["wandaalpaca"][place]) == pytest.approx(
        float(rows["wandaalpaca"][header.index("em")])
        - float(rows["magnitude"][header.index("em")])
    )
    assert rows["dense"][place] == ""  # there is no dense cell of 40 % magnitude


def test_seeds_are_one_row_in_every_format_when_asked(
    write_cell: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cell("dense", quality=0.9)
    for seed in (0, 1):
        write_cell(seed=seed, quality=0.5 + seed / 10)
    write_cell(calib="alpaca", seed=0, quality=0.3)
    outputs = tmp_path / "outputs"
    assert main([str(outputs), "--csv"]) == 0
    single = csv_rows(outputs / "reports/all/results.csv")
    formats = ["--html", "--csv", "--md", "--latex"]
    assert main([str(outputs), "--mean", *formats]) == 0
    out = capsys.readouterr().out
    report = outputs / "reports/all"
    texts = [out[out.rindex(" method") :], (report / "results.md").read_text()]
    for text in texts:
        (line,) = [line for line in text.splitlines() if "±" in line]  # one seed is one seed
        assert line.count("±") == 3, line
        assert "c4" in line
    lines = (report / "results.tex").read_text().splitlines()
    found = [line.count("$\\pm$ ") for line in lines if "c4" in line and "wanda" in line]
    assert sum(found) == 3
    assert "*" in texts[0]
    assert re.search(r"\*\*\d\.\d+\*\* ± \d\.\d+ \([-+]\d\.\d+ \[[-+]", texts[1])
    assert "±" in Page(report / "report.html").text
    c4, other, dense = sorted(csv_rows(report / "results.csv"), key=lambda row: row["seeds"])[::-1]
    of_c4 = [row for row in single if row["calib"] == "c4"]
    for name in ("em", "em_vs_dense", "perplexity"):
        assert float(c4[name]) == pytest.approx(fmean(float(row[name]) for row in of_c4))
    assert float(c4["em_sd"]) == pytest.approx(stdev(float(row["em"]) for row in of_c4))
    ends = [float(c4[f"em_vs_dense_{end}"]) for end in ("low", "high")]
    assert ends[0] < float(c4["em_vs_dense"]) < ends[1]
    # the mean of two seeds on the same examples is known as well as either, or better
    assert ends[1] - ends[0] <= max(
        float(row["em_vs_dense_high"]) - float(row["em_vs_dense_low"]) for row in of_c4
    )
    assert (c4["seeds"], other["em_sd"], dense["em_vs_dense_low"]) == ("2", "", "0.0")
    assert [row["cell"].count(" ") for row in (c4, other)] == [1, 0]


def csv_rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_the_terminal_has_the_intervals_of_differences(
    write_cell: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cell("dense", quality=0.9)
    write_cell("wanda", quality=0.5)
    assert main([str(tmp_path / "outputs"), "--columns", "em", "--csv"]) == 0
    (row,) = (
        r for r in csv_rows(tmp_path / "outputs/reports/all/results.csv") if r["method"] == "wanda"
    )
    said = "[{:+.3f}, {:+.3f}]".format(
        *(float(row[f"em_vs_dense_{end}"]) for end in ("low", "high"))
    )
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "rows"),
    [([], 60), (["--mean"], 60), (["--columns", "perplexity,em"], 3), (["--mean"], 3)],
)
def test_the_latex_goes_into_a_paper_and_is_no_wider_than_its_text(
    words: list[str],
    rows: int,
    write_cell: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pdflatex = program("pdflatex", "texlive-latex-recommended")
    monkeypatch.setattr(latex, "ROWS", rows)
    outputs = tmp_path / "outputs"
    more = [f"a_score_{i}" for i in range(6)]
    for name in ("tiny", "[x]", "*star", "a model of a long name", HOSTILE[3]):
        write_cell("dense", model=name, quality=1.0, more=more)
        for method in ("wanda", "sparsegpt"):
            for seed in (0, 1):
                quality = 0.8 + seed / 1000 - (method == "wanda") / 3
                settings = {"path": "/a/folder/far/down/of-a-name-that-goes-on"}
                write_cell(method, model=name, seed=seed, quality=quality, more=more, **settings)
                write_cell(method, "2:4", model=name, seed=seed, quality=quality, more=more)
    write_cell("wanda", failed="ValueError: no")
    assert main([str(outputs), "--latex", *words]) == 0
    table = (outputs / "reports/all/results.tex").read_text()
    assert ("longtable}{" in table) == (rows == 3)
    assert table.count("\\toprule") == table.count("\\bottomrule") * (2 if rows == 3 else 1)
    parts = table.count("\\caption{")
    assert parts == 1 if words[:1] == ["--columns"] else parts > 2
    assert table.count("are stand-ins") + table.count("is a stand-in") == parts
    assert table.count("not finished: 1 of 46 cells") == parts
    bold = re.findall(r"\\textbf\{(.*?)\}", table)
    assert bold
    assert all(re.fullmatch(r"[\d.]+", said) for said in bold)  # the value alone
    assert ("$\\pm$" in table) == ("--mean" in words)
    named = [line for line in table.splitlines() if line.removeprefix("{}")[:1] in ("[", "*")]
    assert {line[:3] for line in named} == {"{}[", "{}*"}
    assert table.count("The intervals are in results.csv") == parts
    typeset_paper(pdflatex, table, tmp_path, runs=1 + (rows == 3))


def typeset_paper(pdflatex: str, table: str, folder: Path, *, runs: int) -> None:
    """A table in a paper, into which it fits; a long one knows its columns the second time."""
    paper = (
        "\\documentclass{article}\\usepackage{booktabs,longtable}\\begin{document}%s\\end{document}"
    )
    (folder / "paper.tex").write_text(paper % table)
    for _ in range(runs):
        done = subprocess.run(
            [pdflatex, "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-1500:]
    assert "Overfull \\hbox" not in done.stdout, done.stdout
    assert "Overfull \\vbox" not in done.stdout
    assert "Missing character" not in (folder / "paper.log").read_text()
    assert (folder / "paper.pdf").stat().st_size > 1000


def test_differences_in_latex_have_their_intervals_where_there_is_room(
    write_cell: Write, tmp_path: Path
) -> None:
    write_cell("dense", quality=0.9)
    for method in ("wanda", "sparsegpt"):
        write_cell(method, quality=0.5, answers=["a"])
    outputs = tmp_path / "outputs"
    assert main([str(outputs), "--latex", "--csv", "--columns", "em"]) == 0
    table = (outputs / "reports/all/results.tex").read_text()
    (row, _) = (r for r in csv_rows(outputs / "reports/all/results.csv") if r["method"] != "dense")
    change, low, high = (-float(row[f"em_vs_dense{end}"]) for end in ("", "_low", "_high"))
    assert f"($-${change:.3f} [$-${low:.3f}, $-${high:.3f}])" in table
    assert "over the same examples, with its 95 \\% interval." in table
    assert "results.csv" not in table
    typeset_paper(program("pdflatex", "texlive-latex-recommended"), table, tmp_path, runs=1)


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("1.3e−5", r"$1.3\times10^{-5}$"),
        ("(−1.3e−12≈)", r"($-$$1.3\times10^{-12}$$\sim$)"),
        ("1.3e−4 ± 4.1e−6", r"$1.3\times10^{-4}$ $\pm$ $4.1\times10^{-6}$"),
        ("2.951", "2.951"),
    ],
)
def test_a_small_number_is_written_in_latex_as_people_write_it(said: str, written: str) -> None:
    assert latex._numeric(said) == written


def test_the_command_loads_no_model_library(write_cell: Write, tmp_path: Path) -> None:
    write_cell("dense", quality=1.0)
    code = (
        "import sys\nfrom sweep.report.__main__ import main\n"
        f"assert main([{str(tmp_path / 'outputs')!r}, '--csv']) == 0\n"
        "assert not {'torch', 'transformers'} & set(sys.modules), 'heavy'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
