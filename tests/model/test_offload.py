"""A model that accelerate spreads over devices and disk gives what the whole one gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sweep.calib.self_generated import sample
from sweep.data.row import Tokens
from sweep.files import Kept
from sweep.method.magnitude import Magnitude
from sweep.method.method import Method
from sweep.method.sparsegpt import SparseGPT
from sweep.method.walk import walk
from sweep.method.wanda import Wanda
from sweep.metric.scan import scan
from sweep.metric.subject import Subject
from sweep.metric.text import text_windows
from sweep.model import anatomy
from sweep.model.local import Local
from sweep.model.offload import entrance
from sweep.model.weights import load
from sweep.refusal import Refusal
from sweep.sparsity.n_of_m import NofM
from sweep.workshop import Bench

Windows = tuple[Tensor, Tensor]

LLAMAS = {
    "model.embed_tokens": "cpu",
    "model.layers.0": "cpu",
    "model.layers.1": "disk",
    "model.layers.2": "disk",
    "model.norm": "cpu",
    "model.rotary_emb": "cpu",
    "lm_head": "disk",
}
SPREAD: dict[str, dict[str, int | str]] = {
    "llama": {**LLAMAS},
    "mixtral": {**LLAMAS, "model.embed_tokens": "disk", "model.layers.0": "disk"},
    "gpt_oss": {**LLAMAS, "model.layers.2": "cpu"},
    "gpt2": {
        "transformer.wte": "cpu",
        "transformer.wpe": "cpu",
        "transformer.drop": "cpu",
        "transformer.h.0": "disk",
        "transformer.h.1": "cpu",
        "transformer.h.2": "disk",
        "transformer.ln_f": "cpu",
        "lm_head": "cpu",
    },
}


@pytest.fixture
def spread(build: Callable[..., Any], tmp_path: Path) -> Callable[[str], tuple[Any, Any]]:
    """A saved model, whole and spread."""

    def spread(family: str) -> tuple[Any, Any]:
        build(family).save_pretrained(tmp_path)
        path = str(tmp_path)
        return load(Local(path, device="cpu")), load(Local(path, device_map=SPREAD[family]))

    return spread


@pytest.mark.parametrize(
    "method", [Magnitude(), Wanda(), SparseGPT()], ids=lambda m: type(m).__name__
)
@pytest.mark.parametrize("family", SPREAD)
def test_compressed_or_dense_it_is_the_same_model(
    spread: Callable[[str], tuple[Any, Any]], windows: Windows, family: str, method: Method
) -> None:
    whole, apart = spread(family)
    assert any(weight.is_meta for weight in apart.parameters())
    ids = windows[0]
    with torch.no_grad():
        torch.testing.assert_close(apart(ids).logits, whole(ids).logits)
    records = walk(apart, method, NofM(2, 4), windows=windows, batch_size=4)
    assert records == walk(whole, method, NofM(2, 4), windows=windows, batch_size=4)
    expected = anatomy.prunable(whole)
    for name, matrix in anatomy.prunable(apart).items():
        assert matrix.weight.equal(expected[name].weight), name
    with torch.no_grad():
        torch.testing.assert_close(apart(ids).logits, whole(ids).logits)


@pytest.mark.filterwarnings("ignore:Attempting to save a model with offloaded modules")
@pytest.mark.parametrize("family", SPREAD)
def test_a_bench_sets_it_back_and_saves_it(
    spread: Callable[[str], tuple[Any, Any]], windows: Windows, family: str, tmp_path: Path
) -> None:
    whole, apart = spread(family)
    bench, plain = (
        Bench(model, None, 4, lambda items, *_: items, Kept(tmp_path), tmp_path)
        for model in (apart, whole)
    )
    assert bench.weights_sha256() == (dense := plain.weights_sha256())
    with bench.altered():
        walk(apart, Magnitude(), NofM(2, 4), windows=None)
        assert bench.weights_sha256() != dense
        with torch.no_grad():
            logits = apart(windows[0]).logits
        apart.save_pretrained(tmp_path / "kept")
        kept = bench.weights_sha256()
    assert bench.weights_sha256() == dense
    again = load(Local(str(tmp_path / "kept"), device="cpu"))
    with torch.no_grad():
        torch.testing.assert_close(again(windows[0]).logits, logits)
    with bench.altered():
        bench.adopt(tmp_path / "kept", False)
        assert bench.weights_sha256() == kept


def test_a_weight_on_disk_that_is_no_number_is_named(
    build: Callable[..., Any], tmp_path: Path
) -> None:
    model = build()
    with torch.no_grad():
        model.model.layers[2].mlp.up_proj.weight[0, 0] = float("nan")
    model.save_pretrained(tmp_path)
    with pytest.raises(Refusal, match=r"model\.layers\.2\.mlp\.up_proj\.weight holds NaN"):
        load(Local(str(tmp_path), device_map=SPREAD["llama"]))


def test_token_ids_go_where_the_first_weights_are(
    spread: Callable[[str], tuple[Any, Any]], build: Callable[..., Any]
) -> None:
    assert entrance(spread("mixtral")[1]) == torch.device("cpu")
    with torch.device("meta"):
        assert entrance(build()) == torch.device("cpu")


@pytest.mark.parametrize("family", SPREAD)
def test_metrics_see_no_difference(
    spread: Callable[[str], tuple[Any, Any]], rows: Any, tmp_path: Path, family: str
) -> None:
    whole, apart = spread(family)
    held = [Tokens(tuple(range(start, start + 12))) for start in (3, 9, 27)]
    text = text_windows(rows(held), None, None, None)
    scans = []
    for model in (whole, apart):
        memory = Kept(tmp_path)
        dense, compressed = (
            Subject(model, None, batch_size=2, progress=lambda items, *_: items, memory=memory)
            for _ in range(2)
        )
        dense.remember_hidden(text)
        walk(model, Magnitude(), NofM(2, 4), windows=None)
        scans.append(scan(compressed, text, dense))
    for one, other in zip(scans[0].divergence.items(), scans[1].divergence.items(), strict=True):
        np.testing.assert_allclose(one[1], other[1], rtol=1e-4, atol=1e-6, err_msg=one[0])
    np.testing.assert_allclose(scans[0].loss, scans[1].loss, rtol=1e-5)
    ids = text.ids[:, :6]
    said = [
        model.generate(ids, max_new_tokens=4, do_sample=False, pad_token_id=0)
        for model in (whole, apart)
    ]
    assert said[0].equal(said[1])


def test_a_dense_model_that_is_lent_what_it_has_stays_dense(
    build: Callable[..., Any], tmp_path: Path
) -> None:
    """Also after it was altered: who measures it may go on."""
    model = build()
    bench = Bench(model, None, 4, lambda items, *_: items, Kept(tmp_path), tmp_path)
    for _ in range(2):
        with bench.dense.returned():
            assert bench.dense.model is model
        assert bench.dense.model is model
        with bench.altered():
            walk(model, Magnitude(), NofM(2, 4), windows=None)
            assert bench.dense.away


def test_it_says_by_itself_what_it_says_whole(spread: Callable[[str], tuple[Any, Any]]) -> None:
    """Also where the first weights of all, the embedding's, are on disk."""
    whole, apart = spread("mixtral")
    drawn = torch.rand(3, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    vocabulary = whole.config.vocab_size
    tokenizer = type("Vocabulary", (SimpleNamespace,), {"__len__": lambda _: vocabulary})(
        bos_token_id=1, eos_token_id=2
    )
    assert sample(apart, tokenizer, drawn, 1.0).equal(sample(whole, tokenizer, drawn, 1.0))


@pytest.mark.parametrize("device_map", ["auto", {"": "cpu"}])
def test_where_all_fits_nothing_is_elsewhere(
    build: Callable[..., Any], tmp_path: Path, device_map: Any
) -> None:
    build().save_pretrained(tmp_path)
    model = load(Local(str(tmp_path), device_map=device_map))
    assert not any(weight.is_meta for weight in model.parameters())


def test_a_pretrained_model_on_disk_is_pruned_as_the_published_code_prunes_it(real: Path) -> None:
    tokens = load_file(real / "golden" / "tokens.safetensors")["calibration_seed0"]
    golden = load_file(real / "golden" / "sparsegpt-2of4-seed0.safetensors")
    layers: dict[str, int | str] = {
        f"model.layers.{i}": "disk" if i % 2 else "cpu" for i in range(5)
    }
    around = dict.fromkeys(
        ("model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head"), "cpu"
    )
    model = load(Local(str(real / "stories260K"), device_map={**layers, **around}))
    walk(
        model,
        SparseGPT(),
        NofM(2, 4),
        windows=(tokens, torch.ones_like(tokens, dtype=torch.bool)),
    )
    found = {f"{name}.weight": matrix.weight for name, matrix in anatomy.prunable(model).items()}
    assert found.keys() == golden.keys()
    same = sum(int(((found[key] == 0) == (own == 0)).sum()) for key, own in golden.items())
    assert same >= 0.999 * sum(own.numel() for own in golden.values())
