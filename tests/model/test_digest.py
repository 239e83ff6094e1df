"""The hash of a model's weights is the same in memory and in its files, however they lie there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sweep.model import anatomy, digest
from sweep.model.digest import sha256_on_disk, weights_sha256
from sweep.model.local import Local
from sweep.model.original import Copied

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


@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_over_every_matrix_as_rows_of_bytes_behind_its_name(
    build: Callable[..., Any], family: str, dtype: torch.dtype
) -> None:
    model = build(family).to(dtype)
    whole = b"".join(
        name.encode() + bytes(matrix.weight.detach().contiguous().view(torch.uint8).flatten())
        for name, matrix in sorted(anatomy.prunable(model).items())
    )
    assert weights_sha256(model) == hashlib.sha256(whole).hexdigest()


@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral"])
def test_the_dense_weights_are_a_copy_however_they_lie(
    build: Callable[..., Any], family: str
) -> None:
    model = build(family)
    before = weights_sha256(model)
    original = Copied(model)
    original.keep()
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
    assert weights_sha256(model) != before
    original.restore()
    assert weights_sha256(model) == before
