from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from sweep.grid import sweep
from sweep.model import anatomy
from sweep.model.embedded import WEIGHTS
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


def test_the_user_may_say_where_the_blocks_are(build: Callable[..., Any]) -> None:
    model = build()
    model.model.adapters = nn.ModuleList(nn.Linear(4, 4) for _ in range(5))  # a longer list
    assert anatomy.blocks(model) is model.model.adapters
    anatomy.tell(model, anatomy.Told("model.layers", None))
    assert anatomy.blocks(model) is model.model.layers
    assert list(anatomy.prunable(model)) == LLAMA_NAMES


def test_the_user_may_keep_matrices_dense(build: Callable[..., Any]) -> None:
    model = build()
    anatomy.tell(model, anatomy.Told(None, r"layers\.0\.|down_proj"))
    kept = [n for n in LLAMA_NAMES if ".0." in n or "down_proj" in n]
    assert list(anatomy.prunable(model)) == [n for n in LLAMA_NAMES if n not in kept]
    assert list(anatomy.matrices(model)) == LLAMA_NAMES


@pytest.mark.parametrize(
    ("blocks", "dense", "said"),
    [
        (
            "model.blocks",
            None,
            "blocks=model.blocks: is no torch.nn.ModuleList of LlamaForCausalLM; it has model.lay",
        ),
        ("model.norm", None, "blocks=model.norm: is no torch.nn.ModuleList of LlamaForCausalLM"),
        (None, "(", "dense=(: is no regular expression (missing )"),
        (None, "router", "dense=router: matches no matrix; give a regular expression over self_at"),
        (None, "", "dense=: matches every matrix; give a regular expression over self_attn.q_pro"),
    ],
)
def test_what_the_user_says_of_a_model_is_held_against_it(
    build: Callable[..., Any], blocks: str | None, dense: str | None, said: str
) -> None:
    with pytest.raises(Refusal) as caught:
        anatomy.tell(build(), anatomy.Told(blocks, dense))
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("load", ["whole", "stream"])
def test_what_is_kept_dense_is_what_it_was_and_all_else_is_pruned(
    load: str, frozen: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """In the whole command, and again from the model that was kept."""
    model = ("model=local", f"model.path={WEIGHTS}", "corpora=embedded", "seqlen=128")
    words = (*model, f"model.load={load}", "model.dense=down_proj", "method=magnitude")
    for metric in ("perplexity", "divergence"):
        of = ("keep=model", f"metric=[{metric}]", f"metric.{metric}.n_samples=2")
        sweep([frozen(*words, *of)])
    (cell,) = (tmp_path / "outputs" / "cells").glob("*magnitude*")
    assert {file.stem for file in (cell / "metrics").glob("*.json")} == {"perplexity", "divergence"}
    assert "compressed again" not in (cell / "log.txt").read_text()
    layers = json.loads((cell / "compression.json").read_text())["layers"]
    assert not [layer for layer in layers if "down_proj" in layer["name"]]
    kept: dict[str, torch.Tensor] = {}
    for file in (cell / "model").glob("*.safetensors"):
        kept |= load_file(file)
    for name, weight in load_file(WEIGHTS / "model.safetensors").items():
        if weight.dim() > 1 and ".layers." in name:
            zeros = float((kept[name] == 0).float().mean())
            if "down_proj" in name:
                assert torch.equal(kept[name], weight.float())
            else:
                assert zeros == pytest.approx(0.5, abs=1e-4), name
