"""The judge in a sweep, at the public command and beside a real endpoint."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from sweep.files import Kept
from sweep.grid import sweep
from sweep.metric.judge_address import is_near
from sweep.metric.judge_prompt import CRITERIA
from sweep.model.embedded import WEIGHTS
from sweep.refusal import Failed, Refusal
from sweep.track.found import Found
from sweep.workshop import Workshop
from tests.commands import forked
from tests.judged import KEY, no_key_below
from tests.loopback_judge import LoopbackJudge, body, gone, grades, says


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().split("\n") if line]


SMALL = (
    "calib.n_samples=4",
    "metric.judge.n_samples=3",
    "metric.judge.max_new_tokens=8",
    "metric.judge.source=alpaca",
    "metric.judge.retries=0",
)


def test_the_public_command_judges_a_grid_and_pays_once(
    endpoint: LoopbackJudge, frozen: Any, tmp_path: Path
) -> None:
    words = ["method=magnitude", "metric=[tasks,judge]", *SMALL, "metric.judge.repeats=2"]
    words += [f"metric.judge.base_url={endpoint.address}", f"outputs={tmp_path / 'outputs'}"]
    words += [f"metric.tasks.{word}" for word in ("n_samples=3", "max_new_tokens=8")]
    words += ["metric.tasks.source=alpaca"]
    endpoint.script.append(says("An 8, I think."))
    done = forked(*words, environment={**os.environ, "OPENAI_LOG": "debug"})
    assert done.returncode == 0, done.stderr
    assert KEY not in done.stdout + done.stderr
    assert "W&B:" not in done.stderr
    assert no_key_below(tmp_path / "outputs")
    assert "judge: 6 calls (0 replies are there already)" in done.stderr
    asked = [json.dumps([request, "repeat"]) for request in endpoint.asked]
    assert all(asked.count(request) == 2 for request in asked)
    rows = {
        file.parent.parent.name.split("-")[1]: lines(file)
        for file in (tmp_path / "outputs" / "cells").glob("*/generations/judge-alpaca.jsonl")
    }
    assert sorted(rows) == ["dense", "magnitude"]
    assert [row["dense_answer"] for row in rows["magnitude"]] == [
        row["answer"] for row in rows["dense"]
    ]
    assert sum(row["scores"].count(None) for row in rows["dense"]) == 1
    shown = {one.kind: one for one, _ in Found.below(tmp_path / "outputs").shown()}
    answers = shown["magnitude"].tables["judge/generations_alpaca"]  # in W&B
    columns = ("prompt", "gold", "dense_answer", "answer", "judge", *CRITERIA)
    assert answers.columns == columns
    assert answers.rows == [[row[name] for name in columns] for row in rows["magnitude"]]
    table = (tmp_path / "outputs" / "reports").glob("*/results.csv")
    header = next(table).read_text().splitlines()[0]
    assert "judge,judge_low,judge_high,judge_vs_dense,judge_vs_dense_low," in header

    before = len(endpoint.asked)
    for file in (tmp_path / "outputs" / "cells").glob("*/metrics/judge.json"):
        file.unlink()
    sweep([frozen(*words)])
    assert len(endpoint.asked) == before


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (
            ["metric.judge.max_calls=2"],
            r"metric.judge.max_calls=2: 6 calls may be needed \(2 cells, 6 answers, repeats=1\)",
        ),
        (["metric.judge.model=x"], "metric.judge.base_url=http.*: wants a key, and OPENAI_API_KEY"),
        (
            [],
            "metric.judge.price_in=null: gpt-4o at https://api.openai.com/v1 may take money for "
            r"up to 6 calls, about \d+ tokens in and 240 out, cost unknown; give price_in and pr",
        ),
        (["metric.judge.price_in=2.5"], r"metric.judge.price_out=null: .*; give price_out, of a m"),
    ],
    ids=["calls", "key", "price", "one price"],
)
def test_what_cannot_be_judged_is_refused_before_a_model_is_loaded(
    words: list[str], reason: str, frozen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Workshop, "bench", lambda *_: pytest.fail("a model was loaded"))
    if "metric.judge.model=x" in words:
        monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(Refusal, match=reason):
        sweep([frozen("metric=[judge]", *SMALL, *words)])


@pytest.mark.parametrize("status", [401, 403, None])
def test_a_judge_that_takes_no_key_or_says_nothing_is_refused_before_a_model_is_loaded(
    status: int | None, endpoint: LoopbackJudge, frozen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Workshop, "bench", lambda *_: pytest.fail("a model was loaded"))
    endpoint.models = gone if status is None else body(f"no {KEY}".encode(), status)
    with pytest.raises(Refusal) as refused:
        sweep([frozen("metric=[judge]", *SMALL, f"metric.judge.base_url={endpoint.address}")])
    what = "breaks off its answers after 1" if status is None else "does not take the key in OPENAI"
    assert f"metric.judge.base_url={endpoint.address}: {what}" in str(refused.value)
    assert KEY not in str(refused.value)
    assert (endpoint.looks, endpoint.asked) == (1, [])


@pytest.mark.parametrize("answer", [body(b"{}"), body(b"{}", 404), body(b"", 405), body(b"", 503)])
def test_whatever_else_an_endpoint_answers_it_is_there(
    answer: Any, endpoint: LoopbackJudge, judge: Any, tokenizer: Any, tmp_path: Path
) -> None:
    endpoint.models = answer
    cell = (judge().load(tokenizer), {})
    assert "up to 3 calls" in judge().forecast([cell], Kept(tmp_path), runs_here=True)
    assert endpoint.looks == 1
    judge().forecast([cell], Kept(tmp_path), runs_here=False)  # by jobs, which may be elsewhere
    judge().forecast([], Kept(tmp_path), runs_here=True)  # nothing is left to be asked
    assert endpoint.looks == 1


@pytest.mark.parametrize(
    ("host", "near"),
    [
        *[(host, True) for host in ("127.0.0.1", "10.1.2.3", "192.168.0.9", "[::1]", "[fd00::1]")],
        *[(host, True) for host in ("localhost", "node17", "100.64.0.1", "judge.LOCAL", "x.lan.")],
        *[(host, False) for host in ("api.openai.com", "8.8.8.8", "[2606:4700::1]", "a.b")],
        *[
            (host, False)
            for host in ("localhost.example.org", "[::ffff:8.8.8.8]", "10.example.org")
        ],
    ],
)
def test_an_endpoint_is_near_on_this_machine_and_in_private_networks(host: str, near: bool) -> None:
    assert is_near(f"https://{host}:8000/v1") == near


def test_a_cell_whose_judge_is_down_fails_in_one_line_and_goes_on_later(
    endpoint: LoopbackJudge, frozen: Any, tmp_path: Path
) -> None:
    config = frozen(
        "method=dense", "metric=[judge]", *SMALL, f"metric.judge.base_url={endpoint.address}"
    )
    endpoint.script.extend([grades(), body(b"{}", 500), body(b"{}", 500), body(b"{}", 500)])
    with pytest.raises(Failed) as failed:
        sweep([{**config, "metric": {"judge": {**config["metric"]["judge"], "parallel": 1}}}])
    line = f"Refusal: metric.judge.base_url={endpoint.address}: refuses after 1 try"
    assert line in str(failed.value)
    assert no_key_below(tmp_path)
    endpoint.script.clear()
    before = len(endpoint.asked)
    sweep([config])
    assert len(endpoint.asked) == before + 2


def test_a_judge_that_went_away_is_waited_for_by_one_cell_and_said_in_one_line(
    frozen: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    waits: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
    url = f"http://127.0.0.1:{port}/v1"
    monkeypatch.setattr("sweep.metric.judge.look", lambda client: None)  # it was there
    words = ["metric=[perplexity,judge]", "metric.perplexity.n_samples=2", *SMALL]
    words += [f"metric.judge.base_url={url}", "metric.judge.retries=1", "metric.judge.parallel=1"]
    configs = [frozen(f"method={name}", *words) for name in ("magnitude", "wanda")]
    with pytest.raises(Failed) as failed:
        sweep(configs)
    names = sorted(folder.name for folder in (tmp_path / "outputs/cells").iterdir())
    head, reason, _ = str(failed.value).splitlines()
    assert head == "3 of 3 cells failed"
    assert sorted(reason.strip().partition(": ")[0].split(", ")) == names
    said = reason.partition(": ")[2]
    assert said.startswith(f"Refusal: metric.judge.base_url={url}: cannot be reached after 2 tries")
    assert len(said) < 250
    assert " ".join(capsys.readouterr().out.split()).count(said) == 1  # below the table
    assert len([wait for wait in waits if wait > 0.1]) == 1  # tried twice, by the first cell
    assert len(list((tmp_path / "outputs/cells").glob("*/metrics/perplexity.json"))) == 3
    with LoopbackJudge().listening(port):
        sweep(configs)
    assert len(list((tmp_path / "outputs/cells").glob("*/metrics/judge.json"))) == 3


def test_a_sweep_keeps_to_the_cap_over_all_its_cells_and_goes_on_later(
    endpoint: LoopbackJudge, frozen: Any, tmp_path: Path, logged: Any
) -> None:
    words = ["method=magnitude", "metric=[judge]", *SMALL, "metric.judge.retries=3"]
    words += [f"metric.judge.base_url={endpoint.address}", "metric.judge.parallel=1"]
    endpoint.script.extend([body(b"{}", 429, Retry_After="0.01")] * 3)
    # four different answers; six calls would be enough, had none been tried again
    config = frozen(*words, "metric.judge.max_calls=6")
    with pytest.raises(Failed) as failed:
        sweep([config])
    assert len(endpoint.asked) == 6
    assert str(failed.value).count("metric.judge.max_calls=6: so many calls have been made") == 1
    assert len(list((tmp_path / "outputs/cells").glob("*dense*/metrics/judge.json"))) == 1
    sweep([config])
    assert len(endpoint.asked) == 7
    for file in (tmp_path / "outputs/cells").glob("*/metrics/judge.json"):
        file.unlink()
    sweep([frozen(*words, "metric.judge.max_calls=1")])  # nothing is left to be paid for
    assert len(endpoint.asked) == 7
    assert "up to 0 calls (4 replies are there already)" in logged.text


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address of `transformers serve` with the embedded model."""
    from transformers.utils.import_utils import is_accelerate_available, is_serve_available

    script = Path(sys.executable).parent / "transformers"
    if not (is_serve_available() and is_accelerate_available() and script.is_file()):
        pytest.skip("transformers serve needs accelerate, fastapi and uvicorn: the test extra")
    model = shutil.copytree(WEIGHTS, tmp_path / "model")
    settings = json.loads((model / "tokenizer_config.json").read_text())
    settings["chat_template"] = "{% for message in messages %}{{ message.content }}\n{% endfor %}"
    (model / "tokenizer_config.json").write_text(json.dumps(settings))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [str(script), "serve", str(model), "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with (tmp_path / "served.txt").open("w") as log:
        server = subprocess.Popen(
            [*words, "--device", "cpu"], env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        for _ in range(300):
            assert server.poll() is None, (tmp_path / "served.txt").read_text()[-2000:]
            try:
                urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait()


def test_a_real_endpoint_that_does_not_understand_the_question_is_reported_as_such(
    served: str, frozen: Any, tmp_path: Path
) -> None:
    words = [f"metric.judge.base_url={served}", f"metric.judge.model={tmp_path / 'model'}"]
    words += ["metric.judge.max_reply_tokens=32"]
    sweep([frozen("method=dense", "metric=[judge]", *SMALL, *words)])
    (cell,) = (tmp_path / "outputs" / "cells").iterdir()
    result = json.loads((cell / "metrics" / "judge.json").read_text())
    assert result["columns"] == ["judge_unparsable"]
    assert result["values"]["judge_unparsable"]["value"] == 1
    (record,) = result["data"]
    assert record["judged_by"] == [f"{tmp_path / 'model'}@main"]
    assert record["tokens_in"] > 3 * 100
    assert record["tokens_out"] >= 3
    rows = lines(cell / "generations" / "judge-alpaca.jsonl")
    assert all(isinstance(reply, str) for row in rows for reply in row["replies"])
