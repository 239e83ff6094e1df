"""W&B's own client against a server on the loopback address: everything that reaches it, once."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sweep import dashboard
from sweep.grid import sweep
from sweep.track import WandB, live, server
from sweep.track import __main__ as track
from sweep.track.journal import Journal
from sweep.track.shown import RESULTS
from tests.commands import forked
from tests.loopback_wandb import ENTITY, KEY, LoopbackWandb, Run
from tests.test_track import config_of, history_of, offline_runs, records

Frozen = Callable[..., dict[str, Any]]

SMALL = (
    "calib.n_samples=4",
    "metric=[perplexity,tasks]",
    "metric.perplexity.n_samples=2",
    "metric.tasks.n_samples=3",
    "metric.tasks.max_new_tokens=4",
    "tracker=wandb",
    "name=trial",
)


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """W&B's client as in a new process, in a home without a login; the home."""
    import wandb
    from wandb.sdk.lib import wbauth

    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    wbauth.unauthenticate_session()
    wandb.teardown()
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        del os.environ[name]  # for good: it may name a service that has ended
    yield home
    wbauth.unauthenticate_session()
    wandb.teardown()
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)  # what the project has set for the client


@pytest.fixture
def there(client: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackWandb]:
    """A server, and a login to it."""
    for kind in ("FILE_STREAM", "FILE_TRANSFER", "GRAPHQL"):  # not the seconds of the client's own
        monkeypatch.setenv(f"WANDB_X_{kind}_RETRY_WAIT_MIN_SECONDS", "0.1")
    with LoopbackWandb().listening() as listening:
        monkeypatch.setenv("WANDB_BASE_URL", listening.address)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        yield listening
        listening.away = False
        assert listening.unknown == []


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Cells wait for the server for seconds only; after a call, for as long as usual again."""
    usual = live.PATIENCE
    monkeypatch.setattr(live, "PATIENCE", 4.0)
    return lambda: monkeypatch.setattr(live, "PATIENCE", usual)


def run_of(there: LoopbackWandb, kind: str) -> Run:
    (found,) = [run for run in there.runs.values() if run.about["jobType"] == kind]
    return found


def steps(run: Run) -> list[int]:
    return run.column("_step")


def told(run: Run) -> list[int]:
    """The steps that are all there once, in order."""
    assert steps(run) == list(range(len(run.lines)))
    return steps(run)


def test_an_online_cell_is_one_run_and_a_metric_that_is_added_goes_on_with_it(
    there: LoopbackWandb, frozen: Frozen, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("method=wanda", *SMALL, "tracker.mode=online")
    sweep([frozen(*words, "report=page")])
    kinds = [run.about["jobType"] for run in there.runs.values()]
    assert sorted(kinds) == ["dense", "sweep", "wanda"]
    whole = run_of(there, "sweep")
    assert (whole.about["displayName"], whole.state, whole.summary["cells"]) == (
        *("trial", "finished", 2),
    )
    assert json.loads(whole.files[whole.summary["results"]["path"]])["columns"] == [*RESULTS]
    figures = {
        f"figures/{file.stem}" for file in tmp_path.glob("outputs/reports/trial/figures/*.png")
    }
    assert figures <= {key for line in whole.lines for key in line}
    assert figures
    run = run_of(there, "wanda")
    assert (run.state, run.about["groupName"]) == ("finished", "trial")
    assert run.about["displayName"] == "tiny-wanda-50-c4"
    assert {"trial", "wanda", "c4", "50%"} <= set(run.about["tags"])
    assert run.config["cell"]["value"] == run.id
    assert run.config["environment"]["value"]["device"]
    assert run.column("done/blocks") == [1, 2, 3, 4]
    assert run.column("layer/index") == list(range(28))
    assert run.summary["perplexity/perplexity_low"] < run.summary["perplexity/perplexity"]
    table = run.summary["tasks/generations_alpaca"]
    assert json.loads(run.files[table["path"]])["columns"][:2] == ["prompt", "gold"]
    assert all(artifact["committed"] for artifact in there.artifacts.values())
    before, artifacts = told(run), len(there.artifacts)

    again = ("report=page", "metric=[perplexity,tasks,divergence]", "metric.divergence.n_samples=3")
    sweep([frozen(*words, *again)])
    assert len(there.runs) == 3
    after = told(run)
    assert after[: len(before)] == before
    assert len(after) > len(before)
    assert run.column("done/blocks")[:4] == [1, 2, 3, 4]
    assert {"divergence/jsd", "perplexity/perplexity"} <= run.summary.keys()
    assert len(there.artifacts) == artifacts + 1  # the results; no other table has changed

    assert track.main([str(tmp_path / "outputs")]) == 0
    said = capsys.readouterr().out
    assert "0 sent, 3 already there, 0 failed" in said
    assert track.main([str(tmp_path / "outputs" / "reports" / "trial")]) == 0
    assert "0 sent, 3 already there, 0 failed" in capsys.readouterr().out
    check_no_key(tmp_path, said)


def check_no_key(folder: Path, *said: str) -> None:
    """The key is in no file below the folder, and nowhere else."""
    secret = KEY.encode()
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert any(file.suffix == ".wandb" for file in files)
    assert any(file.name == "debug-internal.log" for file in files)
    assert [file for file in files if secret in file.read_bytes()] == []
    assert not any(KEY in text for text in said)


def test_what_was_shown_offline_is_sent_once_with_the_figures_of_its_report(
    there: LoopbackWandb, frozen: Frozen, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    outputs = tmp_path / "outputs"
    sweep([frozen("method=wanda", *SMALL)])
    both = [frozen(f"method={method}", *SMALL, "tracker=none") for method in ("wanda", "magnitude")]
    sweep(both)  # the second one's cell has no history
    figures = outputs / "reports" / "trial" / "figures"
    assert not there.asked
    assert track.main([str(outputs)]) == 0
    out = capsys.readouterr().out
    assert "4 sent, 0 already there, 0 failed" in out
    assert out.count("sent, and there are no figures: python -m sweep.report draws them\n") == 1
    assert {run.about["jobType"] for run in there.runs.values()} == {
        "dense",
        "wanda",
        "magnitude",
        "sweep",
    }
    run = run_of(there, "wanda")
    assert (run.state, run.about["groupName"]) == ("finished", "trial")
    assert told(run)
    assert run.summary["tasks/em_alpaca_high"] >= run.summary["tasks/em_alpaca"]
    assert run_of(there, "magnitude").column("layer/index") == list(range(28))
    whole = run_of(there, "sweep")
    rows = json.loads(whole.files[whole.summary["results"]["path"]])
    assert rows["columns"] == list(RESULTS)
    assert {row[2] for row in rows["data"]} == {"dense", "50%"}
    assert {row[1] for row in rows["data"]} == {"dense", "wanda", "magnitude"}

    there.asked.clear()
    assert track.main([str(outputs)]) == 0
    assert "0 sent, 4 already there, 0 failed" in capsys.readouterr().out
    assert there.asked.keys() <= {"Viewer", "GetDefaultEntity", "Runs", "ServerFeaturesQuery"}
    assert not any((outputs / "wandb" / "data").glob("*"))  # copies of tables
    # and `wandb sync` has nothing to double
    assert all(any(run.glob("*.wandb.synced")) for run in offline_runs(outputs))

    lines = len(whole.lines)
    figures.mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(figures / "jsd.png")  # the report has another figure
    for _ in range(2):
        assert track.main([str(outputs)]) == 0
    (added,) = whole.lines[lines:]
    assert "figures/jsd" in added
    assert added["figures/jsd"]["_type"] == "image-file"
    assert "no figures" not in capsys.readouterr().out


def test_a_mirror_that_was_broken_off_is_completed(
    there: LoopbackWandb, frozen: Frozen, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep([frozen("method=dense", *SMALL)])
    assert track.main([str(tmp_path / "outputs")]) == 0
    run = run_of(there, "dense")
    run.state = "crashed"  # it was not closed, so nobody knows whether its files are there
    before, artifacts = told(run), len(there.artifacts)
    assert track.main([str(tmp_path / "outputs")]) == 0
    assert "1 sent, 1 already there" in capsys.readouterr().out
    assert run.state == "finished"
    assert told(run) == before
    assert len(there.artifacts) == artifacts


def test_a_server_that_asks_for_patience_is_waited_for(
    there: LoopbackWandb, frozen: Frozen, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep([frozen("method=dense", *SMALL)])
    there.busy = 2
    assert track.main([str(tmp_path / "outputs"), "--jobs", "2"]) == 0
    assert "2 sent, 0 already there, 0 failed" in capsys.readouterr().out
    first, second = there.refused
    assert second - first >= 2.9  # it had said: in three seconds
    told(run_of(there, "dense"))


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_a_server_in_trouble_in_the_middle_gets_everything_once_it_is_well(
    mode: str,
    there: LoopbackWandb,
    frozen: Frozen,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    there.patience = "0"
    there.falters = {
        "upload": [429, 503],  # files, and the manifest of tables
        "file_stream": [429, 500],  # history and summary
        "CreateArtifact": [500],
        "CommitArtifact": [429],
        "CreateRunFiles": [429],
        "Runs": [429],
    }
    sweep([frozen("method=dense", *SMALL, f"tracker.mode={mode}")])
    if mode == "offline":
        assert len(there.refused) == 0
        assert track.main([str(tmp_path / "outputs")]) == 0
        assert "2 sent, 0 already there, 0 failed" in capsys.readouterr().out
    assert not any(there.falters.values())
    assert told(run_of(there, "dense"))
    assert "tasks/em_alpaca_high" in run_of(there, "dense").summary
    for run in there.runs.values():
        assert run.state == "finished"
        tables = [value["path"] for value in run.summary.values() if "path" in dict_of(value)]
        assert tables
        assert set(tables) <= run.files.keys()
    assert all(artifact["committed"] for artifact in there.artifacts.values())
    assert track.main([str(tmp_path / "outputs")]) == 0
    assert "0 sent, 2 already there, 0 failed" in capsys.readouterr().out


def test_a_server_that_takes_too_long_for_one_cell_is_shown_the_next(
    there: LoopbackWandb,
    frozen: Frozen,
    tmp_path: Path,
    impatient: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    there.patience = "0"
    there.falters = {"file_stream": [429] * 1000}
    fail = WandB._fail

    def is_well_from_then_on(*given: Any) -> None:
        there.falters.clear()
        impatient()  # a busy machine may need longer for what is sent in the end
        fail(*given)

    monkeypatch.setattr(WandB, "_fail", is_well_from_then_on)
    sweep([frozen("method=magnitude", *SMALL, "tracker.mode=online")])
    said = capsys.readouterr().err
    assert said.count("not all of it is shown in W&B yet: Timed out") == 1
    assert "the cells that follow neither" not in said
    assert run_of(there, "magnitude").state == "finished"
    assert "tasks/em_alpaca" in run_of(there, "magnitude").summary
    assert track.main([str(tmp_path / "outputs")]) == 0
    assert re.search(r"(0|1) sent, (3|2) already there, 0 failed", capsys.readouterr().out)
    assert told(run_of(there, "dense"))


def test_a_server_that_takes_too_long_for_every_cell_is_given_up(
    there: LoopbackWandb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(live.log, "warning", lambda text, *_: said.append(text))
    tracker = WandB("online")
    for _ in range(live.CHANCES + 1):
        tracker._fail(tmp_path, TimeoutError("Timed out finishing run."))
    assert ["not all of it is shown" in line for line in said] == [True, True, False]
    monkeypatch.setattr(server, "LOOK", 0.5)
    there.away = True  # and one that is not there at once
    tracker = WandB("online")
    tracker._fail(tmp_path, TimeoutError("Timed out finishing run."))
    assert "the cells that follow neither" in said[-1]
    assert len(said) == 4


def dict_of(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


@pytest.mark.usefixtures("impatient")
def test_a_server_that_goes_away_in_the_middle_costs_the_cells_nothing_but_their_mirror(
    there: LoopbackWandb,
    frozen: Frozen,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import wandb

    monkeypatch.setattr("wandb.apis.public.api.Api._HTTP_TIMEOUT", 2)
    gone = threading.Event()

    def leave(*_: Any) -> Any:
        gone.set()
        there.away = True
        return there.runs  # whatever: nobody hears it

    monkeypatch.setattr(there, "_on_CreateArtifact", leave, raising=False)
    waits: list[float] = []

    def timed(act: Callable[..., None]) -> Callable[..., None]:
        def acts(*given: Any) -> None:
            started = time.monotonic()
            act(*given)
            waits.append(time.monotonic() - started)

        return acts

    # of the mirror alone: what the cells themselves take is the machine's business
    monkeypatch.setattr(live.CellMirror, "_safely", timed(live.CellMirror._safely))
    monkeypatch.setattr(WandB, "conclude", timed(WandB.conclude))
    sweep([frozen("method=wanda", *SMALL, "tracker.mode=online")])
    assert gone.is_set()
    assert 0 < sum(waits) < 30
    said = capsys.readouterr().err
    assert said.count("not shown in W&B, and the cells that follow neither") == 1
    assert f"`python -m sweep.track {tmp_path / 'outputs'}` shows it later" in said
    assert len(list((tmp_path / "outputs" / "cells").glob("*/metrics/tasks.json"))) == 2
    wandb.teardown()

    monkeypatch.undo()
    there.away = False
    monkeypatch.setenv("WANDB_BASE_URL", there.address)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert track.main([str(tmp_path / "outputs")]) == 0
    assert "3 sent, 0 already there, 0 failed" in capsys.readouterr().out
    for kind in ("dense", "wanda"):
        run = run_of(there, kind)
        assert run.state == "finished"
        assert told(run)
        assert "tasks/em_alpaca" in run.summary
    check_no_key(tmp_path, said)


KILLED = """
import os, signal, sys
from sweep.method.wanda import Wanda
calls, compress = [], Wanda.compress
def dies(*given):
    calls.append(1)
    if len(calls) == 10:  # in the second block
        os.killpg(0, signal.SIGKILL)  # and W&B's own process with it, as a cluster does
    return compress(*given)
Wanda.compress = dies
from sweep.__main__ import main
main()
"""


def test_a_killed_run_has_its_configuration_and_the_next_attempt_goes_on_with_it(
    there: LoopbackWandb, frozen: Frozen, tmp_path: Path
) -> None:
    outputs = tmp_path / "outputs"
    words = [f"outputs={outputs}", "method=wanda", *SMALL]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *words], start_new_session=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    (cell,) = (path.name for path in (outputs / "cells").glob("*-wanda-*"))
    (run,) = (outputs / "wandb" / "wandb").glob(f"offline-run-*-{cell[-8:]}*")
    id = run.name.rpartition("-")[2]
    config = config_of(records(run))
    assert config["cell"] == id
    assert config["options"]["method"] == "wanda"
    assert config["environment"]["torch"]
    assert history_of(records(run)) == []
    synced(run)  # somebody sends it as it is
    assert there.runs[id].state == "failed"

    sweep([frozen("method=wanda", *SMALL)])
    both = [path for path in offline_runs(outputs) if path.name.endswith(id)]
    assert len(both) == 2
    synced(*both)
    sent = there.runs[id]
    assert sent.state == "finished"
    assert told(sent)
    assert sent.column("done/blocks") == [1, 1, 2, 3, 4]  # of both attempts
    assert "tasks/em_alpaca" in sent.summary
    before = told(sent)
    assert track.main([str(outputs)]) == 0
    assert told(sent) == before
    assert all(artifact["committed"] for artifact in there.artifacts.values())


HELD = """
import os, time
from sweep.method.wanda import Wanda
calls, compress = [], Wanda.compress
def waits(*given):
    calls.append(1)
    while len(calls) == 8 and not os.path.exists(os.environ["DEAF"]):  # in the second block
        time.sleep(0.05)
    if len(calls) == 15:  # in the third
        time.sleep(600)
    return compress(*given)
Wanda.compress = waits
from sweep.__main__ import main
main()
"""


def until(ready: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_an_online_run_that_is_killed_goes_on_and_no_step_is_lost_or_doubled(
    there: LoopbackWandb, frozen: Frozen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["calib.n_samples=4", "metric=[perplexity]", "metric.perplexity.n_samples=2"]
    words += ["method=wanda", "tracker=wandb", "tracker.mode=online"]
    monkeypatch.setenv("WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL", "0.1")
    monkeypatch.setenv("DEAF", str(tmp_path / "deaf"))
    running = subprocess.Popen(
        [sys.executable, "-c", HELD, f"outputs={tmp_path / 'outputs'}", *words],
        start_new_session=True,
    )

    def rows() -> list[dict[str, Any]]:
        (file,) = (tmp_path / "outputs" / "cells").glob("*-wanda-*/progress.jsonl")
        return Journal(file).rows

    try:
        until(lambda: any(6 in run.column("layer/index") for run in [*there.runs.values()]))
        there.falters = {"file_stream": [503] * 1000}  # what follows is under way when it is killed
        (tmp_path / "deaf").touch()
        until(lambda: rows()[-1].get("done/blocks") == 2)
    finally:
        os.killpg(running.pid, signal.SIGKILL)  # and W&B's own process, as a cluster does
    assert running.wait() == -signal.SIGKILL
    there.falters.clear()
    run = run_of(there, "wanda")
    assert run.state == "running"
    assert len(told(run)) <= len(rows()) - 8

    sweep([frozen(*words)])
    assert run is run_of(there, "wanda")
    assert run.state == "finished"
    assert told(run) == [row["step"] for row in rows()]
    assert run.column("done/blocks") == [1, 2, 1, 2, 3, 4]  # of both attempts
    assert run.column("layer/index") == list(range(28))
    assert track.main([str(tmp_path / "outputs")]) == 0
    assert len(told(run)) == len(rows())


def synced(*runs: Path) -> None:
    """As the user does it."""
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "sync", *map(str, runs)],
        cwd=runs[0],  # it makes a folder where it is
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


DENSE = (
    "method=dense",
    "metric=[perplexity]",
    "metric.perplexity.n_samples=2",
    "tracker=wandb",
    "tracker.mode=auto",
)


def test_the_commands_show_a_cell_where_a_login_and_the_server_are_there(
    there: LoopbackWandb, tmp_path: Path
) -> None:
    outputs = tmp_path / "outputs"
    ran = forked(f"outputs={outputs}", *DENSE)
    assert ran.returncode == 0, ran.stderr
    run = run_of(there, "dense")
    assert (run.state, run.about["jobType"]) == ("finished", "dense")
    assert told(run)
    assert offline_runs(outputs) == []
    sent = forked(str(outputs), module="sweep.track")
    assert (sent.returncode, sent.stderr) == (0, "")
    lines = sent.stdout.splitlines()
    assert lines == [
        "0 sent, 2 already there, 0 failed",
        f"{there.address}/{ENTITY}/compression-sweep",
    ]
    check_no_key(tmp_path, ran.stdout, ran.stderr, sent.stdout)


def test_auto_is_offline_where_the_server_does_not_answer_and_says_so_once(
    there: LoopbackWandb,
    frozen: Frozen,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    there.away = True
    monkeypatch.setattr(server, "LOOK", 0.5)
    sweep([frozen("method=magnitude", *DENSE[1:])])
    assert len(offline_runs(tmp_path / "outputs")) == 2
    assert capsys.readouterr().err.count("so offline, and `python -m sweep.track") == 1
    assert not there.runs


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("mode", ["auto", "online"])
def test_without_a_login_nobody_is_asked_for_one(
    mode: str,
    frozen: Frozen,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a prompt"))
    monkeypatch.setattr("getpass.getpass", lambda *_: pytest.fail("a prompt"))
    started = time.monotonic()
    sweep([frozen(*DENSE, f"tracker.mode={mode}")])
    assert time.monotonic() - started < 30
    assert capsys.readouterr().err.count(server.HELP) == 1
    assert len(list((tmp_path / "outputs" / "cells").glob("*/metrics/perplexity.json"))) == 1
    assert len(offline_runs(tmp_path / "outputs")) == (1 if mode == "auto" else 0)


def test_every_cell_goes_to_the_project_that_it_was_told(
    there: LoopbackWandb, frozen: Frozen, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = (
        "metric=[perplexity]",
        "metric.perplexity.n_samples=2",
        "tracker=wandb",
        "report=table",
    )
    sweep([frozen("method=dense", *small, "tracker.project=one", "name=first")])
    sweep([frozen("method=magnitude", *small, "tracker.project=two", "name=second")])
    assert track.main([str(tmp_path / "outputs")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-2:] == [f"{there.address}/{ENTITY}/{project}" for project in ("one", "two")]
    projects = {run.about["displayName"]: run.project for run in there.runs.values()}
    assert projects == {
        "tiny-dense": "one",
        "first": "one",
        "tiny-magnitude-50": "two",
        "second": "two",
    }
    assert track.main([str(tmp_path / "outputs")]) == 0
    assert "0 sent, 4 already there, 0 failed" in capsys.readouterr().out


def test_cells_that_were_done_before_follow_their_sweep_to_the_server(
    there: LoopbackWandb, frozen: Frozen, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = tmp_path / "outputs"
    small = ("method=dense", "metric=[perplexity]", "metric.perplexity.n_samples=2", "report=table")
    online = ("tracker=wandb", "tracker.mode=online", "tracker.project=mine", "name=b")
    sweep([frozen(*small, "tracker=none", "name=a")])
    sweep([frozen(*small, *online)])
    assert [run.about["displayName"] for run in there.runs.values()] == ["b"]
    said = f"1 of 1 cells, done before, are not in mine; `python -m sweep.track {outputs}/reports/b"
    assert f"{said} --project mine` sends them" in capsys.readouterr().err
    assert track.main([str(outputs)]) == 0
    assert "2 sent, 1 already there, 0 failed" in capsys.readouterr().out
    projects = {run.about["displayName"]: run.project for run in there.runs.values()}
    assert projects == {"tiny-dense": "mine", "a": "mine", "b": "mine"}
    sweep([frozen(*small, *online)])
    assert "are not in" not in capsys.readouterr().err


@pytest.mark.usefixtures("client")
def test_the_command_says_in_one_line_what_it_lacks(
    frozen: Frozen, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as lacks_cells:
        track.main([str(tmp_path)])
    reason = "holds no cells; give a folder of outputs, or of a sweep's report in it"
    assert lacks_cells.value.code == f"sweep.track: {tmp_path}: {reason}"
    with pytest.raises(SystemExit) as lacks_number:
        track.main(["--jobs", "0"])
    reason = "--jobs 0: must be a whole number, 1 or more"
    assert lacks_number.value.code == f"sweep.track: {reason}"
    sweep([frozen(*DENSE)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as lacks_login:
        track.main([str(tmp_path / "outputs")])
    assert lacks_login.value.code == f"sweep.track: {server.HELP}"
    assert capsys.readouterr().out == ""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # as wandb_workspaces is imported
def test_the_dashboard_shows_every_metric_of_a_sweep_and_is_made_once(
    there: LoopbackWandb, frozen: Frozen, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = tmp_path / "outputs"
    two = ("metric.divergence.source=[c4,alpaca]", "metric.divergence.n_samples=2")
    metrics = "metric=[perplexity,divergence,tasks]"
    sweep([frozen("method=wanda", *SMALL, metrics, *two)])
    assert dashboard.main([str(outputs)]) == 1  # its runs are not there
    assert "python -m sweep.track sends them" in capsys.readouterr().err
    assert track.main([str(outputs)]) == 0
    for _ in range(2):
        assert dashboard.main([str(outputs), "--sweep", "trial"]) == 0
    assert f"trial: {there.address}/" in capsys.readouterr().out
    (view,) = there.views
    id = run_of(there, "sweep").id
    assert view["displayName"] == f"sweep trial ({id})"
    assert f"'{id}'" in view["spec"] or f'"{id}' in view["spec"]
    grids = [
        block["metadata"]
        for block in json.loads(view["spec"])["blocks"]
        if block["type"] == "panel-grid"
    ]
    told_of = json.loads(view["spec"])["blocks"]
    stand_ins = "source: embedded (alpaca, c4, unnatural are stand-ins made by a micro-world"
    assert stand_ins in json.dumps(told_of[:2])
    assert "highest end of the seeds' 95 % intervals" in json.dumps(told_of)
    assert json.dumps(told_of).count("what the last sweep asked for") == 2
    panels = [grid["panelBankSectionConfig"]["panels"] for grid in grids]
    heat, curves, against, answers = panels
    columns = [
        f"{metric}/{name}"
        for metric in ("perplexity", "divergence", "tasks")
        for name in json.loads(
            next(outputs.glob(f"cells/*wanda*/metrics/{metric}.json")).read_text()
        )["columns"]
    ]
    drawn = {chart["chartName"]: json.loads(chart["spec"]) for chart in there.charts}
    for shown in (heat, curves):
        strings = [panel["config"]["stringSettings"] for panel in shown]
        assert [given["metric"] for given in strings] == columns
        assert all(given["note"].startswith(stand_ins) for given in strings)
        (chart,) = {panel["config"]["panelDefId"] for panel in shown}
        owner, name = chart.split("/")
        assert owner == ENTITY
        wanted = set(re.findall(r"\$\{field:(\w+)\}", json.dumps(drawn[name])))
        assert drawn[name]["title"]["text"] == "${string:metric}"
        assert drawn[name]["title"]["subtitle"][-1] == "${string:note}"
        assert wanted <= shown[0]["config"]["fieldSettings"].keys() & set(RESULTS)
    axes = [(panel["config"]["xAxis"], panel["config"]["yAxis"]) for panel in against]
    assert axes == [
        ("summary:perplexity/perplexity", "summary:divergence/jsd_c4"),
        ("summary:perplexity/perplexity", "summary:divergence/jsd_alpaca"),
    ]
    assert "tasks/generations_alpaca" in json.dumps(answers)
    with pytest.raises(SystemExit) as unknown:
        dashboard.main([str(outputs), "--sweep", "other"])
    assert unknown.value.code == "sweep.dashboard: --sweep other: there is none; there are: trial"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # as wandb_workspaces is imported
def test_sweeps_of_one_name_in_two_folders_are_two_runs_and_two_reports(
    there: LoopbackWandb, frozen: Frozen, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = (tmp_path / name for name in ("outputs", "elsewhere"))
    sweep([frozen("method=dense", *SMALL)])
    sweep([frozen("method=magnitude", "model.dtype=bfloat16", *SMALL, f"outputs={other}")])
    for _ in range(2):  # the second time everything is there
        for folder in (one, other):
            assert track.main([str(folder)]) == 0
    assert "0 sent, 2 already there, 0 failed" in capsys.readouterr().out
    whole = [run for run in there.runs.values() if run.about["jobType"] == "sweep"]
    assert [(run.about["displayName"], run.summary["cells"]) for run in whole] == [
        *[("trial", 1), ("trial", 2)]
    ]
    for folder, run in zip((one, other), whole, strict=True):
        assert (folder / "reports/trial/wandb-run").read_text() == run.id
    assert whole[1].id in run_of(there, "magnitude").about["tags"]
    assert whole[0].id not in run_of(there, "magnitude").about["tags"]
    assert dashboard.main([str(one), str(other)]) == 0
    titles = [view["displayName"] for view in there.views]
    assert titles == [f"sweep trial ({run.id})" for run in whole]


def test_a_cell_of_two_folders_is_one_run_that_is_in_the_sweeps_of_both(
    there: LoopbackWandb, frozen: Frozen, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = (tmp_path / name for name in ("outputs", "elsewhere"))
    sweep([frozen("method=dense", *SMALL)])
    more = ("metric=[perplexity,tasks,divergence]", "metric.divergence.n_samples=2")
    sweep([frozen("method=magnitude", *SMALL, *more, "name=second", f"outputs={other}")])
    capsys.readouterr()

    def tracked(*folders: Path) -> str:
        assert track.main([*map(str, folders)]) == 0
        *_, counts, _ = capsys.readouterr().out.splitlines()
        return counts

    def everything() -> Any:
        return [(run.about, run.summary, run.lines, run.state) for run in there.runs.values()]

    # one after the other, the second of which has what the first lacks; and both at once
    for folders in ([[one], [other]], [[other], [one]], [[one, other]], [[other, one]]):
        there.runs.clear()
        assert sum(int(tracked(*some).split()[0]) for some in folders) == 2 + 3
        assert sorted(run.about["jobType"] for run in there.runs.values()) == [
            *("dense", "magnitude", "sweep", "sweep")
        ]
        run = run_of(there, "dense")
        sweeps = {
            (folder / f"reports/{name}/wandb-run").read_text()
            for folder, name in ((one, "trial"), (other, "second"))
        }
        assert {"trial", "second", "dense", *sweeps} <= set(run.about["tags"])
        assert run.about["groupName"] == ("trial" if folders[0][0] == one else "second")
        assert {"divergence/jsd", "tasks/em_alpaca", "perplexity/perplexity"} <= run.summary.keys()
        assert run.state == "finished"
        first = dense_history(folders[0][0])
        assert told(run) == [row["step"] for row in first]  # not two histories mixed
        before = json.dumps(everything())
        for some, count in (([one], 2), ([other], 3), ([one], 2), ([one, other], 5)):
            assert tracked(*some) == f"0 sent, {count} already there, 0 failed"
        assert json.dumps(everything()) == before


def dense_history(outputs: Path) -> list[dict[str, Any]]:
    """Rows of the dense cell's history."""
    (file,) = outputs.glob("cells/*-dense-*/progress.jsonl")
    return Journal(file).rows


@pytest.mark.parametrize(
    ("said", "there_already"),
    [
        ("chart with name sweep-x already exists", True),
        ("entity somebody does not exist", False),
        ("no such project exists", False),
    ],
)
def test_only_a_chart_that_is_there_already_is_taken_as_it_is(
    said: str, there_already: bool, there: LoopbackWandb, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    def refuses(*_: Any, **__: Any) -> str:
        raise wandb.errors.CommError(said)

    monkeypatch.setattr(wandb.Api, "create_custom_chart", refuses)
    if there_already:
        assert server.chart("sweep-x", "x", {}, ENTITY) == f"{ENTITY}/sweep-x"
    else:
        with pytest.raises(wandb.errors.CommError):
            server.chart("sweep-x", "x", {}, ENTITY)


@pytest.mark.parametrize("command", ["sweep.track", "sweep.dashboard"])
def test_a_command_explains_itself_at_once(command: str) -> None:
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", command, "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"python -m {command}" in done.stdout
    assert time.monotonic() - started < 10
