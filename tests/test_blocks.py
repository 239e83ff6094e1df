"""Blocks of an interrupted compression, whatever keeps their weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, final

import pytest
from torch import Tensor

from sweep.blocks import Blocks
from sweep.files import Folder
from sweep.method.sparsegpt import SparseGPT
from sweep.method.walk import Finished, Outcome, walk
from sweep.model import anatomy
from sweep.model.local import Local
from sweep.model.matrix import Matrix
from sweep.model.weights import load
from sweep.sparsity.n_of_m import NofM


@final
class Two(Finished):
    """Stops at the third block."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks = blocks

    def restore(self, number: int, linears: Mapping[str, Matrix]) -> Mapping[str, Outcome] | None:
        if number == 2:
            raise KeyboardInterrupt
        return None

    def keep(
        self, number: int, linears: Mapping[str, Matrix], outcomes: Mapping[str, Outcome]
    ) -> None:
        self.blocks.keep(number, linears, outcomes)


@pytest.mark.parametrize(
    ("family", "how"),
    [
        *(("llama", "whole"), ("gpt2", "whole"), ("mixtral", "whole"), ("gpt_oss", "whole")),
        *(("llama", "stream"), ("gpt2", "stream")),
    ],
)
def test_a_walk_that_was_stopped_goes_on_and_ends_where_it_would_have(
    build: Callable[..., Any],
    windows: tuple[Tensor, Tensor],
    family: str,
    how: Literal["whole", "stream"],
    tmp_path: Path,
) -> None:
    pattern = NofM(2, 4)
    whole = build(family)
    whole.save_pretrained(tmp_path / "model")
    stopped, again = (
        load(Local(str(tmp_path / "model"), device="cpu", load=how), tmp_path / f"scratch{turn}")
        for turn in range(2)
    )
    expected = walk(whole, SparseGPT(), pattern, windows=windows)
    blocks = Blocks(Folder(str(tmp_path), "cell"))
    with pytest.raises(KeyboardInterrupt):
        walk(stopped, SparseGPT(), pattern, windows=windows, finished=Two(blocks))
    blocks.write()
    assert blocks.there() == 2
    found = walk(again, SparseGPT(), pattern, windows=windows, finished=blocks)
    assert found == expected
    matrices = anatomy.prunable(again)
    for name, matrix in anatomy.prunable(whole).items():
        assert matrices[name].weight.equal(matrix.weight), name
