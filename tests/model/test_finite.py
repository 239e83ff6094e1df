"""Where NaN comes from is told by block and layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from sweep.model.finite import culprit

IDS = torch.arange(3, 11)[None]


@pytest.mark.parametrize(
    ("family", "layer", "block"),
    [
        ("llama", "model.layers.1.mlp.up_proj", 1),
        ("gpt2", "transformer.h.2.attn.c_proj", 2),
        ("gemma3", "model.language_model.layers.0.self_attn.k_proj", 0),
    ],
)
def test_a_weight_that_is_no_number_is_found(
    build: Callable[..., Any], family: str, layer: str, block: int
) -> None:
    model = build(family)
    with torch.no_grad():
        model.get_submodule(layer).weight[0, 0] = float("nan")
    assert culprit(model, IDS) == f"block {block}, {layer} makes the first of them"
    assert not any(module._forward_hooks for module in model.modules())


def test_outputs_that_overflow_are_found(build: Callable[..., Any]) -> None:
    model = build().to(torch.float16)
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight.fill_(6e4)
        model.model.layers[1].mlp.up_proj.weight.fill_(1e3)
    said = culprit(model, IDS)
    assert "block 1, model.layers.1.mlp." in said
    assert said.endswith("of them; try model.dtype=bfloat16 or float32")
    assert "dtype" not in culprit(model.bfloat16(), IDS)


def test_what_begins_between_two_layers_is_what_the_second_one_is_fed(
    build: Callable[..., Any],
) -> None:
    model = build("gpt2", attn_implementation="eager")
    model.transformer.h[1].attn.scaling = float("nan")
    said = "block 1, transformer.h.1.attn.c_proj is fed the first of them"
    assert culprit(model, IDS) == said


def test_the_head_is_in_no_block(build: Callable[..., Any]) -> None:
    model = build()
    with torch.no_grad():
        model.lm_head.weight[0] = float("inf")
    assert culprit(model, IDS) == "lm_head makes the first of them"


def test_where_there_is_nothing_it_says_so(build: Callable[..., Any]) -> None:
    assert culprit(build(), IDS, torch.ones_like(IDS, dtype=torch.bool)).startswith("run again")
