"""The hash of a model's weights is the same in memory and in its files, however they lie there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sweep.model import anatomy, digest
from sweep.model.digest import sha256_on_disk, weights_sha256
from sweep.model.local import Local

WHOLE = ("mixtral", "gpt_oss", "gemma3")
"""Whose tensors are not in their files as they are in the model, or hold several experts."""


@pytest.mark.parametrize("family", ["llama", "gpt2", "phi3", "opt", *WHOLE])
def test_a_model_is_the_same_in_its_files_and_one_with_another_weight_is_not(
    build: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    model = build(family).bfloat16()
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    loaded: list[str] = []

    def load(checkpoint: Local) -> Any:
        loaded.append(family)
        return original(checkpoint)

    original = digest.load
    monkeypatch.setattr(digest, "load", load)
    checkpoint = Local(str(tmp_path), dtype="bfloat16", device="cpu")
    assert sha256_on_disk(checkpoint) == weights_sha256(model)
    assert bool(loaded) == (family in WHOLE)
    last = list(anatomy.prunable(model).values())[-1]
    with torch.no_grad():
        last.weight[-1, -1] += 1
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert sha256_on_disk(checkpoint) == weights_sha256(model)
