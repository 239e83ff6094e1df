"""What planning reads of a model: configuration, tokenizer, architecture; no weights."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import nn

from sweep.model import anatomy
from sweep.model.causal import why_not
from sweep.model.checkpoint import Checkpoint
from sweep.model.contents import VOCABULARIES, matching
from sweep.model.placement import check_accelerate, check_device
from sweep.refusal import Refusal


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
        reason = f"its config.json cannot be used ({first_line(error)})"
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
        reason = f"its tokenizer cannot be loaded ({first_line(error)})"
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
        reason = f"its config.json makes no causal language model ({first_line(error)})"
        raise checkpoint.wrong(reason) from error
    anatomy.tell(model, anatomy.Told(checkpoint.blocks, checkpoint.dense))
    try:
        anatomy.prunable(model)
    except Refusal as refusal:
        raise checkpoint.wrong(refusal.reason) from refusal
    return model


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
        reason = f"cannot be used ({first_line(error)}); auto takes what can"
        raise Refusal("attention", checkpoint.attention, reason) from error


def first_line(error: BaseException) -> str:
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
