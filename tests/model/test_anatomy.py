from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from sweep.model import anatomy
from sweep.refusal import Refusal

LLAMA_KINDS = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
]

LLAMA_NAMES = [f"model.layers.{block}.{kind}" for block in range(3) for kind in LLAMA_KINDS]


def test_the_linears_of_a_llama_are_found_in_order(build: Callable[..., Any]) -> None:
    model = build()
    linears = anatomy.prunable(model)
    assert list(linears) == LLAMA_NAMES
    assert linears["model.layers.1.mlp.up_proj"].module is model.model.layers[1].mlp.up_proj
    assert anatomy.blocks(model) is model.model.layers


def test_the_meta_device_is_enough(build: Callable[..., Any]) -> None:
    with torch.device("meta"):
        skeleton = build()
    linears = anatomy.prunable(skeleton)
    assert {name: linear.in_features for name, linear in linears.items()} == {
        name: 24 if name.endswith("down_proj") else 16 for name in LLAMA_NAMES
    }


@pytest.mark.parametrize(
    ("family", "attention", "mlp"),
    [
        ("gpt_neox", {"attention.query_key_value"}, {"mlp.dense_4h_to_h"}),
        ("falcon", {"self_attention.query_key_value"}, {"mlp.dense_4h_to_h"}),
        ("opt", {"self_attn.q_proj", "self_attn.out_proj"}, {"fc1", "fc2"}),
        ("gemma3_text", {"self_attn.q_proj", "self_attn.o_proj"}, {"mlp.down_proj"}),
    ],
)
def test_other_families_need_no_code(
    build: Callable[..., Any], family: str, attention: set[str], mlp: set[str]
) -> None:
    names = list(anatomy.prunable(build(family)))
    in_attention, in_mlp = anatomy.select(names, "attention"), anatomy.select(names, "mlp")
    for kinds, chosen in ((attention, in_attention), (mlp, in_mlp)):
        assert all(any(name.endswith(f".{kind}") for name in chosen) for kind in kinds)
    assert sorted(in_attention + in_mlp) == sorted(names)
    assert len(anatomy.blocks(build(family))) == 3


def test_lists_inside_blocks_are_not_taken_for_the_blocks() -> None:
    class Mixture(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = nn.ModuleList(nn.Linear(2, 2) for _ in range(9))

    model = nn.Module()
    model.heads = nn.ModuleList([nn.Linear(2, 2)])
    model.layers = nn.ModuleList([Mixture(), Mixture()])
    assert anatomy.blocks(model) is model.layers
    assert list(anatomy.prunable(model))[:2] == ["layers.0.experts.0", "layers.0.experts.1"]
    with pytest.raises(Refusal, match=r"expression over experts\.\*$"):
        anatomy.select(list(anatomy.prunable(model)), "attention")


def test_a_model_without_blocks_or_linears_is_refused() -> None:
    with pytest.raises(Refusal, match=r"Linear: has no torch\.nn\.ModuleList"):
        anatomy.blocks(nn.Linear(2, 2))
    model = nn.Module()
    model.layers = nn.ModuleList([nn.LayerNorm(2)])
    with pytest.raises(Refusal, match=r"has no linear layer"):
        anatomy.prunable(model)


@pytest.mark.parametrize(
    ("scope", "kinds"),
    [
        ("all", LLAMA_KINDS),
        ("attention", LLAMA_KINDS[:4]),
        ("mlp", LLAMA_KINDS[4:]),
        ("[qv]_proj", ["self_attn.q_proj", "self_attn.v_proj"]),
        (r"down_proj$", ["mlp.down_proj"]),
    ],
)
def test_a_scope_selects_by_name_in_order(scope: str, kinds: list[str]) -> None:
    expected = [name for name in LLAMA_NAMES if any(name.endswith(kind) for kind in kinds)]
    assert anatomy.select(LLAMA_NAMES, scope) == expected


def test_a_scope_may_name_one_block() -> None:
    assert anatomy.select(LLAMA_NAMES, r"layers\.1\.mlp") == [
        f"model.layers.1.{kind}" for kind in LLAMA_KINDS[4:]
    ]


@pytest.mark.parametrize("scope", ["atention", "[", ""])
def test_a_scope_that_cannot_work_names_what_there_is(scope: str) -> None:
    with pytest.raises(Refusal, match="all, attention, mlp") as refusal:
        anatomy.select(LLAMA_NAMES, scope)
    text = str(refusal.value)
    assert text.startswith(f"scope={scope}: ")
    assert all(text.count(kind) == 1 for kind in LLAMA_KINDS)


def test_a_router_is_known_by_its_name_and_its_size_beside_experts() -> None:
    class Mixture(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.router = nn.Linear(8, 3)
            self.shared_expert_gate = nn.Linear(8, 1)
            self.gate_proj = nn.Linear(8, 3)  # as large by chance
            self.gate = nn.Linear(8, 8)  # of something else
            self.experts = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

    model = nn.Module()
    model.layers = nn.ModuleList([Mixture(), Mixture()])
    kinds = [name.partition(".0.")[2] for name in anatomy.prunable(model) if ".0." in name]
    assert kinds == ["gate_proj", "gate", "experts.0", "experts.1", "experts.2"]
