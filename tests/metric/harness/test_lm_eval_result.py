"""lm-evaluation-harness on the model in memory: its own numbers, and what is added to them."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from contextlib import nullcontext
from math import exp, log
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from sweep.grid import sweep
from sweep.metric import harness, lm_eval_tasks
from sweep.report.entries import Entry
from sweep.report.generations import exchanges
from tests.own_tasks import COMMAND, Frozen, cell, cell_folder, lines, rows_of

pytest.importorskip("lm_eval")


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
        entry = Entry(
            "x", "x", {"compresses": True}, {"lm_eval": self.id(done)}, {}, cell_folder(done)
        )
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
