"""The interface of a model to be compressed, and how its folder is read.

Constructing a checkpoint reads nothing. What planning needs (identity, architecture, tokenizer) is
had without the weights; `load` is the only expensive call.
"""

from __future__ import annotations

import json
import math
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from sweep.model import anatomy, stream
from sweep.model.anatomy import blocks, prunable
from sweep.model.causal import SUPPORTED, looks_ahead, why_not
from sweep.model.contents import SAFETENSORS, VOCABULARIES, matching, weight_files
from sweep.model.offload import read
from sweep.model.placement import (
    Attention,
    Device,
    DeviceMap,
    Load,
    check_accelerate,
    check_device,
    choose_device,
    placed,
)
from sweep.refusal import Refusal

DType = Literal["float32", "bfloat16", "float16"]


class Checkpoint(ABC):
    """A causal language model in Hugging Face format."""

    dtype: DType
    device: Device
    attention: Attention
    device_map: DeviceMap | None
    load: Load
    pickles: bool
    trust_remote_code: bool
    blocks: str | None
    dense: str | None

    @abstractmethod
    def folder(self) -> Path:
        """The folder that holds it.

        Raises:
            Refusal: no such folder, or none that holds a model.
        """

    @abstractmethod
    def source(self) -> str:
        """`embedded`, `local` or `hub`: what kind of model a result speaks of."""

    @abstractmethod
    def name(self) -> str | None:
        """What it is called in the cell's name; None: as the option of the configuration."""

    @abstractmethod
    def pinned(self, node: Mapping[str, Any]) -> Mapping[str, Any]:
        """Its part of a configuration, so that it means the same model for ever.

        Raises:
            Refusal: see `folder`.
        """

    @abstractmethod
    def wrong(self, reason: str) -> Refusal:
        """What is wrong with it, by the setting that chose it."""


def check_folder(path: str, pickles: bool) -> Path:
    """The folder as a path, if it holds a model with weights that may be read.

    Raises:
        Refusal: for the setting `path`.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise Refusal("path", path, "no such folder; give one that holds a Hugging Face model")
    if not (folder / "config.json").is_file():
        raise Refusal("path", path, "holds no model (no config.json)")
    if any(folder.glob("*.safetensors")):
        return folder
    if not any(folder.glob("*.bin")):
        raise Refusal("path", path, "holds no weights (no *.safetensors)")
    if not pickles:
        raise Refusal(
            "path",
            path,
            "holds pickled weights only, which can run code when loaded; convert them to "
            "safetensors, or set model.pickles=true if you trust them",
        )
    return folder


def read_config(checkpoint: Checkpoint) -> Any:
    """The `transformers` configuration.

    Raises:
        Refusal: a configuration that is no JSON, of an architecture that is not known, or with
            values that it does not take.
    """
    from transformers import AutoConfig

    folder = checkpoint.folder()
    try:
        json.loads((folder / "config.json").read_text())
        return AutoConfig.from_pretrained(
            folder, trust_remote_code=checkpoint.trust_remote_code, local_files_only=True
        )
    except Exception as error:  # every family fails in its own way over a value it cannot take
        reason = f"its config.json cannot be used ({_first_line(error)})"
        raise checkpoint.wrong(reason) from error


def text_config(config: Any) -> Any:
    """The part of a configuration that is about text, of a model that also sees or hears."""
    return config.get_text_config(decoder=True)


def load_tokenizer(checkpoint: Checkpoint) -> Any:
    """The tokenizer, set to pad on the left; with EOS where the model knows no token for padding.

    Raises:
        Refusal: no tokenizer, or one without an end-of-sequence token that the model knows.
    """
    from transformers import AutoTokenizer

    folder = checkpoint.folder()
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=checkpoint.trust_remote_code, local_files_only=True
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        if not matching(folder, VOCABULARIES):
            raise checkpoint.wrong("holds no tokenizer.json") from error
        reason = f"its tokenizer cannot be loaded ({_first_line(error)})"
        raise checkpoint.wrong(reason) from error
    if tokenizer.eos_token_id is None:
        reason = "its tokenizer has no end-of-sequence token"
        raise checkpoint.wrong(f"{reason}; name one as eos_token in its tokenizer_config.json")
    entries = text_config(read_config(checkpoint)).vocab_size
    if tokenizer.eos_token_id >= entries:
        reason = f"its tokenizer ends sequences with the token {tokenizer.eos_token_id}"
        raise checkpoint.wrong(
            f"{reason}, and the model knows {entries}; they do not belong together"
        )
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id >= entries:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    return tokenizer


def skeleton(checkpoint: Checkpoint) -> nn.Module:
    """The architecture on the meta device: names and shapes, no weights, no memory.

    Raises:
        Refusal: a configuration of which no decoder can be made, or one without linears in its
            blocks.
    """
    from transformers import AutoModelForCausalLM

    config = read_config(checkpoint)
    if reason := why_not(config):
        raise checkpoint.wrong(reason)
    try:
        with torch.device("meta"):
            model: nn.Module = AutoModelForCausalLM.from_config(
                config, trust_remote_code=checkpoint.trust_remote_code
            )
    except Exception as error:  # as in read_config
        reason = f"its config.json makes no causal language model ({_first_line(error)})"
        raise checkpoint.wrong(reason) from error
    anatomy.tell(model, anatomy.Told(checkpoint.blocks, checkpoint.dense))
    try:
        prunable(model)
    except Refusal as refusal:
        raise checkpoint.wrong(refusal.reason) from refusal
    return model


def check_weights(checkpoint: Checkpoint, bones: nn.Module) -> None:
    """Hold the headers of the safetensors against their files and against the architecture.

    No weight is read, so a download that broke off is found before anything runs. Names that the
    architecture has not are left to `load`, which converts some older names.

    Args:
        checkpoint: the model.
        bones: its skeleton.

    Raises:
        Refusal: a file that is missing, damaged or cut short, or a tensor of another shape.
    """
    expected = {name: list(tensor.shape) for name, tensor in bones.state_dict().items()}
    if hasattr(read_config(checkpoint), "quantization_config"):  # weights are packed
        expected = {}
    shards = _shards(checkpoint)
    if not shards and not checkpoint.pickles:
        reason = f"holds no weights to load (no {SAFETENSORS}, and no index of its parts)"
        raise checkpoint.wrong(reason)
    found: set[str] = set()
    for file in shards:
        for name, shape in _shapes(checkpoint, file).items():
            # of as many values, it may be a layout that is converted when the model is loaded
            if math.prod(shape) != math.prod(expected.get(name, shape)):
                reason = f"{file}: {name} is {shape}, by config.json it is {expected[name]}"
                raise checkpoint.wrong(reason)
            found.add(name)
    if checkpoint.load == "stream":
        _check_streams(found, bones)


def _check_streams(found: set[str], bones: nn.Module) -> None:
    """Raises:
    Refusal: a weight of a block that the files hold in another layout, or under another name.
    """
    inside = set(blocks(bones).modules())
    prefix = f"{getattr(bones, 'base_model_prefix', '')}."
    for module_name, module in bones.named_modules():
        for own, _ in module.named_parameters(recurse=False) if module in inside else ():
            name = f"{module_name}.{own}"
            if name not in found and name.removeprefix(prefix) not in found:
                raise Refusal("load", "stream", stream.not_as_it_is(name))


def _shards(checkpoint: Checkpoint) -> list[str]:
    """The safetensors from which the model is loaded: one, or those that an index names."""
    try:
        files = weight_files(checkpoint.folder())
    except ValueError as error:
        raise checkpoint.wrong(str(error)) from error
    return [file for file in files if file.endswith(".safetensors")]


def _shapes(checkpoint: Checkpoint, file: str) -> dict[str, list[int]]:
    """Shapes by name, from the header of one file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(checkpoint.folder() / file, framework="pt") as tensors:
            names = list(tensors.keys())
            return {name: tensors.get_slice(name).get_shape() for name in names}
    except FileNotFoundError as error:
        raise checkpoint.wrong(f"lacks {file}, which its index names") from error
    except (OSError, SafetensorError) as error:
        reason = (
            f"{file} is damaged or cut short ({_first_line(error)}); delete it in "
            f"{checkpoint.folder()} and fetch it again"
        )
        raise checkpoint.wrong(reason) from error


def load(checkpoint: Checkpoint, scratch: Path | None = None) -> Any:
    """The model with its weights, on its device, in eval mode, without gradients.

    Args:
        checkpoint: the model.
        scratch: a folder for weights that are replaced in one that is streamed; None: the system's.

    Raises:
        Refusal: weights that do not fit the configuration, cannot be read, are packed or are no
            numbers, or a model that looks ahead.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    folder = checkpoint.folder()
    device = choose_device(checkpoint.device)
    streams = checkpoint.load == "stream"
    spread = stream.placement(skeleton(checkpoint), device) if streams else checkpoint.device_map
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, checkpoint.dtype),
            trust_remote_code=checkpoint.trust_remote_code,
            use_safetensors=None if checkpoint.pickles else True,
            local_files_only=True,
            output_loading_info=True,
            **placed(checkpoint.attention, spread),
        )
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        reason = f"its weights cannot be loaded ({_first_line(error)})"
        raise checkpoint.wrong(reason) from error
    anatomy.tell(model, anatomy.Told(checkpoint.blocks, checkpoint.dense))
    missing = sorted(report["missing_keys"])
    if missing:
        raise checkpoint.wrong(f"its weights lack {', '.join(missing[:3])}")
    if streams:
        stream.attach(model, device, scratch or Path(tempfile.gettempdir()) / "sweep-stream")
    elif spread is None:
        model = model.to(device)
    model.eval().requires_grad_(False)
    _check_values(checkpoint, model)
    if looks_ahead(model):
        raise checkpoint.wrong(f"lets tokens see what follows them; {SUPPORTED}")
    return model


def _check_values(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Raises:
    Refusal: weights that are packed, or no numbers; names the first.
    """
    for name, matrix in prunable(model).items():
        kept = read(matrix.module, matrix.parameter).dtype
        if not kept.is_floating_point:
            reason = f"its {name} is packed as {kept}; give the model unquantised"
            raise checkpoint.wrong(reason)
    for name, _ in model.named_parameters():
        module, _, own = name.rpartition(".")
        if not read(model.get_submodule(module), own).isfinite().all():
            reason = f"its {name} holds NaN or infinity in {checkpoint.dtype}; are the files whole?"
            raise checkpoint.wrong(reason)


def check_placement(checkpoint: Checkpoint) -> None:
    """What this machine lacks to run the model as it is configured.

    Raises:
        Refusal: a device, accelerate, or an implementation of attention.
    """
    check_device(checkpoint.device)
    check_accelerate(checkpoint.load, checkpoint.device_map)
    if checkpoint.attention == "auto":
        return
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            AutoModelForCausalLM.from_config(
                read_config(checkpoint),
                dtype=getattr(torch, checkpoint.dtype),
                attn_implementation=checkpoint.attention,
                trust_remote_code=checkpoint.trust_remote_code,
            )
    except (ImportError, ValueError) as error:
        reason = f"cannot be used ({_first_line(error)}); auto takes what can"
        raise Refusal("attention", checkpoint.attention, reason) from error


def _first_line(error: BaseException) -> str:
    """The first line of its text, and the one that a colon announces; of code, what would help."""
    text = f"no such name: {error}" if isinstance(error, KeyError) else str(error)
    if "trust_remote_code" in text:
        return (
            "it needs code that comes with the model, which is not run; "
            "set model.trust_remote_code=true if you trust it"
        )
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    lines = lines or [type(error).__name__]
    return " ".join(lines[:2] if lines[0].endswith(":") else lines[:1])
