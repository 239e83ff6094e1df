"""Bytes that a model takes on disk, known whether or not it is written there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweep import size
from sweep.grid import sweep
from sweep.model import saved


@pytest.mark.parametrize(
    "family", ["llama", "gpt2", "mixtral", "qwen3_moe", "gpt_oss", "gemma3_text", "gemma3"]
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_headers_of_a_model_are_those_of_its_files(
    build: Callable[..., Any], family: str, dtype: str, tmp_path: Path
) -> None:
    """Names, types and shapes, experts and tied heads included."""
    model = build(family)
    model = model.bfloat16() if dtype == "bfloat16" else model
    model.save_pretrained(tmp_path)
    assert saved.headers(model) == {
        name: {"dtype": tensor["dtype"], "shape": tensor["shape"]}
        for name, tensor in size.headers(tmp_path).items()
    }


@pytest.mark.parametrize("load", ["whole", "stream"])
def test_a_cells_record_says_what_its_model_would_take(
    load: str, frozen: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    few = ("metric=[perplexity]", "metric.perplexity.n_samples=2", f"model.load={load}")
    sweep([frozen("method=magnitude", *few, "keep=model")])
    for cell in (tmp_path / "outputs" / "cells").iterdir():
        compression = json.loads((cell / "compression.json").read_text())
        assert compression["bytes"]["dense"] > 7_000_000
        if (cell / "model").is_dir():
            found = size.of_model(cell / "model", compression["layers"])
            assert compression["bytes"] == {"dense": found.dense, "bitmask": found.bitmask}
        else:
            assert compression["bytes"]["dense"] == compression["bytes"]["bitmask"]


def test_a_linear_under_another_name_has_the_type_of_most_matrices() -> None:
    """Norms and routers in float32 beside weights in bfloat16."""
    tensors = {
        "a.norm.weight": {"dtype": "F32", "shape": [64]},
        "a.router.weight": {"dtype": "F32", "shape": [4, 8]},
        "a.stored.weight": {"dtype": "BF16", "shape": [8, 8]},
    }
    layers = [{"name": "a.called", "shape": [8, 8], "zeros": 32}]
    found = size.of_tensors(tensors, layers)
    assert found.dense == 64 * 4 + 32 * 4 + 64 * 2
    assert found.linears_dense == 64 * 2
    assert found.linears_bitmask == size.bitmask_bytes((8, 8), 32, 2)
