"""The data of tasks: their versions, where they are had from, and what is said if they are not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import httpx
import pyarrow
import pyarrow.parquet
import pytest
import torch
from huggingface_hub.errors import HfHubHTTPError

from sweep import hub
from sweep.cell import make
from sweep.metric import lm_eval_load, lm_eval_tasks
from sweep.model.contents import fingerprint
from sweep.refusal import Refusal
from tests.loopback_hub import LoopbackHub
from tests.own_tasks import COMMAND, Frozen

pytest.importorskip("lm_eval")


def test_a_new_commit_of_a_tasks_data_is_another_result(
    words: list[str], frozen: Frozen, monkeypatch: pytest.MonkeyPatch
) -> None:
    def id(**commits: str) -> str:
        data = {"dataset_fingerprint": "f"}
        monkeypatch.setattr(
            lm_eval_tasks,
            "_dataset",
            lambda task: {**data, "dataset_revision": commits.get(task.config.task)},
        )
        return make(frozen(*words), fingerprint).metric_id("lm_eval")

    assert len({id(), id(fox="a" * 40), id(fox="b" * 40), id(fox="b" * 40, dog="a" * 40)}) == 4
    assert id(fox="a" * 40) == id(fox="a" * 40)


def test_a_hub_that_is_busy_is_asked_for_a_tasks_data_again(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.tasks import TaskManager

    waits: list[float] = []
    load, answered = TaskManager.load, []

    def busy(manager: Any, names: Any) -> Any:
        answered.append(names)
        if len(answered) <= 2:
            response = httpx.Response(503, request=httpx.Request("GET", "http://hub/"))
            raise HfHubHTTPError("Server error", response=response)
        return load(manager, names)

    monkeypatch.setattr(TaskManager, "load", busy)
    monkeypatch.setattr(hub.time, "sleep", waits.append)
    lm_eval_load.loaded.cache_clear()
    (task,) = lm_eval_tasks.read(["fox"], own, chat=False, tokenizer=None)
    assert len(task.documents) == 12
    assert waits == [*hub.WAITS]


def test_a_group_and_a_task_that_it_holds_are_told_as_such_and_not_as_the_hubs_failure(
    own: Path,
) -> None:
    with pytest.raises(Refusal) as refused:
        lm_eval_tasks.read(["animals", "fox"], own, chat=False, tokenizer=None)
    assert str(refused.value) == (
        "tasks=animals,fox: cannot be asked together "
        "(Duplicate task 'fox': found in both 'animals' and 'fox'); leave out one of the two"
    )


def test_a_tasks_own_mistake_is_told_as_such_after_the_hub_has_failed_too(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.tasks import TaskManager

    missing = httpx.Response(404, request=httpx.Request("GET", "http://hub/"))
    failures = [HfHubHTTPError("Not found", response=missing), ValueError("no field label")]
    monkeypatch.setattr(lm_eval_load, "_is_of_a_file", lambda *_: False)

    def failing(manager: Any, names: Any) -> Any:
        raise failures.pop(0)

    monkeypatch.setattr(TaskManager, "load", failing)
    lm_eval_load.loaded.cache_clear()
    with pytest.raises(Refusal, match=r"fox\.yaml: cannot be used \(no field label\)"):
        lm_eval_tasks.read(["fox"], own, chat=False, tokenizer=None)


OF_THE_HUB = """
task: {name}
dataset_path: {repo}
dataset_name: ARC-Easy
test_split: test
output_type: multiple_choice
doc_to_text: "Question: {{{{question}}}}\\nAnswer:"
doc_to_target: "{{{{choices.label.index(answerKey)}}}}"
doc_to_choice: "{{{{choices.text}}}}"
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""


@pytest.fixture
def arc(tmp_path: Path) -> Path:
    """A repository of the hub laid out as allenai/ai2_arc."""
    folder = tmp_path / "shelf"
    (folder / "ARC-Easy").mkdir(parents=True)
    splits = [{"split": "test", "path": "ARC-Easy/test-*"}]
    configs = json.dumps([{"config_name": "ARC-Easy", "data_files": splits}])
    (folder / "README.md").write_text(f"---\nconfigs: {configs}\n---\n# ARC\n")
    names = ("the fox", "a mill", "no ship", "rain")
    rows = [
        {
            "question": f"Which of these ran to the river, {i}?",
            "choices": {"text": [*names], "label": [*"ABCD"]},
            "answerKey": "ABCD"[i % 4],
        }
        for i in range(12)
    ]
    table = pyarrow.Table.from_pylist(rows)
    pyarrow.parquet.write_table(table, folder / "ARC-Easy" / "test-00000-of-00001.parquet")
    return folder


def _user(home: Path, address: str, *words: str, **more: str) -> str:
    """What a process of a user's prints, whose hub is at the address."""
    own = {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_DATASETS_OFFLINE": "", **more}
    own["OMP_NUM_THREADS"] = str(torch.get_num_threads())
    env = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"} | own
    run = [sys.executable, *words]
    done = subprocess.run(run, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_task_of_the_hub_has_the_same_values_online_offline_and_by_its_command(
    words: list[str], arc: Path, tmp_path: Path
) -> None:
    tasks, home, easy = tmp_path / "tasks", tmp_path / "hf", tmp_path / "easy"
    tasks.mkdir()
    (tasks / "easy.yaml").write_text(OF_THE_HUB.format(name="easy", repo="allenai/ai2_arc"))
    asked = [*words, "metric.lm_eval.tasks=[easy]", f"metric.lm_eval.include_path={tasks}"]
    asked += ["tracker=none", "report=table", "keep=model"]

    def outputs(name: str) -> str:
        return f"outputs={tmp_path / name}"

    with LoopbackHub({"datasets/allenai/ai2_arc": arc}).listening() as shelf:
        _user(home, shelf.address, "-m", "sweep", *asked, outputs("online"))
        commit = shelf.commit("datasets/allenai/ai2_arc")
        assert [name for name in shelf.files_asked() if name.endswith(".parquet")]
    offline = {"HF_HUB_OFFLINE": "1"}
    _user(home, shelf.address, "-m", "sweep", *asked, outputs("offline"), **offline)
    found = {
        name: json.loads(file.read_text())
        for name in ("online", "offline")
        for file in (tmp_path / name / "cells").glob("*wanda*/metrics/lm_eval.json")
    }
    (data,) = found["online"]["data"]
    assert (data["location"], data["dataset_revision"]) == ("allenai/ai2_arc", commit)
    assert found["online"]["settings_id"] == found["offline"]["settings_id"]
    (model,) = (tmp_path / "online" / "cells").glob("*wanda*/model")
    typed = ["run", "--model", "hf", "--model_args", f"pretrained={model}", "--tasks", "easy"]
    typed += ["--include_path", str(tasks), "--batch_size", "4", "--device", "cpu"]
    typed += ["--output_path", str(easy)]
    _user(home, shelf.address, "-c", COMMAND, json.dumps([typed]), **offline)
    (file,) = easy.rglob("results_*.json")
    theirs = json.loads(file.read_text())["results"]["easy"]
    for result in found.values():
        assert result["columns"] == ["acc_easy", "acc_norm_easy"]
        values = [result["values"][name]["value"] for name in result["columns"]]
        assert values == [theirs["acc,none"], theirs["acc_norm,none"]]
        assert 0 < result["values"]["acc_easy"]["value"] < 1


READ = """
import sys
from pathlib import Path
from sweep.metric import lm_eval_tasks
from sweep.refusal import Refusal
for names in sys.argv[2:]:
    try:
        lm_eval_tasks.read(names.split(","), Path(sys.argv[1]), chat=False, tokenizer=None)
    except Refusal as refusal:
        print(refusal)
"""


def test_of_several_tasks_that_is_named_whose_data_are_not_to_be_had_and_where_they_are(
    own: Path, arc: Path, tmp_path: Path
) -> None:
    tasks = tmp_path / "tasks"
    shutil.copytree(own, tasks)
    for name in ("easy", "shut", "lost"):
        (tasks / f"{name}.yaml").write_text(OF_THE_HUB.format(name=name, repo=f"me/{name}"))
    shelf = LoopbackHub({"datasets/me/easy": arc, "datasets/me/shut": arc})
    shelf.gated.add("datasets/me/shut")
    with shelf.listening():
        several = ("easy,shut,fox", "fox,lost", "easy,fox")
        said = _user(tmp_path / "hf", shelf.address, "-c", READ, str(tasks), *several)
    gated, missing = said.splitlines()
    assert gated.startswith("tasks=shut: me/shut is gated; ask for access on its page")
    assert missing.startswith("tasks=lost: ")
    assert "me/lost" in missing


def test_a_result_says_which_data_a_task_has_asked_of(own: Path) -> None:
    (task,) = lm_eval_tasks.read(["fox"], own, chat=False, tokenizer=None)
    fingerprint = task.dataset["dataset_fingerprint"]
    assert fingerprint
    assert task.dataset["dataset_revision"] is None  # no commit: a file
    (other,) = lm_eval_tasks.read(["dog"], own, chat=False, tokenizer=None)
    assert other.dataset["dataset_fingerprint"] != fingerprint
    data = task.inner.dataset["test"]
    commit = "c" * 40
    folder = Path(data.cache_files[0]["filename"]).parent

    class OfTheHub:
        config = task.inner.config
        dataset: ClassVar = {
            "test": SimpleNamespace(
                cache_files=[{"filename": str(folder.with_name(commit) / "x.arrow")}],
                _fingerprint="f",
            )
        }

    found = lm_eval_tasks.Task("x", OfTheHub(), {}).dataset
    assert found == {"dataset_revision": commit, "dataset_fingerprint": "f"}
