"""The whole command in half precision: what comes out is close to what float32 gives."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sweep.grid import sweep

TOLERANCE = 0.01
"""Relative, of perplexities: bfloat16 keeps three digits of a weight. Measured: 0.002."""

DIVERGENCE = 0.25
"""Relative, of the divergence from dense on so few tokens. Measured: 0.15."""

WORDS = (
    "method=sparsegpt",
    "calib.n_samples=4",
    "calib.seqlen=64",
    "metric.perplexity.n_samples=4",
    "metric.divergence.n_samples=16",
    "metric.tasks.n_samples=8",
    "metric.tasks.source=alpaca",
    "metric.tasks.max_new_tokens=24",
    "seqlen=128",
    "keep=model",
    "tracker=none",
    "report=table",
)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a sweep of a dtype: dense and SparseGPT, calibrated and measured on little."""
    from hydra import compose, initialize_config_dir

    from sweep.config import CONF, freeze

    outputs = tmp_path_factory.mktemp("dtypes")

    def swept(dtype: str) -> Path:
        folder = outputs / dtype
        if not folder.exists():
            with initialize_config_dir(str(CONF), version_base="1.3"):
                words = [f"outputs={folder}", f"model.dtype={dtype}", *WORDS]
                config = compose("config", words, return_hydra_config=True)
                frozen = freeze(config, config.hydra.runtime.choices, words)
            sweep([frozen])
        return folder

    return swept


def cell(outputs: Path, part: str) -> Path:
    (folder,) = (outputs / "cells").glob(f"*{part}*")
    return folder


def values(folder: Path) -> dict[str, float]:
    return {
        name: value["value"]
        for file in (folder / "metrics").glob("*.json")
        for name, value in json.loads(file.read_text())["values"].items()
    }


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("part", ["dense", "sparsegpt"])
def test_the_whole_command_in_half_precision_gives_what_float32_gives(
    swept: Callable[[str], Path], dtype: str, part: str
) -> None:
    found, wanted = values(cell(swept(dtype), part)), values(cell(swept("float32"), part))
    assert found.keys() == wanted.keys()
    assert all(map(math.isfinite, found.values()))
    assert found["perplexity"] == pytest.approx(wanted["perplexity"], rel=TOLERANCE)
    assert found["perplexity_dense"] == pytest.approx(wanted["perplexity_dense"], rel=TOLERANCE)
    assert found["jsd"] == pytest.approx(wanted["jsd"], rel=DIVERGENCE)
    assert (found["jsd"] == 0) == (part == "dense")
    assert abs(found["em"] - wanted["em"]) <= 1 / 8  # one of the answers
    assert found["em"] >= 0.75


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_model_in_half_precision_is_pruned_as_exactly_and_kept_as_it_is(
    swept: Callable[[str], Path], dtype: str
) -> None:
    """The same number of zeros; the masks differ where rounding decides."""
    folder, whole = cell(swept(dtype), "sparsegpt"), cell(swept("float32"), "sparsegpt")
    one, other = (json.loads((f / "compression.json").read_text()) for f in (folder, whole))
    zeros = [[layer["zeros"] for layer in record["layers"]] for record in (one, other)]
    assert zeros[0] == zeros[1]
    kept = load_file(folder / "model" / "model.safetensors")
    dense = load_file(whole / "model" / "model.safetensors")
    assert {tensor.dtype for tensor in kept.values()} == {getattr(torch, dtype)}
    for layer in one["layers"]:
        name = f"{layer['name']}.weight"
        same = ((kept[name] == 0) == (dense[name] == 0)).float().mean()
        assert same > 0.95, name
