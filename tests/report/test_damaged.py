"""One file that is damaged from outside costs one line and one cell; all else is there."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from sweep.report import entries
from sweep.report.__main__ import main
from sweep.report.write import write_report
from sweep.status import standings
from sweep.track.found import Found
from tests.commands import forked

Write = Callable[..., Path]

CUT = "cut"
DAMAGES = {
    CUT: lambda whole: whole[: len(whole) // 2],
    "binary": lambda whole: bytes(range(256)),
    "empty": lambda whole: b"",
    "a list": lambda whole: b"[1]\n",
    "nothing in it": lambda whole: b"{}\n",
}
FILES = ("cell.yaml", "compression.json", "metrics/tasks.json")


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_one_damaged_file_costs_one_line_and_one_cell(
    name: str,
    damage: str,
    write_cell: Write,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    outputs = tmp_path / "outputs"
    write_cell("dense", quality=1.0)
    path = write_cell("wanda")
    write_cell("sparsegpt")
    write_report(outputs / "reports/trial", entries.below(outputs), formats=("csv",))
    whole = (path / name).read_bytes()
    (path / name).write_bytes(DAMAGES[damage](whole))
    for folder in (outputs, outputs / "reports/trial", outputs / "reports/all"):
        with caplog.at_level(logging.WARNING):
            assert main([str(folder), "--csv"]) == 0
    assert [r.getMessage().partition(" (")[0] for r in caplog.records] == [
        f"{path / name}: is damaged"
    ]
    assert {e.about["method"]: e.status for e in entries.below(outputs)} == {
        "dense": "done",
        "wanda": "missing",
        "sparsegpt": "done",
    }
    states = {standing.name: standing.state for standing in standings(outputs)}
    assert len(states) == 3
    assert states[path.name] == ("failed" if name == "cell.yaml" else "missing")
    assert sum(state == "done" for state in states.values()) == 2
    shown = {one.name for one, _ in Found.below(outputs).shown()}
    assert {"trial"} | {other.path.name[:-9] for _, other in Found.below(outputs).cells} == shown


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_list_of_a_sweep_costs_one_line(
    damage: str,
    write_cell: Write,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    outputs = tmp_path / "outputs"
    write_cell("dense", quality=1.0)
    write_cell("wanda")
    found = entries.below(outputs)
    write_report(outputs / "reports/trial", found, formats=("csv",))
    file = outputs / "reports/trial/sweep.json"
    whole = file.read_bytes()
    file.write_bytes(DAMAGES[damage](whole))
    assert main([str(outputs), "--csv"]) == 0
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{file}: is damaged (")
    assert len(Found.below(outputs).cells) == len(standings(outputs)) == 2
    assert main([str(file.parent)]) == 1  # of this one nothing else can be said
    assert f"report={file}: is damaged" in capsys.readouterr().err
    write_report(file.parent, found, formats=("csv",))  # as the sweep's command does
    assert file.read_bytes() == whole


def test_the_same_command_gets_over_what_is_damaged(tmp_path: Path) -> None:
    words = ["method=wanda,magnitude", "calib.n_samples=4", "metric=[perplexity]", "name=trial"]
    words += ["metric.perplexity.n_samples=2", "report=table", "tracker=none", "-m"]
    assert forked(*words, cwd=tmp_path).returncode == 0
    cells = sorted((tmp_path / "outputs/cells").iterdir())
    harm = dict(
        zip(cells, ("metrics/perplexity.json", "cell.yaml", "compression.json"), strict=True)
    )
    before = {file: file.read_bytes() for file in (cell / name for cell, name in harm.items())}
    for number, (file, whole) in enumerate(before.items()):
        file.write_bytes(whole[:200] if number % 2 else b"{}\n")
    (tmp_path / "outputs/reports/trial/sweep.json").write_bytes(b"\xff")
    done = forked("outputs", module="sweep.status", cwd=tmp_path)
    assert "Traceback" not in done.stderr
    assert done.stdout.splitlines()[-1].startswith("1 failed, 2 missing")
    done = forked(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3 to run, 0 done before" in done.stderr
    for module in ("sweep.status", "sweep.report"):
        done = forked("outputs", module=module, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert "3 done" in done.stdout or module == "sweep.report"
    whole = (tmp_path / "outputs/cells").glob("*/cell.yaml")
    assert len([file for file in whole if b"keep: none" in file.read_bytes()]) == 3
    assert "0 to run, 3 done before" in forked(*words, cwd=tmp_path).stderr
