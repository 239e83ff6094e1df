"""How many sequences go through a model together."""

from __future__ import annotations

import pytest
import torch

from sweep.model.placement import sequences_at_once

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("device", "seqlen", "width", "wanted"),
    [
        (CPU, 256, 512, 8),  # the embedded model: 2,048 tokens stay in the cache
        (CPU, 256, 2816, 1),
        (CPU, 64, 11008, 4),  # few tokens would be slow, however wide
        (CPU, 4096, 64, 1),
        (CPU, 16, 1, 32),  # no more than are asked for
        (GPU, 2048, 11008, 8),
        (GPU, 256, 512, 32),
        (GPU, 32768, 512, 1),
    ],
)
def test_no_more_sequences_go_together_than_make_it_faster(
    device: torch.device, seqlen: int, width: int, wanted: int
) -> None:
    assert sequences_at_once(32, seqlen, width, device) == wanted
