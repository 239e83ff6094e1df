"""What makes a result another one, and what is refused before anything runs."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from sweep.build import build
from sweep.cell import make
from sweep.grid import sweep
from sweep.metric import harness, lm_eval_tasks
from sweep.metric.lm_eval import LmEval
from sweep.metric.metric import Metric
from sweep.model.contents import fingerprint
from sweep.plan import plan
from sweep.progress import Progress
from sweep.refusal import Refusal
from sweep.workshop import Workshop
from tests.own_tasks import CHOICE, Frozen

pytest.importorskip("lm_eval")


class TestIdentity:
    @pytest.fixture
    def id(self, words: list[str], frozen: Frozen) -> Callable[..., str]:
        def id(*more: str) -> str:
            return make(frozen(*words, *more), fingerprint).metric_id("lm_eval")

        return id

    def test_tasks_settings_and_version_are_in_it(
        self, id: Callable[..., str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plain = id()
        others = {
            id("metric.lm_eval.tasks=[fox]"),
            id("metric.lm_eval.num_fewshot=3"),
            id("metric.lm_eval.limit=3"),
            id("metric.lm_eval.apply_chat_template=true"),
        }
        monkeypatch.setattr(lm_eval_tasks, "installed", lambda: "0.4.99")
        others.add(id())
        assert len({plain, *others}) == 6

    def test_ones_own_files_are_by_their_content_wherever_they_lie(
        self, id: Callable[..., str], own: Path, tmp_path: Path
    ) -> None:
        copy = tmp_path / "copy"
        copy.mkdir()
        for file in own.iterdir():
            (copy / file.name).write_bytes(file.read_bytes())
        assert id(f"metric.lm_eval.include_path={copy}") == id()
        with (copy / "fox.jsonl").open("a") as file:
            file.write("\n")
        assert id(f"metric.lm_eval.include_path={copy}") != id()


def test_the_seeds_of_the_harness_are_undone() -> None:
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.random.get_rng_state()
    with harness._seeded():
        random.random(), np.random.rand(), torch.rand(1)
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.random.get_rng_state(), before[2])


class TestBadInput:
    def test_settings_that_cannot_be(self, tmp_path: Path) -> None:
        node = {"_target_": "sweep.metric.lm_eval.LmEval"}
        for settings, message in (
            ({"tasks": []}, "metric.lm_eval.tasks=[]: name at least one task"),
            ({"tasks": ["a", "a"]}, "names a task twice"),
            ({"tasks": ["a"], "limit": 0}, "metric.lm_eval.limit=0: must be greater"),
            ({"tasks": ["a"], "include_path": "/nowhere"}, "include_path=/nowhere: no such folder"),
        ):
            with pytest.raises(Refusal) as refused:
                build({**node, **settings}, "metric.lm_eval", Metric)  # type: ignore[type-abstract]
            assert message in str(refused.value)

    def test_an_unknown_task_is_named_before_anything_runs(
        self, own: Path, tokenizer: Any, frozen: Frozen, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from lm_eval import tasks

        class Few(tasks.TaskManager):
            """Without the index of all that come with it, which takes seconds."""

            def __init__(self, include_path: Any = None, include_defaults: bool = True) -> None:
                super().__init__(include_path=own, include_defaults=False)

        monkeypatch.setattr(tasks, "TaskManager", Few)
        with pytest.raises(Refusal) as refused:
            LmEval(tasks=("fox", "foxx")).load(tokenizer)
        assert str(refused.value).startswith("tasks=foxx: no such task; did you mean fox")
        cell = make(frozen("metric=[lm_eval]", "metric.lm_eval.tasks=[fox,foxx]"), fingerprint)
        with pytest.raises(Refusal, match=r"^metric\.lm_eval\.tasks=foxx: no such task"):
            cell.parts.measured_on("lm_eval")

    def test_a_missing_package_is_said_with_what_brings_it(
        self, monkeypatch: pytest.MonkeyPatch, words: list[str], frozen: Frozen
    ) -> None:
        def none() -> str:
            raise PackageNotFoundError("lm-eval")

        monkeypatch.setattr(lm_eval_tasks, "installed", none)
        with pytest.raises(Refusal) as refused:
            make(frozen(*words), fingerprint).metric_id("lm_eval")
        line = str(refused.value)
        assert line.startswith("metric.lm_eval.tasks=['animals', 'words', 'spoken']: ")
        assert "pip install 'compression-sweep[lm_eval]'" in line

    def test_a_chat_template_that_is_not_there(self, tokenizer: Any, own: Path) -> None:
        metric = LmEval(tasks=("fox",), include_path=str(own), apply_chat_template=True)
        with pytest.raises(Refusal, match="has no chat template"):
            metric.load(tokenizer)

    def test_a_task_that_runs_what_the_model_writes(self, tokenizer: Any, tmp_path: Path) -> None:
        data = tmp_path / "x.jsonl"
        data.write_text('{"question": "a", "choices": ["b", "c"], "label": 0}\n')
        text = CHOICE.format(name="risky", data=data) + "unsafe_code: true\n"
        (tmp_path / "risky.yaml").write_text(text)
        with pytest.raises(Refusal, match="runs code that the model writes"):
            LmEval(tasks=("risky",), include_path=str(tmp_path)).load(tokenizer)

    def test_data_that_are_not_there(self, tokenizer: Any, tmp_path: Path) -> None:
        (tmp_path / "lost.yaml").write_text(CHOICE.format(name="lost", data="/no/such.jsonl"))
        with pytest.raises(Refusal, match=r"lost\.yaml: cannot be used \(Unable to find"):
            LmEval(tasks=("lost",), include_path=str(tmp_path)).load(tokenizer)


def test_calibration_rows_that_are_questions_are_refused(
    words: list[str], own: Path, frozen: Frozen, tmp_path: Path
) -> None:
    data = tmp_path / "long.jsonl"
    text = "The keeper of the lighthouse went down to the harbour and came back late that night."
    row = {"question": text, "choices": ["a", "b"], "label": 0}
    data.write_text(json.dumps(row) + "\n")
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "long.yaml").write_text(CHOICE.format(name="long", data=data))
    corpus = tmp_path / "rows.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for _ in range(2)))
    chosen = ["metric.lm_eval.tasks=[long]", f"metric.lm_eval.include_path={tmp_path / 'tasks'}"]
    local = ["calib=local", f"calib.path={corpus}", "calib.n_samples=1", "calib.seqlen=16"]
    with pytest.raises(
        Refusal, match=r"lm_eval\.tasks=long: 1 of its 1 rows are calibration rows too"
    ):
        sweep([frozen(*words, *chosen, *local)])
    assert not list((tmp_path / "outputs").glob("cells/*"))


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("task: mine", "task: [mine", r"mine.yaml: line \d+: is no YAML \("),
        ("task: mine", "include: none.yaml", r"mine.yaml: includes none.yaml, which is not there"),
        (
            "test_split: test",
            "test_split: dev",
            r"mine.yaml: cannot be used \(no such key, split or",
        ),
        (
            "multiple_choice",
            "choices",
            r"mine.yaml: cannot be used \(Got invalid output_type 'choi",
        ),
        ("{{question}}", "{{asked}}", r"mine.yaml: cannot be used \('asked' is undefined"),
        ("fox.jsonl", "cat.jsonl", r"mine.yaml: cannot be used \(Unable to find '.*cat.jsonl'\)"),
    ],
)
def test_a_mistake_in_ones_own_task_is_told_of_its_file_and_not_of_the_hub(
    own: Path, tmp_path: Path, right: str, wrong: str, said: str
) -> None:
    whole = CHOICE.format(name="mine", data=own / "fox.jsonl")
    assert right in whole
    (tmp_path / "mine.yaml").write_text(whole.replace(right, wrong))
    with pytest.raises(Refusal, match=said) as caught:
        lm_eval_tasks.read(["mine"], tmp_path, chat=False, tokenizer=None)
    assert caught.value.setting == "include_path"
    assert str(tmp_path / "mine.yaml") in str(caught.value)


def test_a_task_that_runs_code_is_refused_before_its_data_are_asked_for(
    own: Path, tmp_path: Path
) -> None:
    whole = CHOICE.format(name="mine", data="/nowhere.jsonl")
    (tmp_path / "mine.yaml").write_text(whole + "unsafe_code: true\n")
    with pytest.raises(Refusal, match="tasks=mine: runs code that the model writes, which is not"):
        lm_eval_tasks.read(["mine"], tmp_path, chat=False, tokenizer=None)


def test_a_token_that_the_model_does_not_know_is_found_before_any_cell_runs(
    words: list[str], chatty: Path, frozen: Frozen, tmp_path: Path
) -> None:
    """In a question, or in the template in which it is put."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(chatty)
    tokenizer.add_tokens(["Zyx"])
    tokenizer.add_tokens(["<user>"], special_tokens=True)
    tokenizer.save_pretrained(chatty)
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    for name, animal in (("known", "fox"), ("strange", "Zyx")):
        row = {"question": f"The {animal} ran to the", "choices": ["b", "c"], "label": 0}
        (tasks / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
        text = CHOICE.format(name=name, data=tasks / f"{name}.jsonl")
        (tasks / f"{name}.yaml").write_text(text)

    def planned(task: str, chat: bool) -> Any:
        model = ("model=local", f"model.path={chatty}", "corpora=embedded", "seqlen=256")
        asked = {"tasks": f"[{task}]", "include_path": tasks, "apply_chat_template": chat}
        given = [f"metric.lm_eval.{name}={value}" for name, value in asked.items()]
        return plan([frozen(*words, *model, *given)], Workshop(Progress()))

    with pytest.raises(
        Refusal, match=r"model.path=.*: its tokenizer makes .* \('.?Zyx'\) of stran"
    ):
        planned("strange", False)
    with pytest.raises(Refusal, match=r"its tokenizer makes .* \('<user>'\) of known"):
        planned("known", True)
    assert planned("known", False).todo


@pytest.mark.parametrize(
    ("of_the_task", "asked", "given"),
    [(0, 5, 0), (None, 5, 5), (3, 5, 5), (3, 0, 0), (3, None, 3), (None, None, 0), (0, None, 0)],
)
def test_a_task_that_wants_no_examples_keeps_none_whatever_is_asked_for(
    of_the_task: int | None, asked: int | None, given: int
) -> None:
    class Inner:
        config: ClassVar[dict[str, Any]] = {}

        def set_config(self, *, key: str, value: Any) -> None:
            self.config[key] = value

        def set_fewshot_seed(self, *, seed: int) -> None:
            self.config["seed"] = seed

    lm_eval_tasks.Task("x", Inner(), {}, shots=of_the_task, num_fewshot=asked).set_shots()
    assert Inner.config == {"num_fewshot": given, "seed": 1234}


def test_one_task_needs_no_brackets(frozen: Frozen, own: Path) -> None:
    rest = ("metric=[lm_eval]", f"metric.lm_eval.include_path={own}")
    bare, listed = (
        make(frozen(f"metric.lm_eval.tasks={tasks}", *rest), fingerprint)
        for tasks in ("fox", "[fox]")
    )
    assert bare.parts.metrics["lm_eval"].tasks == ("fox",)  # type: ignore[attr-defined]
    assert bare.metric_id("lm_eval") == listed.metric_id("lm_eval")
