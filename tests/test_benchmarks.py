"""The README's numbers on speed and memory are those that the benchmarks have written."""

from __future__ import annotations

import re
import sys
from types import ModuleType
from typing import Any

import pytest
import torch

from benchmarks import compress, gpu, memory, page
from benchmarks.contest import Contest
from benchmarks.device import NO_GPU
from sweep.cell import MEASURES, NUMERICS


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
    assert "| a walk | the plain form | 3 | 2 s | 2 s | 1.00 | 4 | the same |" in text
    assert "| a walk | the plain form |  |  |  | not measured |  | the same; no GPU |" in text


def test_what_is_on_the_page_was_measured_with_the_present_arithmetic() -> None:
    """Whoever changes it measures again (`NUMERICS`, `MEASURES`)."""
    for name, record in page.written().items():
        assert record["machine"]["numerics"] == NUMERICS, name
        assert record["machine"]["measures"] == MEASURES, name


def rows(monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[list[Contest], list[str]]:
    """What `benchmarks.gpu` shows, and the names of the files that it writes."""
    shown: list[Contest] = []
    files: list[str] = []
    monkeypatch.setattr(sys, "argv", ["benchmarks.gpu", *words])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(gpu, "show", lambda found, where: shown.extend(found))
    monkeypatch.setattr(gpu, "write", lambda name, found, where: files.append(name))
    gpu.main()
    return shown, files


def test_without_a_gpu_every_row_says_that_it_was_not_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown, files = rows(monkeypatch)
    assert files == ["gpu"]
    assert all((one.ratio, one.ours, one.note) == (None, [], NO_GPU) for one in shown)
    for work in ("SparseGPT", "Wanda", "Triton's kernel, 128", ", 2:4", "Hessian", "streamed"):
        assert any(work in one.work for one in shown), work


def test_what_a_gpu_is_measured_by_runs_on_a_cpu_at_a_tiny_shape(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gpu, "TINY", gpu.Shape(3, 32, 64, 2, 100, sequences=2, seqlen=16))
    shown, files = rows(monkeypatch, "--quick", "--device", "cpu")
    assert not files
    assert len(shown) == len(gpu.contests(gpu.FULL, 4, None, 1))
    for one in shown:
        if one.note == "numba is not installed":
            continue
        assert one.ratio is not None, one.work
        assert NO_GPU not in one.note
        if one.work.endswith("a block"):
            found = re.match(r"masks ([\d.]+) %", one.agreement)
            assert found is not None
            assert float(found[1]) > 99
        if "kernel" in one.work:
            assert one.agreement.startswith("0 of 2048 masks differ")
    extrapolated = [one.work for one in shown if "extrapolated" in one.note]
    assert [work.rpartition(": ")[2] for work in extrapolated] == ["in all, 3 blocks"] * 2
    assert torch.get_float32_matmul_precision() == "highest"


def test_a_gpu_that_is_not_there_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="--device cuda: no GPU was at hand"):
        rows(monkeypatch, "--quick", "--device", "cuda")
    with pytest.raises(SystemExit, match="--device cpu: only with --quick"):
        rows(monkeypatch, "--device", "cpu")


@pytest.mark.parametrize(
    ("benchmark", "words", "said"),
    [
        (compress, "--peers /nowhere", "--peers /nowhere: must be a Python that has llmcompressor"),
        (compress, f"--peers {sys.executable}", "must be a Python that has llmcompressor"),
        (compress, "--columns 0", "--columns 0: must be a whole number, 1 or more"),
        (memory, "--methods magnitude", "--methods magnitude: must be one of wanda, sparsegpt"),
        (memory, "--folder /nowhere", "--folder /nowhere: must be a folder that is there"),
    ],
)
def test_what_a_benchmark_cannot_be_told_is_one_line_before_it_begins(
    benchmark: ModuleType, words: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark", "--quick", *words.split()])
    with pytest.raises(SystemExit) as caught:
        benchmark.main()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("words", [[memory, "--quick"], [gpu, "--quick", "--device", "cpu"]])
def test_a_benchmark_that_streams_says_what_it_needs(
    words: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweep.model.placement.find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["benchmark", *words[1:]])
    with pytest.raises(SystemExit, match="load=stream: needs accelerate; pip install"):
        words[0].main()


@pytest.mark.parametrize("runs", [1, 2])  # who has the last turn changes
def test_what_both_sides_of_the_solver_compute_is_the_same(runs: int) -> None:
    rows = compress.parts(256, 64, runs)
    told = {row.work: row.agreement for row in rows if row.agreement}
    assert len(told) == 4
    for work, agreement in told.items():
        kind, figure = agreement.split(",")[0].split()[:2]
        if kind == "U":
            assert float(figure) < 1e-4, work
        else:
            assert kind == "masks"
            assert float(figure) > 99.5, work
