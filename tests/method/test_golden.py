"""The published code's results on a real pretrained model, which this code must reproduce."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sweep.method.magnitude import Magnitude
from sweep.method.method import Method
from sweep.method.sparsegpt import SparseGPT
from sweep.method.walk import walk
from sweep.method.wanda import Wanda
from sweep.sparsity.n_of_m import NofM
from sweep.sparsity.pattern import Pattern
from sweep.sparsity.unstructured import Unstructured
from tests.readme_tables import published


@pytest.mark.parametrize(
    ("name", "method", "pattern"),
    [
        ("magnitude-u50", Magnitude(), Unstructured(0.5)),
        ("wanda-u50", Wanda(), Unstructured(0.5)),
        ("wanda-2of4", Wanda(), NofM(2, 4)),
        ("sparsegpt-u50", SparseGPT(), Unstructured(0.5)),
        ("sparsegpt-2of4", SparseGPT(), NofM(2, 4)),
    ],
)
def test_masks_and_perplexity_are_those_of_the_published_code(
    real: Path, name: str, method: Method, pattern: Pattern
) -> None:
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    tokens = load_file(real / "golden" / "tokens.safetensors")
    ids = tokens["calibration_seed0"]
    model = AutoModelForCausalLM.from_pretrained(real / "stories260K", dtype=torch.float32)
    records = walk(model, method, pattern, windows=(ids, torch.ones_like(ids, dtype=torch.bool)))

    golden = load_file(real / "golden" / f"{name}-seed0.safetensors")
    weights = dict(model.named_parameters())
    assert sorted(golden) == sorted(f"{record.name}.weight" for record in records)
    same = sum(int(((weights[key] == 0) == (own == 0)).sum()) for key, own in golden.items())
    assert same >= 0.999 * sum(own.numel() for own in golden.values())

    numbers = json.loads((real / "golden" / "golden.json").read_text())
    expected = next(entry for entry in numbers if entry["name"] == f"{name}-seed0")
    ours = perplexity(model, tokens["evaluation"])
    assert ours == pytest.approx(expected["perplexity"], rel=0.005)
    assert published()[name].perplexity == pytest.approx(ours, rel=5e-4)  # as it is printed


def test_the_readmes_table_has_the_numbers_of_the_published_codes_weights(real: Path) -> None:
    entries = json.loads((real / "golden" / "golden.json").read_text())
    table = published()
    assert {entry["name"].removesuffix("-seed0") for entry in entries} == table.keys()
    for entry in entries:
        shown = table[entry["name"].removesuffix("-seed0")]
        assert shown.its_perplexity == pytest.approx(entry["perplexity"], rel=5e-4)
        # at the positions that are scored: after the last token of a window there is none
        assert shown.its_jsd == pytest.approx(entry["jsd_nats_first_255"], abs=6e-5)
        assert shown.jsd == pytest.approx(shown.its_jsd, abs=1e-4)


def perplexity(model: Any, ids: Tensor) -> float:
    with torch.no_grad():
        log_probabilities = model(ids).logits[:, :-1].log_softmax(dim=-1)
    return float(log_probabilities.gather(-1, ids[:, 1:, None]).mean().neg().exp())
