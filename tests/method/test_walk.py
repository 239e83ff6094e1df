from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sweep.method.dense import Dense
from sweep.method.magnitude import Magnitude
from sweep.method.method import Compressed, Layer, Method
from sweep.method.sparsegpt import SparseGPT
from sweep.method.walk import walk
from sweep.method.wanda import Wanda
from sweep.model import anatomy
from sweep.numerics import products
from sweep.numerics.moments import Statistic
from sweep.refusal import Refusal
from sweep.sparsity.n_of_m import NofM
from sweep.sparsity.pattern import Pattern
from sweep.sparsity.unstructured import Unstructured

Build = Callable[..., Any]
Windows = tuple[Tensor, Tensor]
HALF = Unstructured(0.5)


class Transcript(Statistic):
    """Keeps all that it is given."""

    def __init__(self) -> None:
        self.parts: list[Tensor] = []
        self.sequences = 0

    def add(self, x: Float[Tensor, "tokens in"], sequences: int) -> None:
        self.parts.append(x.clone())
        self.sequences += sequences

    def finite(self) -> bool:
        return True

    @property
    def tokens(self) -> Tensor:
        return torch.cat(self.parts)


@dataclass(frozen=True)
class Listener(Method):
    """Writes down what every layer is fed, and scales its weight."""

    scope: str = "all"
    scale: float = 1.0
    asked: list[str] = field(default_factory=list)
    heard: list[Transcript] = field(default_factory=list)
    reads_data: ClassVar[bool] = True

    def allocate(
        self, weights: Mapping[str, Float[Tensor, "_ _"]], pattern: Pattern
    ) -> Mapping[str, Pattern]:
        return dict.fromkeys(weights, pattern)

    def observe(self, layer: Layer) -> Statistic | None:
        self.asked.append(layer.name)
        return Transcript()

    def compress(
        self, weight: Float[Tensor, "out in"], seen: Statistic | None, pattern: Pattern
    ) -> Compressed:
        assert isinstance(seen, Transcript)
        assert weight.dtype == torch.float32
        self.heard.append(seen)
        return Compressed(weight * self.scale)

    def fed(self, names: Iterable[str]) -> dict[str, Tensor]:
        return {name: seen.tokens for name, seen in zip(names, self.heard, strict=True)}


def plain_inputs(model: Any, ids: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
    """What every prunable linear is fed in an ordinary forward pass, tokens in rows."""
    inputs: dict[str, Tensor] = {}
    handles = [
        linear.module.register_forward_pre_hook(
            lambda _, args, name=name: inputs.update({name: args[0].flatten(0, -2)})
        )
        for name, linear in anatomy.prunable(model).items()
    ]
    with torch.no_grad():
        model(input_ids=ids, attention_mask=mask, use_cache=False)
    for handle in handles:
        handle.remove()
    return inputs


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3_text", "gpt_neox", "falcon", "opt"])
def test_every_layer_is_fed_what_a_plain_forward_pass_feeds_it(
    build: Build, windows: Windows, family: str
) -> None:
    model, listener = build(family), Listener()
    names = [record.name for record in walk(model, listener, HALF, windows=windows, batch_size=6)]
    expected = plain_inputs(model, windows[0], windows[1].long())
    fed = listener.fed(names)
    assert list(expected) == [name for name in expected if name in fed]
    for name, tokens in fed.items():
        torch.testing.assert_close(tokens, expected[name], msg=name)


def test_a_block_is_fed_by_compressed_blocks_and_looked_at_while_dense(
    build: Build, windows: Windows
) -> None:
    model, listener = build(), Listener(scale=0.5)
    before = copy.deepcopy(model)
    names = [record.name for record in walk(model, listener, HALF, windows=windows, batch_size=6)]
    fed = listener.fed(names)
    for index, block in enumerate(before.model.layers):
        here = plain_inputs(before, windows[0])
        for name in (name for name in names if name.startswith(f"model.layers.{index}.")):
            torch.testing.assert_close(fed[name], here[name], msg=name)
        block.load_state_dict(model.model.layers[index].state_dict())  # now it is compressed


def test_layers_multiply_with_the_widest_arithmetic_of_the_machine(
    build: Build, windows: Windows, asked_always: list[Tensor]
) -> None:
    model = build("llama")
    walk(model, Wanda(), Unstructured(0.5), windows=windows)
    wanted = {matrix.weight.shape for matrix in anatomy.prunable(model).values()}
    assert wanted <= {weight.shape for weight in asked_always}
    assert nn.functional.linear is products.PLAIN


def test_linears_with_the_same_input_share_one_statistic(build: Build, windows: Windows) -> None:
    listener = Listener()
    walk(build(), listener, HALF, windows=windows, batch_size=4)
    kinds = [name.split(".", 3)[3] for name in listener.asked]
    assert kinds == ["self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj"] * 3
    q, k, v, o, gate, up, down = listener.heard[:7]
    assert q is k is v
    assert gate is up
    assert len({id(q), id(o), id(gate), id(down)}) == 4
    assert [len(seen.parts) for seen in (q, o, gate, down)] == [2, 2, 2, 2]  # once per batch
    assert q.sequences == 6


def test_the_batch_size_changes_nothing(build: Build, windows: Windows) -> None:
    one, many = Listener(), Listener()
    names = [record.name for record in walk(build(), one, HALF, windows=windows, batch_size=1)]
    walk(build(), many, HALF, windows=windows, batch_size=4)
    expected = many.fed(names)
    for name, tokens in one.fed(names).items():
        torch.testing.assert_close(tokens, expected[name], msg=name)


LENGTHS = [10, 3, 1, 10, 7, 5]


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3_text", "opt", "falcon"])
def test_padding_leaves_no_trace(build: Build, windows: Windows, family: str) -> None:
    ids = windows[0]
    mask = torch.arange(10) < torch.tensor(LENGTHS)[:, None]
    padded, names = Listener(), list(anatomy.prunable(build(family)))
    walk(build(family), padded, HALF, windows=(ids.masked_fill(~mask, 0), mask), batch_size=3)
    longest_first = sorted(range(6), key=lambda i: -LENGTHS[i])
    alone = [plain_inputs(build(family), ids[i : i + 1, : LENGTHS[i]]) for i in longest_first]
    for name, tokens in padded.fed(names).items():
        expected = torch.cat([inputs[name] for inputs in alone])
        torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=1e-5, msg=name)


def test_no_block_is_run_on_more_padding_than_the_longest_of_a_batch_wants(
    build: Build, windows: Windows
) -> None:
    model, ran = build(), []
    mask = torch.arange(10) < torch.tensor(LENGTHS)[:, None]
    first = anatomy.blocks(model)[0]
    first.register_forward_pre_hook(lambda _, given: ran.append(tuple(given[0].shape[:2])))
    walk(model, Wanda(), HALF, windows=(windows[0], mask), batch_size=3)
    batches = [(3, 10), (3, 5)]
    assert ran[-4:] == [*batches, *batches]  # it is looked at, then it has been compressed


@pytest.mark.parametrize("method", [Wanda(), SparseGPT()])
def test_padding_changes_no_weight(build: Build, windows: Windows, method: Method) -> None:
    ids, mask = windows
    wider = tuple(nn.functional.pad(tensor, (0, 5)) for tensor in windows)
    bare, padded = build(), build()
    walk(bare, method, HALF, windows=(ids, mask))
    walk(padded, method, HALF, windows=(wider[0], wider[1]))
    for one, other in zip(bare.parameters(), padded.parameters(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("scope", ["attention", "mlp", r"layers\.(0|2)\..*(q|up)_proj"])
@pytest.mark.parametrize("method", [Magnitude, Wanda, SparseGPT])
def test_only_what_is_in_scope_changes(
    build: Build, windows: Windows, scope: str, method: Callable[..., Method]
) -> None:
    model = build()
    before = copy.deepcopy(model.state_dict())
    records = walk(model, method(scope=scope), HALF, windows=windows)
    changed = [name for name, after in model.state_dict().items() if not after.equal(before[name])]
    inside = anatomy.select(list(anatomy.prunable(model)), scope)
    assert [record.name for record in records] == inside
    assert sorted(changed) == sorted(f"{name}.weight" for name in inside)


@pytest.mark.parametrize("method", [Wanda(), SparseGPT(), Magnitude()])
def test_a_record_holds_the_error_of_the_output_where_data_were_read(
    build: Build, windows: Windows, method: Method
) -> None:
    model = build()
    before = copy.deepcopy(model)
    records = walk(model, method, HALF, windows=windows, batch_size=4)
    if not method.reads_data:
        assert {record.output_error for record in records} == {None}
        return
    fed = plain_inputs(before, windows[0])
    model.requires_grad_(False), before.requires_grad_(False)
    linears, dense = anatomy.prunable(model), anatomy.prunable(before)
    for record in records:
        if not record.name.startswith("model.layers.0."):
            continue  # what reaches the blocks behind has passed compressed ones
        after, was = (fed[record.name] @ of[record.name].weight.T for of in (linears, dense))
        expected = float((after - was).norm() / was.norm())
        assert record.output_error == pytest.approx(expected, rel=1e-4)
    assert all(record.output_error for record in records)


def test_a_record_counts_the_zeros_of_the_weight(build: Build, windows: Windows) -> None:
    model = build()
    for record in walk(model, SparseGPT(), NofM(2, 4), windows=windows):
        weight = model.get_submodule(record.name).weight
        assert (record.rows, record.cols) == tuple(weight.shape)
        assert record.zeros == int((weight == 0).sum()) == weight.numel() // 2
        assert record.sparsity == 0.5
        assert record.remarks == ()


@pytest.mark.parametrize("pattern", [Unstructured(0.6), NofM(2, 4), NofM(1, 8)])
@pytest.mark.parametrize("method", [Magnitude(), Magnitude(per="row"), Wanda(), SparseGPT()])
def test_every_layer_reaches_its_ratio(
    build: Build, windows: Windows, method: Method, pattern: Pattern
) -> None:
    for record in walk(build(), method, pattern, windows=windows):
        asked = pattern.sparsity * record.rows * record.cols
        groups = record.rows if pattern.width is None and not isinstance(method, SparseGPT) else 1
        assert abs(record.zeros - asked) <= groups


def test_magnitude_over_all_layers_reaches_its_ratio_over_all(build: Build) -> None:
    records = walk(build(), Magnitude(per="global"), Unstructured(0.6), windows=None)
    total = sum(record.rows * record.cols for record in records)
    assert abs(sum(record.zeros for record in records) - 0.6 * total) <= 1
    assert len({record.sparsity for record in records}) > 1


def test_a_method_that_reads_no_data_needs_no_forward_pass(build: Build) -> None:
    model = build()

    def never(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the model was run")

    model.forward = model.model.forward = never
    for method in (Dense(), Magnitude()):
        walk(model, method, HALF, windows=None)


def test_dense_leaves_the_model_alone_whatever_the_pattern(build: Build) -> None:
    model = build()
    before = copy.deepcopy(model.state_dict())
    records = walk(model, Dense(), NofM(2, 5), windows=None)
    assert all(after.equal(before[name]) for name, after in model.state_dict().items())
    assert [record.zeros for record in records] == [0] * 21


@pytest.mark.parametrize("method", [Magnitude(), SparseGPT()])
def test_a_layer_that_the_pattern_does_not_fit_is_named_before_any_work(
    build: Build, windows: Windows, method: Method
) -> None:
    model = build(intermediate_size=22)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(Refusal, match=r"m=4.*22 inputs.*model\.layers\.0\.mlp\.down_proj"):
        walk(model, method, NofM(2, 4), windows=windows)
    assert all(after.equal(before[name]) for name, after in model.state_dict().items())


def test_a_scope_that_matches_nothing_is_refused(build: Build) -> None:
    with pytest.raises(Refusal, match=r"scope=conv"):
        walk(build(), Magnitude(scope="conv"), HALF, windows=None)


def test_windows_that_cannot_be_used_are_refused(build: Build, windows: Windows) -> None:
    ids, mask = windows
    left = mask.clone()
    left[0, 0] = False
    hole = mask.clone()
    hole[0, 4] = False
    for unusable in (None, (ids[:0], mask[:0])):
        with pytest.raises(ValueError, match="none were given"):
            walk(build(), Wanda(), HALF, windows=unusable)
    for shown in (left, hole):
        with pytest.raises(ValueError, match="padded on the right"):
            walk(build(), Wanda(), HALF, windows=(ids, shown))


@pytest.mark.parametrize("method", [Magnitude(), Wanda(), SparseGPT()])
def test_a_weight_that_is_not_finite_is_named(
    build: Build, windows: Windows, method: Method
) -> None:
    model = build()
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = float("nan")
    with pytest.raises(FloatingPointError, match=r"model\.layers\.1\.mlp\.up_proj: its weight"):
        walk(model, method, HALF, windows=windows)


@pytest.mark.parametrize("method", [Wanda(), SparseGPT()])
def test_inputs_that_are_not_finite_are_named(
    build: Build, windows: Windows, method: Method
) -> None:
    model = build()
    with torch.no_grad():
        model.model.layers[1].post_attention_layernorm.weight[0] = float("inf")
    with pytest.raises(FloatingPointError, match=r"model\.layers\.1\.mlp\.gate_proj: its calib"):
        walk(model, method, HALF, windows=windows)


def test_where_inputs_overflow_the_layer_that_made_them_is_named_and_what_helps(
    build: Build,
) -> None:
    """In float16, in a block before, and not with the first windows."""
    model = build().to(torch.float16)
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight.fill_(100)
        model.model.layers[0].mlp.up_proj.weight[:, 0] = 1e3
        model.model.embed_tokens.weight[39] = 0
        model.model.embed_tokens.weight[39, 0] = 1
        model.model.embed_tokens.weight[:39, 0] = 0
    ids = torch.full((4, 5), 7)
    ids[3] = 39
    with pytest.raises(FloatingPointError) as caught:
        walk(
            model,
            Wanda(scope=r"1\.self_attn"),
            HALF,
            windows=(ids, torch.ones_like(ids, dtype=torch.bool)),
            batch_size=2,
        )
    assert str(caught.value) == (
        "model.layers.1.self_attn.q_proj: its calibration inputs hold NaN or infinity; block 0, "
        "model.layers.0.mlp.down_proj makes the first of them; try model.dtype=bfloat16 or float32"
    )


def test_a_failing_solver_names_the_layer(
    build: Build, windows: Windows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweep.numerics.obs._turn_into_root", lambda matrix: False)
    with pytest.raises(
        FloatingPointError, match=r"^model\.layers\.0\.self_attn\.q_proj: .*Hessian"
    ):
        walk(build(), SparseGPT(), HALF, windows=windows)


def test_a_layer_whose_compressed_weight_overflows_is_named(build: Build, windows: Windows) -> None:
    with pytest.raises(FloatingPointError, match=r"0\.self_attn\.q_proj: its compressed weight"):
        walk(build(), Listener(scale=1e39), HALF, windows=windows)
    helps = r"its compressed weight holds NaN or infinity; try model\.dtype=bfloat16 or float32$"
    with pytest.raises(FloatingPointError, match=helps):
        walk(build().half(), Listener(scale=1e9), HALF, windows=windows)


@pytest.mark.parametrize("method", [Magnitude(), Wanda(), SparseGPT(), Listener()])
def test_a_bf16_model_stays_bf16(build: Build, windows: Windows, method: Method) -> None:
    model = build().bfloat16()
    records = walk(model, method, NofM(2, 4), windows=windows)
    assert all(weight.dtype == torch.bfloat16 for weight in model.parameters())
    if not isinstance(method, Listener):  # which prunes nothing, and insists on fp32
        assert all(record.sparsity == 0.5 for record in records)


@pytest.mark.parametrize("scale", [1.0, 1e39])
def test_the_model_is_left_without_hooks_or_stand_ins(
    build: Build, windows: Windows, scale: float
) -> None:
    model = build()
    if scale == 1.0:
        walk(model, Listener(), HALF, windows=windows)
    else:
        with pytest.raises(FloatingPointError):
            walk(model, Listener(scale=scale), HALF, windows=windows)
    assert all(not module._forward_pre_hooks for module in model.modules())
    assert all("forward" not in module.__dict__ for module in model.modules())


def test_dropout_is_off(build: Build, windows: Windows) -> None:
    model, listener = build(attention_dropout=0.5), Listener()
    expected = plain_inputs(model, windows[0])
    names = list(anatomy.prunable(model))
    walk(model.train(), listener, HALF, windows=windows)
    for name, tokens in listener.fed(names).items():
        torch.testing.assert_close(tokens, expected[name], msg=name)


def test_progress_is_told_of_every_block(build: Build) -> None:
    told: list[tuple[str, int]] = []
    passed: list[nn.Module] = []

    def progress(items: Iterable[nn.Module], what: str, total: int) -> Iterable[nn.Module]:
        told.append((what, total))
        for item in items:
            passed.append(item)
            yield item

    walk(build(), Magnitude(), HALF, windows=None, progress=progress)
    assert told == [("blocks", 3)]
    assert len(passed) == 3


class Toy(nn.Module):
    """One block around a function of two linears."""

    def __init__(self, run: Callable[[nn.Linear, nn.Linear, Tensor], Tensor]) -> None:
        super().__init__()
        self.embed = nn.Embedding(40, 8)
        self.layers = nn.ModuleList([ToyBlock(run)])

    def forward(self, input_ids: Tensor, **kwargs: Any) -> Tensor:
        hidden: Tensor = self.layers[0](self.embed(input_ids))
        return hidden


class ToyBlock(nn.Module):
    def __init__(self, run: Callable[[nn.Linear, nn.Linear, Tensor], Tensor]) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 8)
        self.run = run

    def forward(self, hidden: Tensor) -> Tensor:
        return self.run(self.one, self.two, hidden)


def test_an_input_that_is_changed_in_place_is_an_error(windows: Windows) -> None:
    model = Toy(lambda one, two, x: one(x) + two(x.mul_(2)))
    with pytest.raises(RuntimeError, match=r"layers\.0\.one: its input is changed in place"):
        walk(model, Wanda(), HALF, windows=windows)


def test_a_linear_that_no_token_reaches_is_an_error(windows: Windows) -> None:
    model = Toy(lambda one, two, x: one(x))
    with pytest.raises(RuntimeError, match=r"layers\.0\.two: no calibration token"):
        walk(model, Wanda(), HALF, windows=windows)


def test_inputs_that_lost_their_positions_cannot_be_told_from_padding(windows: Windows) -> None:
    ids, mask = windows
    shown = mask.clone()
    shown[0, 5:] = False
    model = Toy(lambda one, two, x: x + one(x[:, :4]).mean() + two(x))
    walk(model, Wanda(), HALF, windows=windows)
    with pytest.raises(ValueError, match=r"layers\.0\.one: its inputs have the shape \(6, 4, 8\)"):
        walk(model, Wanda(), HALF, windows=(ids, shown))


def test_equal_inputs_in_different_tensors_are_not_shared(windows: Windows) -> None:
    listener = Listener()
    walk(Toy(lambda one, two, x: one(x) + two(x + 0)), listener, HALF, windows=windows)
    assert listener.asked == ["layers.0.one", "layers.0.two"]


def test_a_linear_that_is_used_twice_sees_both_inputs(windows: Windows) -> None:
    listener = Listener()
    model = Toy(lambda one, two, x: two(one(one(x))))
    walk(model, listener, HALF, windows=windows)
    one, two = listener.heard
    assert len(one.tokens) == 2 * windows[0].numel()
    assert len(two.tokens) == windows[0].numel()


class Routed(nn.Module):
    """A block whose experts are modules of a list: a token goes to one, by its first feature."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(8, 8)
        self.experts = nn.ModuleList([nn.Linear(8, 8) for _ in range(3)])

    def forward(self, hidden: Tensor) -> Tensor:
        flat = self.up(hidden).reshape(-1, 8)
        found = torch.zeros_like(flat)
        chosen = hidden[..., 0].reshape(-1).long()
        for number, expert in enumerate(self.experts):
            if (here := chosen == number).any():
                found[here] = expert(flat[here])
        found[:, 0] = 0
        return hidden + found.reshape(hidden.shape)


def test_experts_of_a_list_are_seen_in_whatever_batch_they_are_called() -> None:
    """A batch that calls more of them than the first one did is not stopped before."""

    def compressed(batch_size: int) -> dict[str, Tensor]:
        torch.manual_seed(0)
        model = Toy(lambda one, two, x: x)
        model.layers = nn.ModuleList([Routed(), Routed()])
        model.forward = lambda input_ids, **_: model.layers[1](  # type: ignore[method-assign]
            model.layers[0](model.embed(input_ids))
        )
        model.embed.weight.data[:, 0] = torch.arange(40) % 3
        ids = torch.stack([torch.full((9,), 3), torch.arange(3, 12)])  # expert 0; all of them
        windows = (ids, torch.ones_like(ids, dtype=torch.bool))
        records = walk(model, Wanda(), HALF, windows=windows, batch_size=batch_size)
        assert not any(record.remarks for record in records)
        return {name: linear.weight for name, linear in anatomy.prunable(model).items()}

    alone, together = compressed(1), compressed(2)
    assert len(alone) == 8
    for name, weight in alone.items():
        assert (weight == 0).equal(together[name] == 0), name


def test_the_first_pass_ends_where_the_last_matrix_has_its_input(
    build: Build, windows: Windows
) -> None:
    model = build()
    ran = [0, 0]
    for block in model.model.layers:
        for kind, linear in enumerate((block.mlp.gate_proj, block.mlp.down_proj)):

            def count(module: Any, given: Any, found: Any, kind: int = kind) -> None:
                ran[kind] += 1

            linear.register_forward_hook(count)
    walk(model, Wanda(), HALF, windows=windows, batch_size=2)
    batches, blocks = 3, 3
    assert ran[0] == (2 * blocks - 1) * batches + 1  # once more to see what a block answers
    assert ran[1] == (blocks - 1) * batches + 2  # and once to see which matrix is the last
