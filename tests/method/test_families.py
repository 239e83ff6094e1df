"""Every family of models goes through every method, and comes out as if it were done by hand.

The oracle knows the families and nothing of `sweep.model`: it finds the matrices by the modules of
transformers, feeds them by plain forward passes of the whole model, and writes what the method
makes of them into the state dict.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, final

import pytest
import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from sweep.method.magnitude import Magnitude
from sweep.method.method import Compressed, Layer, Method
from sweep.method.sparsegpt import SparseGPT
from sweep.method.walk import UNSEEN, walk
from sweep.method.wanda import Wanda
from sweep.model import anatomy
from sweep.numerics.moments import SecondMoment, Statistic
from sweep.refusal import Refusal
from sweep.sparsity.n_of_m import NofM
from sweep.sparsity.pattern import Pattern
from sweep.sparsity.unstructured import Unstructured

Build = Callable[..., Any]
Windows = tuple[Tensor, Tensor]

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"tie_word_embeddings": True},  # GQA, as all below that have `num_key_value_heads`
    "qwen3": {},  # norms of queries and keys
    "mistral": {},  # sliding window
    "gemma3_text": {},  # local and global blocks, tied embeddings
    "gemma3": {},  # the same inside a model that also sees
    "phi3": {},  # fused q, k, v; fused gate and up
    "opt": {},  # positions with an offset
    "gpt_neox": {},  # fused q, k, v; parallel residual
    "gpt2": {},  # Conv1D
    "mixtral": {},  # experts
    "qwen3_moe": {},
    "qwen2_moe": {},  # and a shared one
    "gpt_oss": {},  # experts that are kept [in, out], with biases; attention sinks
}
PATTERNS = [Unstructured(0.5), NofM(2, 4)]


def shown(ids: Tensor, lengths: list[int]) -> Tensor:
    return torch.arange(ids.shape[1]) < torch.tensor(lengths)[:, None]


MLA = {
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 8,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
}
MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 4, "mamba_d_state": 8, "mamba_n_groups": 1}
LOCAL = {"layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": 4}

OTHERS: dict[str, dict[str, Any]] = {
    "bamba": {**MAMBA, "attn_layer_indices": [1]},
    "bloom": {},
    "codegen": {"rotary_dim": 2, "n_inner": 24},
    "cohere2": {},
    "deepseek_v3": {**MLA, "num_key_value_heads": 4},
    "ernie4_5": {},
    "exaone4": {},
    "falcon": {},
    "gemma2": {},
    "gemma3n_text": {
        **LOCAL,
        "head_dim": 4,
        "num_hidden_layers": 4,
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": 40,
        "num_kv_shared_layers": 2,
        "laurel_rank": 4,
        "activation_sparsity_pattern": [0.0] * 4,
    },
    "glm4": {"head_dim": 4},
    "gpt_bigcode": {"n_inner": 24},
    "gpt_neo": {"num_heads": 4, "attention_types": [[["global", "local", "global"], 1]]},
    "gptj": {"rotary_dim": 2, "n_inner": 24},
    "granite": {},
    "granitemoe": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "granitemoehybrid": {
        **MAMBA,
        "num_hidden_layers": 2,
        "layer_types": ["mamba", "attention"],
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "shared_intermediate_size": 8,
    },
    "lfm2_moe": {
        "num_hidden_layers": 2,
        "layer_types": ["conv", "full_attention"],
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 8,
        "num_dense_layers": 1,
    },
    "minimax": {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 4},
    "modernbert-decoder": {"global_attn_every_n_layers": 2, "local_attention": 4},
    "mpt": {"d_model": 16, "n_heads": 4, "n_layers": 2},
    "nemotron": {},
    "olmo2": {},
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
    "openai-gpt": {},
    "phi": {},
    "phimoe": {"num_local_experts": 4},
    "qwen3_next": {
        "num_hidden_layers": 2,
        "layer_types": ["linear_attention", "full_attention"],
        "head_dim": 4,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 8,
        "shared_expert_intermediate_size": 8,
        "linear_num_value_heads": 4,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
    },
    "smollm3": {},
    "stablelm": {},
    "starcoder2": {},
    "xglm": {"d_model": 16, "ffn_dim": 24, "attention_heads": 4, "num_layers": 3},
}
"""Further families, so that what is said of all of them is said of many."""


# the oracle


@dataclass(frozen=True)
class Place:
    """Where a matrix stands in the state dict."""

    key: str
    turned: bool = False
    expert: int | None = None
    half: str | None = None

    def of(self, state: Mapping[str, Tensor]) -> Tensor:
        whole = state[self.key] if self.expert is None else state[self.key][self.expert]
        if self.half is None:
            return whole.T if self.turned else whole
        number = ("gate", "up").index(self.half)
        if self.turned:  # GPT-OSS: a column of the gate, a column of the projection up, and so on
            return whole.unflatten(1, (-1, 2))[..., number].T
        return whole.chunk(2)[number]


def places(model: Any) -> dict[str, Place]:
    """All matrices of the text model's blocks, by the modules of transformers."""
    found: dict[str, Place] = {}
    state = model.state_dict()
    for name, module in model.named_modules():
        if not re.search(r"(layers|h)\.\d+\.", name) or "vision" in name:
            continue
        if isinstance(module, nn.Linear) and not name.endswith("shared_expert_gate"):
            found[name] = Place(f"{name}.weight")
        elif isinstance(module, Conv1D):
            found[name] = Place(f"{name}.weight", turned=True)
        elif name.endswith(".experts"):
            turned = type(module).__name__.startswith("GptOss")
            joint, down = f"{name}.gate_up_proj", f"{name}.down_proj"
            assert state[joint].dim() == state[down].dim() == 3
            for number in range(4):
                for half in ("gate", "up"):
                    found[f"{name}.{number}.{half}_proj"] = Place(joint, turned, number, half)
                found[f"{name}.{number}.down_proj"] = Place(down, turned, number)
    return found


class Products(TorchFunctionMode):
    """Notes what is multiplied with an expert's share of a tensor, wherever that happens."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.fed: dict[str, list[Tensor]] = {}
        self.names: dict[int, list[str]] = {}
        for name, place in places(model).items():
            if place.expert is not None:
                weight = dict(model.named_parameters())[place.key]
                self.names.setdefault(weight[place.expert].data_ptr(), []).append(name)

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (nn.functional.linear, Tensor.matmul, Tensor.__matmul__, torch.matmul):
            for name in self.names.get(args[1].data_ptr(), []):
                self.fed.setdefault(name, []).append(args[0])
        return func(*args, **(kwargs or {}))


def plain_inputs(model: Any, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """What every matrix is fed in an ordinary forward pass, tokens in rows, without padding.

    Rows that are padded are run alone, so that there is no padding to be told apart.
    """
    inputs: dict[str, list[Tensor]] = {}
    model = copy.deepcopy(model)
    model.set_experts_implementation("eager")
    whole = [ids] if mask.all() else [row[None, own] for row, own in zip(ids, mask, strict=True)]
    for rows in whole:
        with hooked(model, inputs), Products(model) as products, torch.no_grad():
            model(input_ids=rows, use_cache=False)
        for name, parts in products.fed.items():
            inputs.setdefault(name, []).extend(parts)
    return {name: torch.cat(parts) for name, parts in inputs.items()}


@contextmanager
def hooked(model: Any, inputs: dict[str, list[Tensor]]) -> Iterator[None]:
    handles = [
        module.register_forward_pre_hook(
            lambda _, args, name=name: inputs.setdefault(name, []).append(args[0].flatten(0, -2))
        )
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def by_hand(
    model: Any, method: Method, pattern: Pattern, ids: Tensor, mask: Tensor
) -> dict[str, Tensor]:
    """The state dict of the compressed model: block by block, each time with a whole forward."""
    model = copy.deepcopy(model)
    found = places(model)
    numbers = sorted({int(number(name)) for name in found})
    for block in numbers:
        fed = plain_inputs(model, ids, mask)
        state = model.state_dict()
        for name in (name for name in found if number(name) == block):
            weight = found[name].of(state).clone()
            seen = method.observe(Layer(name, *weight.shape))
            one = method
            if seen is not None and name not in fed:
                one, seen = Magnitude(), None
            if seen is not None:
                seen.add(fed[name], len(ids))
            found[name].of(state).copy_(one.compress(weight, seen, pattern).weight)
        model.load_state_dict(state)
    state_dict: dict[str, Tensor] = model.state_dict()
    return state_dict


def number(name: str) -> int:
    """Of the block in which a matrix stands."""
    match = re.search(r"(?:layers|blocks|h)\.(\d+)\.", name)
    assert match
    return int(match[1])


# what is held against it


@final
class Transcript(Statistic):
    """Keeps all that it is given."""

    def __init__(self) -> None:
        self.parts: list[Tensor] = []

    def add(self, x: Float[Tensor, "tokens in"], sequences: int) -> None:
        self.parts.append(x.clone())

    def finite(self) -> bool:
        return True


@final
@dataclass(frozen=True)
class Listener(Method):
    """Writes down what every matrix is fed, and changes nothing."""

    scope: str = "all"
    heard: list[Transcript] = field(default_factory=list)
    reads_data: ClassVar[bool] = True
    compresses: ClassVar[bool] = True

    def allocate(
        self, weights: Mapping[str, Float[Tensor, "_ _"]], pattern: Pattern
    ) -> Mapping[str, Pattern]:
        return dict.fromkeys(weights, pattern)

    def observe(self, layer: Layer) -> Statistic | None:
        return Transcript()

    def compress(
        self, weight: Float[Tensor, "out in"], seen: Statistic | None, pattern: Pattern
    ) -> Compressed:
        assert isinstance(seen, Transcript)
        self.heard.append(seen)
        return Compressed(weight)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_matrix_is_fed_what_a_plain_forward_pass_feeds_it(
    build: Build, windows: Windows, family: str, padded: bool
) -> None:
    ids, mask = windows
    if padded:
        mask = shown(ids, [10, 10, 7, 5, 3, 1])  # the longest first, as the walk takes them
        ids = ids.masked_fill(~mask, 0)
    model, listener = build(family, **FAMILIES[family]), Listener()
    records = walk(model, listener, PATTERNS[0], windows=(ids, mask), batch_size=4)
    names = [record.name for record in records if UNSEEN not in record.remarks]
    expected = plain_inputs(model, ids, mask)
    assert list(places(model)) == [record.name for record in records]
    assert len(anatomy.blocks(model)) == 3
    for name, seen in zip(names, listener.heard, strict=True):
        assert len(seen.parts) <= 2  # batches
        fed = torch.cat(seen.parts)
        if ".experts." in name:  # which take their tokens in an order of their own
            fed, expected[name] = (rows[rows[:, 0].argsort()] for rows in (fed, expected[name]))
        torch.testing.assert_close(fed, expected[name], rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("family", OTHERS)
def test_other_families_are_fed_what_a_plain_forward_pass_feeds_them(
    build: Build, windows: Windows, family: str
) -> None:
    """Experts aside: they are fed as those above."""
    ids, mask = windows
    model, listener = build(family, **OTHERS[family]), Listener()
    records = walk(model, listener, PATTERNS[0], windows=(ids, mask), batch_size=6)
    names = [record.name for record in records if UNSEEN not in record.remarks]
    expected: dict[str, list[Tensor]] = {}
    with hooked(model, expected), torch.no_grad():
        model(input_ids=ids, use_cache=False)
    compared = [name for name in names if name in expected]
    assert len(compared) >= 4
    assert len({number(name) for name in compared}) == len(anatomy.blocks(model))
    for name, seen in zip(names, listener.heard, strict=True):
        if name in expected:
            fed, plain = torch.cat(seen.parts), torch.cat(expected[name])
            torch.testing.assert_close(fed, plain, rtol=1e-3, atol=1e-4, msg=name)
    outside = 1 - sum(r.rows * r.cols for r in records) / anatomy.weights_in_blocks(model)
    assert outside < 0.1  # convolutions, routers, tables of positions


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.label)
@pytest.mark.parametrize(
    "method", [Magnitude(), Wanda(), SparseGPT()], ids=lambda m: type(m).__name__
)
@pytest.mark.parametrize("family", FAMILIES)
def test_what_comes_out_is_what_is_made_by_hand(
    build: Build, windows: Windows, family: str, method: Method, pattern: Pattern
) -> None:
    ids, mask = windows
    model = build(family, **FAMILIES[family])
    expected = copy.deepcopy(model)
    expected.load_state_dict(by_hand(model, method, pattern, ids, mask))
    dense = copy.deepcopy(model.state_dict())
    records = walk(model, method, pattern, windows=(ids, mask), batch_size=6)

    found = places(model)
    assert [record.name for record in records] == list(found)
    for record in records:
        weight, by = (found[record.name].of(of.state_dict()) for of in (model, expected))
        assert (record.rows, record.cols) == tuple(weight.shape)
        assert record.zeros == int((weight == 0).sum())
        over = record.zeros - weight.numel() // 2
        assert 0 <= over <= (pattern.width is None), record.name  # the weight at the threshold too
        assert torch.equal(weight == 0, by == 0), record.name
    changed = {key for key, now in model.state_dict().items() if not now.equal(dense[key])}
    assert changed == {place.key for place in found.values()}
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, expected(ids).logits, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("method", [Wanda(), SparseGPT()], ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe", "gpt_oss"])
def test_an_expert_that_sees_no_token_follows_magnitude_and_is_named(
    build: Build, family: str, method: Method
) -> None:
    ids = torch.tensor([[5, 6, 7]])
    mask = torch.ones_like(ids, dtype=torch.bool)
    model = build(family, num_experts_per_tok=1)
    dense = copy.deepcopy(model)
    records = walk(model, method, PATTERNS[1], windows=(ids, mask))
    unseen = {record.name for record in records if UNSEEN in record.remarks}
    assert {name for name in unseen if number(name) == 0} == {
        name
        for name in places(dense)
        if number(name) == 0 and name not in plain_inputs(dense, ids, mask)
    }
    assert 0 < len(unseen) < len(records)
    found = places(model)
    for record in records:
        assert record.sparsity == 0.5
        assert (record.output_error is None) == (record.name in unseen)
        if record.name in unseen:
            weight = found[record.name].of(dense.state_dict())
            expected = Magnitude().compress(weight, None, PATTERNS[1]).weight
            assert found[record.name].of(model.state_dict()).equal(expected)
    assert not any(record.remarks for record in walk(dense, Magnitude(), PATTERNS[1], windows=None))


@pytest.mark.parametrize("family", ["qwen3_moe", "qwen2_moe", "gpt_oss", "mixtral", "phimoe"])
def test_what_sends_tokens_to_experts_is_no_matter_of_a_scope(build: Build, family: str) -> None:
    """Of Phi's mixture it is a linear layer, as is the gate of Qwen's shared expert."""
    build = partial(build, **OTHERS.get(family, {}))
    names = list(anatomy.prunable(build(family)))
    assert not any(re.search(r"router|gate$", name) for name in names)
    mlp, attention = anatomy.select(names, "mlp"), anatomy.select(names, "attention")
    assert sorted(mlp + attention) == sorted(names)
    assert [name for name in mlp if number(name) == 1 and ".experts.2." in name] == [
        f"model.layers.1.mlp.experts.2.{kind}_proj" for kind in ("gate", "up", "down")
    ]


ON_DISK = {
    "mixtral": ("block_sparse_moe.experts.{}.w1", "block_sparse_moe.experts.{}.w3"),
    "qwen3_moe": ("mlp.experts.{}.gate_proj", "mlp.experts.{}.up_proj"),
    "olmoe": ("mlp.experts.{}.gate_proj", "mlp.experts.{}.up_proj"),
}
"""What gate and projection up are called in checkpoints, where they are two."""


@pytest.mark.parametrize("method", [Magnitude(), SparseGPT()], ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("family", ON_DISK)
def test_gate_and_projection_up_of_an_expert_have_a_threshold_each(
    build: Build, windows: Windows, family: str, method: Method, tmp_path: Path
) -> None:
    """As the checkpoint has them, which says nothing of how they lie in memory."""
    model = build(family, **OTHERS.get(family, {}))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("gate_up_proj"):
                weight[:, weight.shape[1] // 2 :] *= 2
    model.save_pretrained(tmp_path / "dense")
    walk(model, method, PATTERNS[0], windows=windows)
    model.save_pretrained(tmp_path / "pruned")
    dense, pruned = (load_file(tmp_path / f / "model.safetensors") for f in ("dense", "pruned"))
    for block in range(3):
        for kind in ON_DISK[family]:
            for expert in range(4):
                name = f"model.layers.{block}.{kind.format(expert)}.weight"
                zeros = pruned[name] == 0
                assert int(zeros.sum()) in (zeros.numel() // 2, zeros.numel() // 2 + 1), name
                if isinstance(method, Magnitude):
                    kept = dense[name].abs()[~zeros].min()
                    assert dense[name].abs()[zeros].max() <= kept, name


@pytest.mark.parametrize("family", ["mixtral", "gpt_oss"])
def test_gate_and_projection_up_of_an_expert_share_a_statistic(
    build: Build, windows: Windows, family: str
) -> None:
    model, listener = build(family), Listener()
    names = [record.name for record in walk(model, listener, PATTERNS[0], windows=windows)]
    heard = dict(zip(names, listener.heard, strict=True))
    for name, seen in heard.items():
        if name.endswith("gate_proj"):
            expert = name.removesuffix("gate_proj")
            assert heard[f"{expert}up_proj"] is seen
            assert heard[f"{expert}down_proj"] is not seen
    of_experts = [id(seen) for name, seen in heard.items() if name.endswith("gate_proj")]
    assert len(set(of_experts)) == len(of_experts) == 12


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_saved_and_loaded_again_has_the_same_weights_and_logits(
    build: Build, windows: Windows, family: str, tmp_path: Path
) -> None:
    model = build(family, **FAMILIES[family])
    walk(model, SparseGPT(), PATTERNS[1], windows=windows)
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    matrices = anatomy.prunable(again)
    for name, matrix in anatomy.prunable(model).items():
        assert matrices[name].weight.equal(matrix.weight), name
    with torch.no_grad():
        assert again(windows[0]).logits.equal(model(windows[0]).logits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral"])
def test_statistics_and_solver_are_in_fp32_whatever_the_model_is_in(
    build: Build, windows: Windows, family: str, dtype: torch.dtype
) -> None:
    model, listener = build(family).to(dtype), Listener()
    names = [record.name for record in walk(model, listener, PATTERNS[1], windows=windows)]
    expected = {}
    for name, seen in zip(names, listener.heard, strict=True):  # of block 0, nothing is pruned yet
        moment = SecondMoment()
        moment.add(torch.cat(seen.parts).float(), len(windows[0]))
        weight = anatomy.prunable(model)[name].weight.float().contiguous()
        expected[name] = SparseGPT().compress(weight, moment, PATTERNS[1]).weight.to(dtype)
        assert torch.cat(seen.parts).dtype == dtype
        assert moment.hessian.dtype == torch.float32
    records = walk(model, SparseGPT(), PATTERNS[1], windows=windows)
    assert {record.sparsity for record in records} == {0.5}
    assert {weight.dtype for weight in model.parameters()} == {dtype}
    for name, matrix in anatomy.prunable(model).items():
        if number(name) == 0:
            # layers with one input are solved together, and sums are in another order
            found = matrix.weight.detach()
            assert (found == 0).equal(expected[name] == 0), name
            torch.testing.assert_close(found, expected[name].detach(), msg=name)


def test_a_layer_that_is_multiplied_with_and_never_called_is_named_with_what_helps(
    build: Build, windows: Windows
) -> None:
    sizes = {"state_size": 4, "time_step_rank": 4}
    with pytest.raises(RuntimeError, match=r"layers\.0\.mixer\.dt_proj: .* method\.scope$"):
        walk(build("mamba", **sizes), Wanda(), PATTERNS[1], windows=windows)
    model = build("mamba", **sizes)
    for record in walk(model, Wanda(scope="(in|x|out)_proj"), PATTERNS[1], windows=windows):
        assert record.sparsity == 0.5
    assert (model.get_submodule("backbone.layers.0.mixer.dt_proj").weight != 0).all()


@pytest.mark.parametrize("method", [Wanda(), SparseGPT()], ids=lambda m: type(m).__name__)
def test_a_model_that_runs_its_blocks_again_is_refused_before_any_of_them_changes(
    build: Build, windows: Windows, method: Method
) -> None:
    model = build("hrm_text")
    dense = copy.deepcopy(model.state_dict())
    with pytest.raises(Refusal, match=r"HrmText.*: does not run each of its \d blocks once"):
        walk(model, method, PATTERNS[1], windows=windows)
    assert all(now.equal(dense[key]) for key, now in model.state_dict().items())
    assert not any("forward" in vars(module) for module in model.modules())
