from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from sweep.model import anatomy
from sweep.model.causal import SUPPORTED, looks_ahead
from sweep.model.contents import fingerprint
from sweep.model.local import Local
from sweep.model.placement import check_device, choose_device
from sweep.model.reading import load_tokenizer, read_config, skeleton
from sweep.model.weights import check_weights, load
from sweep.refusal import Refusal


def tokenizer(**special: str) -> Any:
    words = {name: i for i, name in enumerate(["<pad>", "<s>", "</s>", "<unk>", "one", "two"])}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", **special)


@pytest.fixture
def folder(build: Callable[..., Any], tmp_path: Path) -> Path:
    """A model on disk, with its tokenizer."""
    path = tmp_path / "model"
    build().save_pretrained(path)
    tokenizer(bos_token="<s>", eos_token="</s>", pad_token="<pad>").save_pretrained(path)
    return path


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path / "model.safetensors")


def change_config(path: Path, changes: dict[str, Any]) -> None:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | changes))


def refusal(call: Callable[[Any], Any], checkpoint: Local) -> str:
    with pytest.raises(Refusal) as caught:
        call(checkpoint)
    said = str(caught.value)
    assert said.startswith(f"path={checkpoint.path}: ")
    assert "\n" not in said
    return said.removeprefix(f"path={checkpoint.path}: ")


def test_a_model_is_loaded_as_it_was_saved(build: Callable[..., Any], folder: Path) -> None:
    model = load(Local(str(folder), device="cpu"))
    expected = build().state_dict()
    assert model.state_dict().keys() == expected.keys()
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, expected[name]), name
    assert not model.training
    assert not any(weight.requires_grad for weight in model.parameters())
    assert model.device == torch.device("cpu")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_weights_have_the_dtype_that_was_asked_for(folder: Path, dtype: Any) -> None:
    model = load(Local(str(folder), dtype=dtype, device="cpu"))
    assert {weight.dtype for weight in model.parameters()} == {getattr(torch, dtype)}


def test_constructing_reads_nothing() -> None:
    assert Local("no/such/folder").source() == "local"


def test_a_folder_that_is_missing_or_holds_no_model_is_refused(tmp_path: Path) -> None:
    nowhere = Local(str(tmp_path / "none"))
    assert refusal(Local.folder, nowhere).startswith("no such folder")
    assert refusal(Local.folder, Local(str(tmp_path))) == "holds no model (no config.json)"
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"")
    assert refusal(Local.folder, Local(str(file))).startswith("no such folder")


@pytest.mark.parametrize("pickles", [False, True])
def test_a_folder_without_weights_is_refused(folder: Path, pickles: bool) -> None:
    (folder / "model.safetensors").unlink()
    said = refusal(Local.folder, Local(str(folder), pickles=pickles))
    assert said.startswith("holds no weights")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00001.bin"])
def test_pickled_weights_are_refused_unless_allowed(folder: Path, name: str) -> None:
    torch.save(weights(folder), folder / name)
    assert Local(str(folder)).folder() == folder, "safetensors beside them are enough"
    (folder / "model.safetensors").unlink()
    said = refusal(Local.folder, Local(str(folder)))
    assert said.startswith("holds pickled weights only")
    assert "model.pickles=true" in said
    assert Local(str(folder), pickles=True).folder() == folder


def test_pickled_weights_are_read_where_that_is_allowed(folder: Path) -> None:
    saved = weights(folder)
    torch.save(saved, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    model = load(Local(str(folder), device="cpu", pickles=True))
    assert all(torch.equal(model.state_dict()[name], saved[name]) for name in saved)


def test_of_a_pickle_nothing_but_tensors_is_read(folder: Path, tmp_path: Path) -> None:
    class Program:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (os.mkdir, (str(tmp_path / "made"),))

    torch.save({**weights(folder), "program": Program()}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    said = refusal(load, Local(str(folder), pickles=True))
    assert said == "its pickled weights hold more than tensors, and no code is run"
    assert not (tmp_path / "made").exists()


def test_safetensors_of_something_else_open_no_door_to_pickles(folder: Path) -> None:
    saved = weights(folder)
    (folder / "model.safetensors").unlink()
    save_file({"other": torch.ones(2)}, folder / "other.safetensors")
    torch.save(saved, folder / "pytorch_model.bin")
    assert refusal(load, Local(str(folder))).startswith("its weights cannot be loaded")


def test_weights_that_are_missing_are_named(folder: Path) -> None:
    saved = weights(folder)
    del saved["model.layers.1.mlp.up_proj.weight"]
    save_file(saved, folder / "model.safetensors", metadata={"format": "pt"})
    for call in (check, load):
        assert refusal(call, Local(str(folder), device="cpu")) == (
            "its weights lack model.layers.1.mlp.up_proj.weight"
        )


@pytest.mark.parametrize("prefix", ["model.", ""])
def test_blocks_that_the_config_leaves_out_are_named(
    folder: Path, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = {name.replace("model.", prefix): one for name, one in weights(folder).items()}
    save_file(named, folder / "model.safetensors", metadata={"format": "pt"})
    check(Local(str(folder)))
    change_config(folder, {"num_hidden_layers": 2})
    said = refusal(check, Local(str(folder)))
    assert said.startswith(f"holds {prefix}layers.2.")
    assert said.endswith(", and by config.json it has 2 blocks")
    ignored = [r"layers\.2\."]  # as of a family whose files hold a block to predict tokens beyond
    model = "transformers.models.llama.modeling_llama.LlamaForCausalLM"
    monkeypatch.setattr(f"{model}._keys_to_ignore_on_load_unexpected", ignored, raising=False)
    check(Local(str(folder)))


def test_tied_weights_do_not_count_as_missing(build: Callable[..., Any], folder: Path) -> None:
    build(tie_word_embeddings=True).save_pretrained(folder)
    saved, checkpoint = weights(folder), Local(str(folder), device="cpu")
    assert "lm_head.weight" not in saved
    check(checkpoint)
    model = load(checkpoint)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    del saved["model.embed_tokens.weight"]
    save_file(saved, folder / "model.safetensors", metadata={"format": "pt"})
    assert refusal(check, checkpoint) == (
        "its weights lack lm_head.weight, model.embed_tokens.weight"
    )


def test_weights_of_the_wrong_shape_or_damaged_are_refused(folder: Path) -> None:
    saved = weights(folder)
    wrong = {**saved, "model.norm.weight": torch.ones(3)}
    save_file(wrong, folder / "model.safetensors", metadata={"format": "pt"})
    assert refusal(load, Local(str(folder))).startswith("its weights cannot be loaded")
    assert "model.norm.weight is [3], by config.json it is [16]" in refusal(
        check, Local(str(folder))
    )
    (folder / "model.safetensors").write_bytes(b"these are no tensors")
    assert refusal(load, Local(str(folder))).startswith("its weights cannot be loaded")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"model_type": "no-such-model"}', '{"model_type": 3}']
)
def test_a_config_that_cannot_be_used_is_refused(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    said = refusal(read_config, Local(str(folder)))
    assert said.startswith("its config.json cannot be used (")


@pytest.mark.parametrize(
    "changes",
    [
        {"num_attention_heads": 0},
        {"hidden_size": "wide"},
        {"hidden_size": 17},
        {"layer_types": ["none"]},
        {"dtype": "none"},
    ],
)
def test_values_that_a_config_does_not_take_are_refused(folder: Path, changes: Any) -> None:
    change_config(folder, changes)
    said = refusal(read_config, Local(str(folder)))
    assert said.startswith("its config.json cannot be used (")
    assert not said.endswith(":)"), "the line that says what is wrong is there"


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_act": "none"},
        {"intermediate_size": -3},
        {"pad_token_id": 1000},
    ],
)
def test_a_config_that_makes_no_causal_language_model_is_refused(
    folder: Path, changes: Any
) -> None:
    change_config(folder, changes)
    said = refusal(skeleton, Local(str(folder)))
    assert said.startswith("its config.json makes no causal language model (")


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_an_encoder_decoder_is_refused(folder: Path, family: str) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": family}))
    said = refusal(skeleton, Local(str(folder)))
    assert said == f"is an encoder-decoder ({family}); {SUPPORTED}"


@pytest.mark.parametrize("family", ["clip", "siglip", "vit", "wav2vec2", "dpr"])
def test_a_model_of_which_there_is_no_causal_language_model_is_refused(
    folder: Path, family: str
) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": family}))
    said = refusal(skeleton, Local(str(folder)))
    assert said == f"is no causal language model ({family}); {SUPPORTED}"


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "bert-generation"])
def test_an_encoder_is_refused_unless_it_is_made_a_decoder(folder: Path, family: str) -> None:
    small = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 40}
    (folder / "config.json").write_text(json.dumps({"model_type": family, **small}))
    said = refusal(skeleton, Local(str(folder)))
    assert said == (
        f"is configured as an encoder ({family}, is_decoder=false): its tokens see what follows "
        f"them; {SUPPORTED}"
    )
    change_config(folder, {"is_decoder": True})
    assert anatomy.prunable(skeleton(Local(str(folder))))


def two_way() -> Any:
    """Its tokens see what follows them."""
    small = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 40}
    config = AutoConfig.for_model("bert", num_hidden_layers=2, **small)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight.normal_(std=0.3)
    return model.eval()


def test_a_model_that_looks_ahead_is_known_though_it_never_says_some_words() -> None:
    model = two_way()
    silent = torch.tensor([7])
    model.register_forward_hook(
        lambda module, given, found: setattr(
            found, "logits", found.logits.index_fill(-1, silent, float("-inf"))
        )
    )
    assert looks_ahead(model)


def test_a_model_that_looks_ahead_is_refused_when_it_is_loaded(
    folder: Path,
) -> None:
    two_way().save_pretrained(folder)
    said = refusal(load, Local(str(folder), device="cpu"))
    assert said == f"lets tokens see what follows them; {SUPPORTED}"


@pytest.mark.parametrize("family", ["llama", "gemma3", "mixtral", "gpt2", "gpt_oss", "falcon"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_no_decoder_is_taken_for_one_that_looks_ahead(
    build: Callable[..., Any], family: str, dtype: str
) -> None:
    assert not looks_ahead(build(family).to(getattr(torch, dtype)))


def test_packed_weights_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, build: Callable[..., Any]
) -> None:
    model = build()
    packed = torch.zeros(16, 16, dtype=torch.int8)
    model.model.layers[1].self_attn.o_proj.weight = torch.nn.Parameter(packed, requires_grad=False)
    report = {"missing_keys": set()}
    monkeypatch.setattr(
        AutoModelForCausalLM, "from_pretrained", lambda *args, **kwargs: (model, report)
    )
    said = refusal(load, Local(str(folder), device="cpu"))
    assert said == (
        "its model.layers.1.self_attn.o_proj is packed as torch.int8; give the model unquantised"
    )


def test_an_architecture_without_linears_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "gpt2", "n_layer": 0}')
    said = refusal(skeleton, Local(str(folder)))
    assert said == "GPT2LMHeadModel: has no linear layer in its blocks"


# the weights, without reading them


def check(checkpoint: Local) -> None:
    check_weights(checkpoint, skeleton(checkpoint))


@pytest.fixture
def shards(build: Callable[..., Any], folder: Path) -> list[Path]:
    """The model's weights in several files, with an index."""
    (folder / "model.safetensors").unlink()
    build().save_pretrained(folder, max_shard_size="8KB")
    found = sorted(folder.glob("model-*.safetensors"))
    assert len(found) > 2
    return found


@pytest.mark.parametrize(
    "family", ["llama", "qwen2", "gemma3_text", "gpt_neox", "falcon", "opt", "mixtral"]
)
def test_weights_that_are_whole_pass(build: Callable[..., Any], folder: Path, family: str) -> None:
    model = build(family)
    model.save_pretrained(folder)
    check(Local(str(folder)))
    prefix = f"{model.base_model_prefix}."  # which the files of some have not
    bare = {name.removeprefix(prefix): tensor for name, tensor in weights(folder).items()}
    save_file(bare, folder / "model.safetensors", metadata={"format": "pt"})
    check(Local(str(folder)))


def test_weights_in_several_files_pass(folder: Path, shards: list[Path]) -> None:
    check(Local(str(folder)))


def test_the_real_model_passes(real: Path) -> None:
    check(Local(str(real / "stories260K")))


@pytest.mark.parametrize("size", [-1, -1000, 100, 4, 0])
def test_a_download_that_broke_off_is_named(folder: Path, shards: list[Path], size: int) -> None:
    content = shards[1].read_bytes()
    shards[1].write_bytes(content[:size])
    said = refusal(check, Local(str(folder)))
    assert said.startswith(f"{shards[1].name} is damaged or cut short (")


def test_a_file_that_goes_on_behind_its_tensors_is_damaged(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes() + b"0")
    assert refusal(check, Local(str(folder))).startswith("model.safetensors is damaged")


def test_a_part_that_is_missing_is_named(folder: Path, shards: list[Path]) -> None:
    shards[-1].unlink()
    said = refusal(check, Local(str(folder)))
    assert said == f"lacks {shards[-1].name}, which its index names"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"weight_map": 3}'])
def test_an_index_that_cannot_be_read_is_refused(
    folder: Path, shards: list[Path], text: str
) -> None:
    (folder / "model.safetensors.index.json").write_text(text)
    said = refusal(check, Local(str(folder)))
    assert said.startswith("its model.safetensors.index.json cannot be used (")


def test_a_file_from_which_nothing_is_loaded_may_be_as_it_is(folder: Path) -> None:
    (folder / "model-00002-of-00002.safetensors").write_bytes(b"left over")
    check(Local(str(folder)))


def test_weights_under_another_name_are_refused_unless_there_are_pickled_ones(folder: Path) -> None:
    torch.save(weights(folder), folder / "pytorch_model.bin")
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    said = refusal(check, Local(str(folder)))
    assert said.startswith("holds no weights to load (no model.safetensors")
    check(Local(str(folder), pickles=True))


def test_a_tensor_of_another_shape_is_named_with_both(folder: Path) -> None:
    change_config(folder, {"intermediate_size": 32})
    assert refusal(check, Local(str(folder))) == (
        "model.safetensors: model.layers.0.mlp.down_proj.weight is [16, 24], "
        "by config.json it is [16, 32]"
    )


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes", "fp8", "compressed-tensors"])
def test_a_quantised_model_is_refused_before_its_weights_are_read(
    folder: Path, method: str
) -> None:
    packed = {"quant_method": method, "bits": 4, "load_in_4bit": True}
    change_config(folder, {"quantization_config": packed})
    said = refusal(check, Local(str(folder)))
    assert said == f"is quantised ({method}); give the model unquantised"


@pytest.mark.parametrize(("family", "lost"), [("gpt_neox", "embed_out"), ("llama", "model.norm")])
def test_a_weight_under_another_name_is_missing_unless_names_are_converted(
    build: Callable[..., Any], folder: Path, family: str, lost: str
) -> None:
    """As GPT-NeoX's are; what is missing of such a model, loading finds."""
    build(family).save_pretrained(folder)
    saved, checkpoint = weights(folder), Local(str(folder), device="cpu")
    if family == "gpt_neox":
        assert f"{lost}.weight" in saved
        check(checkpoint)
        lost = "gpt_neox.final_layer_norm"
    saved["another.weight"] = saved.pop(f"{lost}.weight")
    save_file(saved, folder / "model.safetensors", metadata={"format": "pt"})
    if family == "gpt_neox":
        check(checkpoint)
    else:
        assert refusal(check, checkpoint) == "its weights lack model.norm.weight"
    assert refusal(load, checkpoint) == f"its weights lack {lost}.weight"


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "opt"])
def test_a_skeleton_has_the_linears_of_the_model_and_no_weights(
    build: Callable[..., Any], folder: Path, family: str
) -> None:
    build(family).save_pretrained(folder)
    checkpoint = Local(str(folder), device="cpu")
    bones, model = anatomy.prunable(skeleton(checkpoint)), anatomy.prunable(load(checkpoint))
    assert list(bones) == list(model)
    for name, linear in bones.items():
        assert linear.weight.shape == model[name].weight.shape
        assert linear.weight.is_meta


def test_code_in_the_folder_is_not_run(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text("raise SystemExit('this code was run')\n")
    said = refusal(read_config, Local(str(folder)))
    assert said.startswith(
        "its config.json cannot be used (it needs code that comes with the model"
    )
    assert said.endswith("set model.trust_remote_code=true if you trust it)")


# the tokenizer


def test_a_tokenizer_pads_on_the_left(folder: Path) -> None:
    found = load_tokenizer(Local(str(folder)))
    assert found.pad_token == "<pad>"
    batch = found(["one two", "one"], padding=True)
    assert batch["input_ids"] == [[4, 5], [0, 4]]
    assert batch["attention_mask"] == [[1, 1], [0, 1]]


def test_a_tokenizer_without_padding_pads_with_eos(folder: Path) -> None:
    tokenizer(eos_token="</s>").save_pretrained(folder)
    found = load_tokenizer(Local(str(folder)))
    assert found.pad_token_id == found.eos_token_id == 2


def test_a_tokenizer_without_eos_is_refused(folder: Path) -> None:
    tokenizer(pad_token="<pad>").save_pretrained(folder)
    said = refusal(load_tokenizer, Local(str(folder)))
    assert said == (
        "its tokenizer has no end-of-sequence token; name one as eos_token in its "
        "tokenizer_config.json"
    )


def test_special_tokens_that_the_model_does_not_know_are_no_special_tokens(folder: Path) -> None:
    change_config(folder, {"vocab_size": 5, "pad_token_id": None})
    tokenizer(eos_token="</s>", pad_token="two").save_pretrained(folder)  # 2 and 5
    found = load_tokenizer(Local(str(folder)))
    assert found.pad_token_id == found.eos_token_id == 2
    tokenizer(eos_token="two").save_pretrained(folder)
    said = refusal(load_tokenizer, Local(str(folder)))
    assert said == (
        "its tokenizer ends sequences with the token 5, and the model knows 5; they do not belong "
        "together"
    )


def test_a_folder_without_tokenizer_is_refused(folder: Path) -> None:
    for file in folder.glob("*token*"):
        file.unlink()
    assert refusal(load_tokenizer, Local(str(folder))) == "holds no tokenizer.json"


def test_a_damaged_tokenizer_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"version": "1.0"')
    assert refusal(load_tokenizer, Local(str(folder))).startswith("its tokenizer cannot be loaded")


# the fingerprint


def test_a_fingerprint_is_of_the_content_and_not_of_the_place(folder: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(folder, tmp_path / "elsewhere" / "other name")
    assert fingerprint(copied) == fingerprint(folder)


def test_a_fingerprint_changes_with_one_byte_of_a_weight(folder: Path) -> None:
    before = fingerprint(folder)
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert fingerprint(folder) != before


def test_a_fingerprint_changes_with_every_file_that_is_read(folder: Path) -> None:
    seen = {fingerprint(folder)}
    names = ("config", "generation_config", "adapter_config", "tokenizer", "tokenizer_config")
    names += ("special_tokens_map", "added_tokens", "vocab", "chat_template")
    for name in names:
        file = folder / f"{name}.json"
        file.write_text((file.read_text() if file.exists() else "") + " ")
        assert fingerprint(folder) not in seen, name
        seen.add(fingerprint(folder))


def test_a_fingerprint_knows_which_file_holds_what(folder: Path) -> None:
    (folder / "vocab.json").write_text("1")
    (folder / "added_tokens.json").write_text("2")
    before = fingerprint(folder)
    (folder / "vocab.json").write_text("2")
    (folder / "added_tokens.json").write_text("1")
    swapped = fingerprint(folder)
    assert swapped != before
    (folder / "added_tokens.json").rename(folder / "special_tokens_map.json")
    assert fingerprint(folder) != swapped


def test_what_other_tools_leave_beside_the_model_changes_nothing(folder: Path) -> None:
    before = fingerprint(folder)
    for name in (
        *("README.md", "LICENSE.txt", "preprocessor_config.json", "trainer_state.json"),
        *("pytorch_model.bin", "consolidated.safetensors", "model.safetensors.index.json"),
        "modeling_own.py",
    ):
        (folder / name).write_text("not read")
    assert fingerprint(folder) == before


def test_of_weights_in_parts_every_part_and_no_other_file_counts(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    places = {name: f"part-{i % 2}.safetensors" for i, name in enumerate(names)}
    for part in sorted({*places.values()}):
        save_file({n: weights[n] for n in names if places[n] == part}, folder / part)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    before = fingerprint(folder)
    save_file({"more": torch.zeros(2)}, folder / "part-2.safetensors")
    assert fingerprint(folder) == before
    changed = {name: weights[name] + 1 for name in names if places[name] == "part-1.safetensors"}
    save_file(changed, folder / "part-1.safetensors")
    assert fingerprint(folder) != before


# the device


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for device in ("cuda", "mps"):
        with pytest.raises(Refusal, match=f"device={device}: this machine has no"):
            check_device(device)
    check_device("cpu")
    check_device("auto")
    assert choose_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("cuda")
    assert choose_device("cpu") == torch.device("cpu")


def test_a_real_model_loads_with_its_tokenizer(real: Path) -> None:
    checkpoint = Local(str(real / "stories260K"), device="cpu")
    model, found = load(checkpoint), load_tokenizer(checkpoint)
    ids = found("Once upon a time", return_tensors="pt")["input_ids"]
    assert ids[0, 0] == found.bos_token_id
    assert found.pad_token_id is not None
    assert model(ids).logits.shape == (1, ids.shape[1], 512)
    assert len(anatomy.prunable(skeleton(checkpoint))) == 5 * 7


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_is_named(folder: Path, bad: float) -> None:
    saved = weights(folder)
    saved["model.layers.2.self_attn.q_proj.weight"][3, 1] = bad
    save_file(saved, folder / "model.safetensors", metadata={"format": "pt"})
    assert refusal(load, Local(str(folder), device="cpu")) == (
        "its model.layers.2.self_attn.q_proj.weight holds NaN or infinity in float32; "
        "are the files whole?"
    )


def test_a_weight_that_the_dtype_cannot_hold_is_named(folder: Path) -> None:
    saved = weights(folder)
    saved["model.norm.weight"][0] = 1e6
    save_file(saved, folder / "model.safetensors", metadata={"format": "pt"})
    load(Local(str(folder), device="cpu"))
    said = refusal(load, Local(str(folder), device="cpu", dtype="float16"))
    assert said.startswith("its model.norm.weight holds NaN or infinity in float16")
