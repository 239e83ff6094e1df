"""lm-evaluation-harness on the model in memory: its own numbers, and what is added to them."""

from __future__ import annotations

import copy
import json
import math
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from importlib.metadata import PackageNotFoundError
from math import exp, log
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import httpx
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from huggingface_hub.errors import HfHubHTTPError
from sklearn.metrics import f1_score, matthews_corrcoef
from transformers import PreTrainedTokenizerFast

from sweep import hub
from sweep.build import build
from sweep.cell import make
from sweep.files import Folder
from sweep.grid import sweep
from sweep.metric import harness, lm_eval_load, lm_eval_tasks
from sweep.metric.lm_eval import LmEval
from sweep.metric.lm_eval_values import _bounds
from sweep.metric.metric import Metric
from sweep.model.contents import fingerprint
from sweep.model.embedded import WEIGHTS
from sweep.numerics.bootstrap import interval
from sweep.plan import plan
from sweep.progress import Progress
from sweep.refusal import Refusal
from sweep.report.entries import Entry
from sweep.report.generations import exchanges
from sweep.workshop import Workshop
from tests.loopback_hub import LoopbackHub

pytest.importorskip("lm_eval")

Frozen = Callable[..., dict[str, Any]]

CHOICE = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
fewshot_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{label}}}}"
doc_to_choice: "{{{{choices}}}}"
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 3.0}}
"""
WORDS = """
task: words
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{question}}}}"
metric_list: [{{metric: word_perplexity}}, {{metric: bits_per_byte}}]
"""
SPOKEN = """
task: spoken
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["."], max_gen_toks: 6}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""
CONTEXTS = """
task: contexts
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: label
doc_to_target: rest
doc_to_choice: "{{{{begun}}}}"
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_mutual_info, aggregation: mean, higher_is_better: true}}
"""
GROUP = """
group: animals
task: [fox, dog]
aggregate_metric_list: [{metric: acc, weight_by_size: true}]
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with task files and data of one's own."""
    folder = tmp_path_factory.mktemp("own")
    words = (" river", " mill", " ship")
    for name, count in (("fox", 12), ("dog", 6)):
        rows = [
            {
                "question": f"The {name} number {i} ran to the",
                "choices": words,
                "label": i % 3,
                "answer": words[i % 3].strip(),
            }
            for i in range(count)
        ]
        data = folder / f"{name}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / f"{name}.yaml").write_text(CHOICE.format(name=name, data=data))
    for name, text in (("words", WORDS), ("spoken", SPOKEN)):
        (folder / f"{name}.yaml").write_text(text.format(data=folder / "fox.jsonl"))
    (folder / "animals.yaml").write_text(GROUP)
    return folder


@pytest.fixture
def words(own: Path) -> list[str]:
    """Of a command whose cells take a second."""
    return [
        "method=wanda",
        "calib.n_samples=4",
        "batch_size=4",
        "metric=[lm_eval]",
        "metric.lm_eval.tasks=[animals,words,spoken]",
        f"metric.lm_eval.include_path={own}",
    ]


def cell(tmp_path: Path, part: str) -> Path:
    (found,) = (tmp_path / "outputs" / "cells").glob(f"*{part}*")
    return found


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def folder(path: Path) -> Folder:
    return Folder(path.parent.parent, path.name)


def rows_of(folder: Path, task: str) -> Path:
    """The one file with the rows of a task."""
    (found,) = folder.glob(f"*/lm_eval-{task}.jsonl")
    return found


TURNS = (
    "{% for m in messages %}<{{ m.role }}> {{ m.content }} </{{ m.role }}>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture
def chatty(tmp_path: Path) -> Path:
    """The embedded model with a chat template."""
    folder = tmp_path / "chatty"
    shutil.copytree(WEIGHTS, folder)
    (folder / "chat_template.jinja").write_text(TURNS)
    return folder


COMMAND = """
import functools, json, sys, lm_eval.tasks as t
from lm_eval.__main__ import cli_evaluate
t.TaskManager.__init__ = functools.partialmethod(t.TaskManager.__init__, include_defaults=False)
for words in json.loads(sys.argv[1]):
    sys.argv[1:] = words; cli_evaluate()
"""
"""As `lm_eval run`; without an index of the 15,000 tasks that come with it, which takes seconds."""


def test_its_command_finds_the_same_on_the_exported_folder(
    words: list[str], own: Path, chatty: Path, frozen: Frozen, tmp_path: Path
) -> None:
    """To the last digit: scores, and every log-likelihood and answer behind them.

    With few-shot examples, plain and in a chat template.
    """
    shots = "metric.lm_eval.num_fewshot=2"
    sweep([frozen(*words, shots, "keep=model")])
    model = ("model=local", f"model.path={chatty}", "corpora=embedded", "seqlen=256")
    asked = (*words, *model, shots, "metric.lm_eval.apply_chat_template=true", "keep=model")
    sweep([frozen(*asked)])
    plain, chat = cell(tmp_path, "tiny-wanda"), cell(tmp_path, "chatty-wanda")

    def command(folder: Path) -> list[str]:
        command = ["run", "--model", "hf", "--model_args", f"pretrained={folder / 'model'}"]
        command += ["--tasks", "animals,words,spoken", "--include_path", str(own)]
        command += ["--num_fewshot", "2", "--batch_size", "4", "--device", "cpu"]
        return [*command, "--output_path", str(tmp_path / folder.name), "--log_samples"]

    in_chat = ["--apply_chat_template", "--fewshot_as_multiturn", "true"]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, json.dumps([command(plain), [*command(chat), *in_chat]])],
        env={
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": str(torch.get_num_threads()),
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for folder in (plain, chat):
        _are_the_same(folder, tmp_path / folder.name)
    prompts = [lines(rows_of(folder, "fox"))[0]["prompt"] for folder in (plain, chat)]
    assert "<user> " not in prompts[0]
    assert prompts[1].count("<user> ") == 3
    assert prompts[1].endswith("<assistant>")


def _are_the_same(folder: Path, out: Path) -> None:
    """A cell's result, and what the command has written."""
    found = json.loads((folder / "metrics" / "lm_eval.json").read_text())
    (file,) = out.rglob("results_*.json")
    theirs = json.loads(file.read_text())
    wanted = {
        f"{key.removesuffix(',none')}_{name}": value
        for of in ("results", "groups")
        for name, result in theirs[of].items()
        for key, value in result.items()
        if key.endswith(",none") and "_stderr" not in key
    }
    assert wanted.keys() == {
        "acc_fox",
        "acc_dog",
        "acc_animals",
        "word_perplexity_words",
        "bits_per_byte_words",
        "exact_match_spoken",
    }
    assert {name: found["values"][name]["value"] for name in found["columns"]} == wanted
    for name in ("fox", "dog", "words", "spoken"):
        (log_file,) = out.rglob(f"samples_{name}_*.jsonl")
        ours = lines(rows_of(folder, name))
        samples = sorted(lines(log_file), key=lambda sample: sample["doc_id"])
        assert [row["resps"] for row in ours] == [
            [[_number(part) for part in resp] for resp in sample["resps"]] for sample in samples
        ]
        for key in ("doc_hash", "prompt_hash", "target_hash"):
            assert [row[key] for row in ours] == [sample[key] for sample in samples]


def _number(part: Any) -> Any:
    """Its log has numbers as text."""
    if isinstance(part, list):
        return [_number(inner) for inner in part]
    if part in ("True", "False"):
        return part == "True"
    try:
        return float(part)
    except ValueError:
        return part


def test_what_is_no_number_is_no_answer(build: Any) -> None:
    """The harness would take it for one: nothing would have changed against dense."""
    model = build("llama")
    ids = torch.arange(6)[None]
    with harness._numbers(model):
        model(ids)
        model.model.layers[1].mlp.down_proj.weight.data[0] = math.inf
        with pytest.raises(FloatingPointError, match=r"NaN .*; block 1, model\.layers\.1"):
            model(ids)
    model(ids)  # nobody looks any more


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("logits", "refused"),
    [
        ([0.0, -2.0], False),
        ([0.0, -math.inf], False),  # a word that is never said
        ([-math.inf, -math.inf], False),
        ([0.0, math.inf], True),
        ([math.nan, 0.0], True),
        ([math.nan, math.inf], True),
        ([-math.inf, math.nan], True),
    ],
)
def test_logits_may_be_minus_infinity_and_no_other_that_is_no_number(
    logits: list[float], refused: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Says(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor) -> Any:
            return SimpleNamespace(logits=torch.tensor([[[1.0, 0.0], logits]], dtype=dtype))

    monkeypatch.setattr(harness, "culprit", lambda *_: "somewhere")
    model = Says()
    told = pytest.raises(FloatingPointError, match="somewhere") if refused else nullcontext()
    with harness._numbers(model), told:
        model(torch.arange(2)[None])


class TestResult:
    @pytest.fixture
    def done(self, words: list[str], frozen: Frozen, tmp_path: Path) -> Path:
        """The compressed cell's folder."""
        sweep([frozen(*words, "metric.lm_eval.limit=9")])
        return cell(tmp_path, "wanda")

    def test_rows_intervals_and_flips_are_of_the_answers(self, done: Path, tmp_path: Path) -> None:
        values = json.loads((done / "metrics" / "lm_eval.json").read_text())["values"]
        rows = lines(rows_of(done, "fox"))
        dense = lines(rows_of(cell(tmp_path, "dense"), "fox"))
        assert len(rows) == values["acc_fox"]["n"] == 9
        now, then = ([row["acc"] for row in of] for of in (rows, dense))
        assert [row["dense_acc"] for row in rows] == then
        assert values["acc_fox"]["value"] == pytest.approx(np.mean(now))
        assert values["acc_fox"]["low"] <= values["acc_fox"]["value"] <= values["acc_fox"]["high"]
        assert values["acc_fox"]["better"] == "higher"
        assert values["acc_fox"]["mean"]["corpus"] == "fox"
        flips = [a != b for a, b in zip(now, then, strict=True)]
        assert values["flips_acc_fox"]["value"] == pytest.approx(np.mean(flips))
        lost = [a < b for a, b in zip(now, then, strict=True)]
        assert values["right_to_wrong_acc_fox"]["value"] == pytest.approx(np.mean(lost))
        assert values["acc_animals"]["n"] == 9 + 6

    def test_answers_are_shown_beside_gold_and_the_dense_ones(self, done: Path) -> None:
        assert {file.parent.name for file in done.glob("*/lm_eval-*.jsonl")} == {
            "generations",
            "metrics",  # of the task that only measures a text
        }
        for row in lines(rows_of(done, "fox")):
            likely = [ll for ((ll, _),) in row["resps"]]
            assert row["answer"] == row["doc"]["choices"][likely.index(max(likely))].strip()
            assert row["gold"] == row["doc"]["choices"][row["doc"]["label"]].strip()
            assert (row["answer"] == row["gold"]) == bool(row["acc"]) == bool(row["right"])
            assert f" {row['dense_answer']}" in row["doc"]["choices"]
            assert row["prompt"].endswith(row["doc"]["question"])
        for row in lines(rows_of(done, "spoken")):
            assert row["answer"] == row["resps"][0][0]
            assert row["gold"] == row["doc"]["answer"]
        entry = Entry("x", "x", {"compresses": True}, {"lm_eval": self.id(done)}, {}, folder(done))
        shown, total, _ = exchanges([entry], 100)
        assert total == 9 + 6 + 9
        flips = [row["acc"] != row["dense_acc"] for row in lines(rows_of(done, "fox"))]
        assert sum(bool(one.flip) for one in shown if one.corpus == "fox") == sum(flips)
        assert all(set(one.scores) <= {"acc", "exact_match"} for one in shown)

    def id(self, done: Path) -> str:
        return str(json.loads((done / "metrics" / "lm_eval.json").read_text())["settings_id"])

    def test_a_perplexity_has_the_interval_of_its_words(self, done: Path) -> None:
        values = json.loads((done / "metrics" / "lm_eval.json").read_text())["values"]
        pairs = [row["word_perplexity"] for row in lines(rows_of(done, "words"))]
        found = values["word_perplexity_words"]
        assert found["value"] == pytest.approx(
            exp(-sum(ll for ll, _ in pairs) / sum(count for _, count in pairs))
        )
        each = [exp(-ll / count) for ll, count in pairs]
        assert min(each) <= found["low"] < found["value"] < found["high"] <= max(each)
        assert found["better"] == "lower"
        bits = values["bits_per_byte_words"]
        assert bits["low"] < bits["value"] < bits["high"]
        assert bits["value"] == pytest.approx(-sum(ll for ll, _ in pairs) / (9 * 27) / log(2), 0.05)

    def test_what_was_asked_is_recorded(self, done: Path) -> None:
        record = json.loads((done / "metrics" / "lm_eval.json").read_text())
        fox = next(data for data in record["data"] if data["corpus"] == "fox")
        assert fox["version"] == 3.0
        assert fox["rows"] == 9
        assert fox["of"] == 12
        assert fox["num_fewshot"] == 0
        assert fox["revision"].startswith(lm_eval_tasks.installed() + "+")
        assert fox["seeds"] == {"random": 0, "numpy": 1234, "torch": 1234, "fewshot": 1234}
        assert len({data["sha256"] for data in record["data"]}) == len(record["data"])

    def test_what_the_dense_cell_keeps_is_not_asked_again(
        self,
        done: Path,
        words: list[str],
        frozen: Frozen,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        asked: list[float] = []
        evaluate = harness.evaluate

        def counted(subject: Any, *args: Any, **given: Any) -> Any:
            weight = subject.model.model.layers[0].mlp.up_proj.weight
            asked.append(float((weight == 0).float().mean()))
            return evaluate(subject, *args, **given)

        monkeypatch.setattr(harness, "evaluate", counted)
        sweep([frozen(*words[1:], "method=magnitude", "metric.lm_eval.limit=9")])
        assert asked == [pytest.approx(0.5, abs=0.02)]  # of the compressed model only
        wanda, magnitude = (
            [r["dense_acc"] for r in lines(rows_of(cell(tmp_path, m), "fox"))]
            for m in ("wanda", "magnitude")
        )
        assert wanda == magnitude


@pytest.fixture
def asked(subject: Any, build: Any, tokenizer: Any) -> Callable[..., Any]:
    """A random model's result for these tasks of a folder, against itself."""

    def asked(folder: Path, *tasks: str) -> Any:
        metric = LmEval(tasks=tasks, include_path=str(folder))
        data = metric.load(tokenizer)
        made = subject(build(vocab_size=len(tokenizer)))
        return metric.measure(made, made, data)

    return asked


@pytest.mark.parametrize("chat", [False, True])
def test_kept_rows_are_of_the_same_prompts_not_only_of_the_same_questions(
    subject: Any, build: Any, tokenizer: Any, own: Path, chat: bool
) -> None:
    """A chat template may have a date in it."""
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = TURNS
    asked = ("animals", "words", "spoken")
    metric = LmEval(asked, str(own), num_fewshot=2, limit=4, apply_chat_template=chat)
    data = metric.load(tokenizer)
    dense = subject(build(vocab_size=len(tokenizer)), tokenizer=tokenizer)
    kept = metric._rows(dense, data)
    assert metric._kept(metric.load(tokenizer), kept) is kept
    tokenizer.chat_template = TURNS.replace("<assistant>", "<today>")
    others = metric._kept(metric.load(tokenizer), kept)
    assert others is (None if chat else kept)


def test_where_the_choices_are_contexts_answer_and_gold_are_the_likelier_and_the_marked_one(
    asked: Callable[..., Any], tmp_path: Path
) -> None:
    """Not the text that follows them all; nor is a choice without its context one more."""
    data = tmp_path / "contexts.jsonl"
    rows = [
        {"label": i % 2, "rest": "was hungry.", "begun": [f"The dog {i} saw the {x}" for x in who]}
        for i, who in enumerate([("fox", "foal"), ("old ship", "mill")] * 4)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "contexts.yaml").write_text(CONTEXTS.format(data=data))
    found = asked(tmp_path, "contexts").examples["contexts"]
    assert {row["acc"] for row in found} == {0.0, 1.0}
    for i, row in enumerate(found):
        said = [f"{x} was hungry." for x in (("fox", "foal"), ("old ship", "mill"))[i % 2]]
        likely = [ll for ((ll, _),) in row["resps"][:2]]
        assert row["prompt"] == f"The dog {i} saw the"
        assert row["gold"] == said[i % 2]
        assert row["answer"] == said[likely.index(max(likely))]
        assert (row["answer"] == row["gold"]) == bool(row["acc"])


def test_a_group_has_the_interval_and_the_flips_of_its_tasks_rows_together(
    subject: Any, build: Any, tokenizer: Any, own: Path
) -> None:
    metric = LmEval(tasks=("animals",), include_path=str(own))
    data = metric.load(tokenizer)
    made, dense = (subject(build(vocab_size=len(tokenizer))) for _ in range(2))
    kept = {
        name: [{**row, "acc": 1 - row["acc"]} if i < 2 else row for i, row in enumerate(rows)]
        for name, rows in metric._rows(made, data).items()
    }
    metric.prepare(dense, data, kept)
    found = metric.measure(made, dense, data)
    scores = np.array([row["acc"] for name in ("fox", "dog") for row in found.examples[name]])
    value, flips = found.values["acc_animals"], found.values["flips_acc_animals"]
    assert value.value == pytest.approx(scores.mean())
    assert (value.low, value.high) == interval(scores, np.ones(12 + 6), (0.0, 1.0))
    assert value.mean is None  # there is no file of its rows
    assert flips.value == pytest.approx((2 + 2) / (12 + 6))
    assert value.n == flips.n == 12 + 6


def test_a_group_that_counts_its_tasks_alike_whatever_their_size_has_no_interval(
    asked: Callable[..., Any], own: Path, tmp_path: Path
) -> None:
    """Their rows together would have another value."""
    for name in ("fox", "dog"):
        shutil.copy(own / f"{name}.yaml", tmp_path)
    (tmp_path / "animals.yaml").write_text(GROUP.replace("true", "false"))
    values = asked(tmp_path, "animals").values
    of_tasks = [values[f"acc_{name}"].value for name in ("fox", "dog")]
    assert values["acc_animals"].value == pytest.approx(np.mean(of_tasks))
    assert values["acc_animals"].low is None
    assert "flips_acc_fox" in values
    assert "flips_acc_animals" not in values


PAIRED = """
task: paired
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{label}}}}"
doc_to_choice: "{{{{choices}}}}"
metric_list:
  - {{metric: f1}}
  - {{metric: mcc}}
  - {{metric: acc}}
"""


def test_what_makes_a_value_of_rows_is_known_by_its_name_and_not_by_their_numbers(
    asked: Callable[..., Any], tmp_path: Path
) -> None:
    """Of F1 a row is a class and an answer, which might be the sum of a number of words."""
    data = tmp_path / "paired.jsonl"
    words = [["river", "mill"], ["mill", "river"]]
    rows = [
        {"question": f"The fox {i} ran to the", "choices": words[i % 2], "label": i % 3 % 2}
        for i in range(24)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "paired.yaml").write_text(PAIRED.format(data=data))
    found = asked(tmp_path, "paired")
    gold, said = np.array([row["f1"] for row in found.examples["paired"]]).T
    tasks = LmEval(tasks=("paired",), include_path=str(tmp_path)).load(None)
    names = {name: tasks["paired"].aggregation(name) for name in ("f1", "mcc", "acc", "none")}
    assert names == {"f1": "f1", "mcc": "matthews_corrcoef", "acc": "mean", "none": "mean"}
    f1, mcc = found.values["f1_paired"], found.values["mcc_paired"]
    assert f1.value == pytest.approx(2 * (gold * said).sum() / (gold + said).sum())
    assert f1.low < f1.value < f1.high
    assert mcc.low < mcc.value < mcc.high
    assert f1.mean is None


class TestInterval:
    """Against samples drawn one by one, and scored by scikit-learn."""

    @pytest.fixture
    def drawn(self) -> tuple[Any, list[Any]]:
        rng = np.random.default_rng(3)
        gold = rng.random(300) < 0.3
        pairs = np.stack([gold, gold ^ (rng.random(300) < 0.15)], axis=1).astype(int)
        return pairs, [pairs[rng.integers(0, 300, 300)] for _ in range(600)]

    @pytest.mark.parametrize(
        ("name", "score"), [("f1", f1_score), ("matthews_corrcoef", matthews_corrcoef)]
    )
    def test_is_that_of_a_bootstrap(
        self, drawn: tuple[Any, list[Any]], name: str, score: Callable[..., float]
    ) -> None:
        pairs, samples = drawn
        ends = np.quantile([score(*sample.T) for sample in samples], [0.025, 0.975])
        assert _bounds(pairs.tolist(), name) == pytest.approx(tuple(ends), abs=0.015)

    def test_of_few_rows_f1_is_of_those_that_are_called_positive(self) -> None:
        """What nobody calls so is no evidence, and where nothing is called so there is none."""
        perfect = _bounds([[1, 1]] * 20, "f1")
        assert _bounds([[1, 1]] * 20 + [[0, 0]] * 80, "f1") == perfect
        least = 0.025 ** (1 / 20)  # of a share of 20 that are all right: Clopper and Pearson
        assert perfect == pytest.approx((2 * least / (1 + least), 1.0), abs=1e-3)
        none = _bounds([[1, 0]] * 20, "f1")
        assert none[0] == 0
        assert 0 < none[1] < 0.5
        assert _bounds([[0, 0]] * 20, "f1") == (None, None)

    def test_of_one_class_alone_there_is_no_correlation(self) -> None:
        assert _bounds([[1, 1]] * 20, "matthews_corrcoef") == (None, None)

    def test_of_a_tasks_own_function_or_of_other_classes_there_is_none(self) -> None:
        assert _bounds([1.0, 0.0, 1.0], None) == (None, None)
        assert _bounds([[2, 1], [0, 2]], "f1") == (None, None)
        assert _bounds([["a", "b"]], "f1") == (None, None)


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
