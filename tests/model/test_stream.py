"""A model whose blocks come from disk one at a time gives what the whole one gives."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from socket import gethostname
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sweep.files import Kept
from sweep.method.magnitude import Magnitude
from sweep.method.method import Method
from sweep.method.sparsegpt import SparseGPT
from sweep.method.walk import walk
from sweep.method.wanda import Wanda
from sweep.model import anatomy
from sweep.model.local import Local
from sweep.model.offload import resident
from sweep.model.weights import load
from sweep.refusal import Refusal
from sweep.sparsity.n_of_m import NofM
from sweep.workshop import Bench

Windows = tuple[Tensor, Tensor]
FAMILIES = ("llama", "gpt2", "opt", "gpt_neox")


@pytest.fixture
def both(build: Callable[..., Any], tmp_path: Path) -> Callable[[str], tuple[Any, Any]]:
    """A saved model, whole and streamed."""

    def both(family: str) -> tuple[Any, Any]:
        build(family).save_pretrained(tmp_path / "model")
        path = str(tmp_path / "model")
        streamed = load(Local(path, device="cpu", load="stream"), tmp_path / "scratch")
        return load(Local(path, device="cpu")), streamed

    return both


def _away(model: Any) -> bool:
    return all(weight.is_meta for weight in anatomy.blocks(model).parameters())


@pytest.mark.parametrize(
    "method", [Magnitude(), Wanda(), SparseGPT()], ids=lambda m: type(m).__name__
)
@pytest.mark.parametrize("family", FAMILIES)
def test_compressed_or_dense_it_is_the_same_model(
    both: Callable[[str], tuple[Any, Any]], windows: Windows, family: str, method: Method
) -> None:
    whole, streamed = both(family)
    assert _away(streamed)
    assert not any(weight.is_meta for weight in whole.parameters())
    ids = windows[0]
    with torch.no_grad():
        assert streamed(ids).logits.equal(whole(ids).logits)
    records = walk(streamed, method, NofM(2, 4), windows=windows, batch_size=4)
    assert records == walk(whole, method, NofM(2, 4), windows=windows, batch_size=4)
    assert _away(streamed)
    expected = anatomy.prunable(whole)
    for name, matrix in anatomy.prunable(streamed).items():
        assert matrix.weight.equal(expected[name].weight), name
    with torch.inference_mode():
        assert streamed(ids).logits.equal(whole(ids).logits)
    told = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    assert streamed.generate(ids, **told).equal(whole.generate(ids, **told))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_bench_sets_it_back_saves_it_and_takes_it_up_again(
    both: Callable[[str], tuple[Any, Any]], windows: Windows, family: str, tmp_path: Path
) -> None:
    whole, streamed = both(family)
    bench, plain = (
        Bench(model, None, 4, lambda items, *_: items, Kept(tmp_path), tmp_path)
        for model in (streamed, whole)
    )
    assert bench.weights_sha256() == (dense := plain.weights_sha256())
    with bench.altered():
        walk(streamed, Wanda(), NofM(2, 4), windows=windows)
        kept = bench.weights_sha256()
        assert kept != dense
        with bench.dense.returned():
            assert bench.weights_sha256() == dense
        assert bench.weights_sha256() == kept
        with torch.no_grad():
            logits = streamed(windows[0]).logits
        bench.save(tmp_path / "kept")
    assert bench.weights_sha256() == dense
    assert not list((tmp_path / "scratch").rglob("*.safetensors"))
    with plain.altered():
        walk(whole, Wanda(), NofM(2, 4), windows=windows)
        plain.save(tmp_path / "plain")
        assert plain.weights_sha256() == kept
    saved, usual = (load(Local(str(tmp_path / name), device="cpu")) for name in ("kept", "plain"))
    for (name, weight), (same, other) in zip(
        saved.state_dict().items(), usual.state_dict().items(), strict=True
    ):
        assert name == same
        assert weight.equal(other), name
    assert saved.config.to_dict() == {
        **usual.config.to_dict(),
        "_name_or_path": saved.config.to_dict()["_name_or_path"],
    }
    with torch.no_grad():
        assert saved(windows[0]).logits.equal(logits)
    for folder in ("kept", "plain"):
        with bench.altered():
            bench.adopt(tmp_path / folder, False)
            assert bench.weights_sha256() == kept
        assert bench.weights_sha256() == dense


def test_a_saved_model_of_other_names_is_refused_and_not_half_taken(
    both: Callable[[str], tuple[Any, Any]], tmp_path: Path
) -> None:
    _, streamed = both("llama")
    bench = Bench(streamed, None, 4, lambda items, *_: items, Kept(tmp_path), tmp_path)
    dense = bench.weights_sha256()
    bench.save(tmp_path / "kept")
    for file in (tmp_path / "kept").glob("*.safetensors"):
        bare = {name.removeprefix("model."): 2 * weight for name, weight in load_file(file).items()}
        save_file(bare, file, metadata={"format": "pt"})
    with pytest.raises(Refusal, match=r"do not hold model\.layers\.0\..* as it is in the model"):
        bench.adopt(tmp_path / "kept", False)
    assert bench.weights_sha256() == dense


def test_what_fails_in_the_middle_of_a_block_leaves_the_dense_model(
    both: Callable[[str], tuple[Any, Any]], tmp_path: Path
) -> None:
    _, streamed = both("llama")
    bench = Bench(streamed, None, 4, lambda items, *_: items, Kept(tmp_path), tmp_path)
    dense = bench.weights_sha256()
    matrix = anatomy.prunable(streamed)["model.layers.1.mlp.up_proj"]

    def fail() -> None:
        with bench.altered(), resident(anatomy.blocks(streamed)[1]):
            matrix.put(torch.zeros_like(matrix.weight))
            raise FloatingPointError

    with pytest.raises(FloatingPointError):
        fail()
    assert _away(streamed)
    assert bench.weights_sha256() == dense


def test_scratch_of_a_process_that_was_killed_goes_and_that_of_a_living_one_stays(
    both: Callable[[str], tuple[Any, Any]], tmp_path: Path
) -> None:
    left = tmp_path / "scratch" / f"{gethostname()}-killed"
    elsewhere = tmp_path / "scratch" / "another-machine-1"
    elsewhere.mkdir(parents=True)
    (elsewhere / "lock").touch()
    left.mkdir(parents=True)
    (left / "lock").touch()
    (left / "model.layers.0.mlp.up_proj.weight.safetensors").touch()
    path = str(tmp_path / "model")
    models = [both("llama")[1], load(Local(path, load="stream"), tmp_path / "scratch")]
    for model in models:
        walk(model, Magnitude(), NofM(2, 4), windows=None)
    assert len(list((tmp_path / "scratch").iterdir())) == 3
    assert not left.exists()
    assert elsewhere.exists()
    ids = torch.arange(3, 9)[None]
    with torch.no_grad():
        assert models[0](ids).logits.equal(models[1](ids).logits)


def test_what_the_files_hold_in_another_layout_is_refused(
    build: Callable[..., Any], tmp_path: Path
) -> None:
    build("mixtral").save_pretrained(tmp_path)
    with pytest.raises(Refusal, match=r"load=stream: its files do not hold .*mlp.* use load="):
        load(Local(str(tmp_path), load="stream"))
    with pytest.raises(Refusal, match="device_map=auto: says where the weights are, and so does"):
        Local(str(tmp_path), load="stream", device_map="auto")
    with pytest.raises(Refusal, match="pickles=true: are read whole"):
        Local(str(tmp_path), load="stream", pickles=True)


@pytest.mark.parametrize(
    ("method", "golden"), [(SparseGPT(), "sparsegpt-2of4-seed0"), (Wanda(), "wanda-2of4-seed0")]
)
def test_a_pretrained_model_gives_the_very_weights_that_it_gives_whole(
    real: Path, tmp_path: Path, method: Method, golden: str
) -> None:
    tokens = load_file(real / "golden" / "tokens.safetensors")["calibration_seed0"]
    path = str(real / "stories260K")
    whole = load(Local(path, device="cpu"))
    streamed = load(Local(path, device="cpu", load="stream"), tmp_path)
    for model in (whole, streamed):
        windows = (tokens, torch.ones_like(tokens, dtype=torch.bool))
        walk(model, method, NofM(2, 4), windows=windows)
    published = load_file(real / "golden" / f"{golden}.safetensors")
    expected = anatomy.prunable(whole)
    same = 0
    for name, matrix in anatomy.prunable(streamed).items():
        assert matrix.weight.equal(expected[name].weight), name
        same += int(((matrix.weight == 0) == (published[f"{name}.weight"] == 0)).sum())
    assert same >= 0.999 * sum(own.numel() for own in published.values())


OWN = {
    "configuration_own.py": """
from transformers import LlamaConfig


class OwnConfig(LlamaConfig):
    model_type = "own_llama"
""",
    "modeling_own.py": """
from transformers import LlamaForCausalLM
from .configuration_own import OwnConfig


class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
""",
}


def test_a_model_is_kept_with_the_code_that_it_came_with(
    build: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that it can be loaded from where it is kept."""
    modules = str(tmp_path / "modules")
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", modules)
    monkeypatch.setattr(sys, "path", [*sys.path])
    source = tmp_path / "model"
    build().save_pretrained(source)
    for name, code in OWN.items():
        (source / name).write_text(code)
    config = json.loads((source / "config.json").read_text())
    auto = {"AutoConfig": "configuration_own.OwnConfig"}
    auto["AutoModelForCausalLM"] = "modeling_own.OwnForCausalLM"
    changed = {"model_type": "own_llama", "auto_map": auto, "architectures": ["OwnForCausalLM"]}
    (source / "config.json").write_text(json.dumps(config | changed))
    ids = torch.arange(3, 11)[None]
    given: dict[str, Any] = {"device": "cpu", "trust_remote_code": True}
    for how in ("whole", "stream"):
        model = load(Local(str(source), load=how, **given), tmp_path / "scratch")  # type: ignore[arg-type]
        kept = tmp_path / how
        Bench(model, None, 4, None, Kept(str(tmp_path)), source).save(kept)
        assert {name: (kept / name).read_text() for name in OWN} == OWN
        again = load(Local(str(kept), **given))
        assert type(again).__name__ == "OwnForCausalLM"
        with torch.inference_mode():
            assert again(ids).logits.equal(model(ids).logits)


@pytest.mark.parametrize("file", ["tokenizer_config.json", "processor_config.json"])
def test_code_of_a_tokenizer_or_processor_is_kept_though_the_model_has_none(
    build: Callable[..., Any], tmp_path: Path, file: str
) -> None:
    source = tmp_path / "model"
    source.mkdir()
    (source / "own.py").write_text("class Own: ...\n")
    bench = Bench(build(), None, 4, None, Kept(str(tmp_path)), source)
    bench.save(tmp_path / "plain")
    assert not list((tmp_path / "plain").glob("*.py"))  # by nothing said to be the model's
    (source / file).write_text(json.dumps({"auto_map": {"AutoTokenizer": [None, "own.Own"]}}))
    bench.save(tmp_path / "kept")
    assert (tmp_path / "kept" / "own.py").read_text() == "class Own: ...\n"
