"""A real pretrained model on real instructions and real prose, by the public command."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon

from tests.commands import forked

LENGTH, WINDOWS = 128, 6
QUESTIONS = 12


def swept(real: Path, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """The cell's folder, and the results of its metrics by name."""
    text = real / "text"
    words = [
        "model=local",
        f"model.path={real / 'stories260K'}",
        "method=wanda",
        "calib=local",
        f"calib.path={text / 'seed_tasks.jsonl'}",
        "calib.n_samples=32",
        f"seqlen={LENGTH}",
        "metric=[perplexity,divergence,tasks]",
        "metric.perplexity.source=local",
        f"metric.perplexity.path={text / 'wikitext2-test.txt'}",
        f"metric.perplexity.n_samples={WINDOWS}",
        "metric.divergence.seqlen=512",
        "metric.tasks.seqlen=512",
        "metric.tasks.max_new_tokens=8",
    ]
    for metric in ("divergence", "tasks"):
        words += [f"metric.{metric}.source=local", f"metric.{metric}.n_samples={QUESTIONS}"]
        words.append(f"metric.{metric}.path={text / 'user_oriented_instructions.jsonl'}")
    words += ["keep=model", "tracker=none", "report=table", f"outputs={tmp_path / 'outputs'}"]
    done = forked(*words)
    assert done.returncode == 0, done.stderr
    (cell,) = (tmp_path / "outputs" / "cells").glob("stories260K-wanda-50-local-*")
    files = (cell / "metrics").glob("*.json")
    return cell, {file.stem: json.loads(file.read_text()) for file in files}


def loaded(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


@torch.inference_mode()
def test_real_prose_and_instructions_measure_as_by_hand(real: Path, tmp_path: Path) -> None:
    """Perplexity, JSD over the responses, and answers, from the kept folder and the definitions."""
    cell, found = swept(real, tmp_path)
    model, tokenizer = loaded(cell / "model")
    dense, _ = loaded(real / "stories260K")
    whole = (real / "text" / "wikitext2-test.txt").read_text(encoding="utf-8")
    ids = torch.tensor(tokenizer(whole[: 40 * LENGTH * WINDOWS])["input_ids"])
    ids = ids[: LENGTH * WINDOWS].view(WINDOWS, LENGTH)
    losses = torch.nn.functional.cross_entropy(
        model(ids).logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()
    )
    value = found["perplexity"]["values"]["perplexity"]["value"]
    assert value == pytest.approx(math.exp(losses), rel=1e-4)

    rows = json.loads((cell / "compression.json").read_text())["calibration"]["data"]
    assert rows[0]["rows"] > 5
    assert found["divergence"]["values"]["jsd"]["value"] == pytest.approx(
        np.mean(_jsd(real, dense, model, tokenizer)), rel=1e-3
    )
    (generations,) = (cell / "generations").glob("tasks-*.jsonl")
    answers = [json.loads(line) for line in generations.read_text().splitlines()]
    assert answers
    for row in answers[:4]:
        asked = tokenizer(row["prompt"], return_tensors="pt")["input_ids"]
        said = model.generate(asked, max_new_tokens=8, do_sample=False)[0, asked.shape[1] :]
        assert tokenizer.decode(said, skip_special_tokens=True).strip() == row["answer"]


def _jsd(real: Path, dense: Any, model: Any, tokenizer: Any) -> list[float]:
    """Of every scored position: the response and the EOS behind it, up to 512 tokens."""
    found: list[float] = []
    lines = (real / "text" / "user_oriented_instructions.jsonl").read_text().splitlines()
    for line in lines[:QUESTIONS]:
        row = json.loads(line)
        first = row["instances"][0]
        more = "paired with an input that provides further context. " if first["input"] else ""
        head = f"Below is an instruction that describes a task{', ' + more if more else '. '}"
        asked = f"{head}Write a response that appropriately completes the request.\n\n"
        asked += f"### Instruction:\n{row['instruction']}\n\n"
        asked += f"### Input:\n{first['input']}\n\n" if first["input"] else ""
        asked += "### Response:\n"
        begin = len(tokenizer(asked)["input_ids"])
        ids = [*tokenizer(asked + first["output"])["input_ids"], tokenizer.eos_token_id][:512]
        both = (
            m(torch.tensor([ids])).logits[0].double().softmax(-1).numpy() for m in (dense, model)
        )
        p, q = both
        found += [jensenshannon(p[i], q[i]) ** 2 for i in range(begin - 1, len(ids) - 1)]
    return found
