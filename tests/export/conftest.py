"""A sweep whose cells keep their models, and what those models say in memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

SMALL = ("calib.n_samples=4", "metric=[perplexity]", "metric.perplexity.n_samples=2")


@dataclass(frozen=True)
class Swept:
    """What a sweep has left.

    Attributes:
        outputs: its folder.
        said: file with token ids, and the logits for them of every compressed model, taken from
            memory at the moment it was saved: `ids`, `unstructured`, `2to4`.
        wide: whether linear layers were not torch's own at that moment.
    """

    outputs: Path
    said: Path
    wide: bool

    def cell(self, part: str) -> Path:
        """The folder of the one cell with this in its name."""
        (found,) = (self.outputs / "cells").glob(f"*{part}*")
        return found


@pytest.fixture(scope="session")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """Wanda, unstructured and 2:4, kept; magnitude, not kept; the dense model's cell."""
    from hydra import compose, initialize_config_dir
    from safetensors.torch import save_file

    from sweep.config import CONF, freeze
    from sweep.grid import sweep
    from sweep.numerics import products
    from sweep.workshop import Bench

    outputs = tmp_path_factory.mktemp("kept") / "outputs"
    ids = torch.randint(10, 500, (2, 24), generator=torch.Generator().manual_seed(0))
    spoken: list[torch.Tensor] = []
    wide: list[bool] = []

    def save(bench: Bench, path: Path) -> None:
        wide.append(torch.nn.functional.linear is not products.PLAIN)
        with torch.inference_mode(), products.plain_linears():
            spoken.append(bench.model(input_ids=ids).logits.clone())
        saved(bench, path)

    points = [
        ["method=wanda", "keep=model"],
        ["method=wanda", "sparsity=2to4", "keep=model"],
        ["method=magnitude"],
    ]
    configs = []
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for point in points:
            words = [f"outputs={outputs}", "tracker=none", "report=table", *SMALL, *point]
            config = compose("config", words, return_hydra_config=True)
            configs.append(freeze(config, config.hydra.runtime.choices, words))
    saved = Bench.save
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bench, "save", save)
        sweep(configs)
    said = outputs / "said.safetensors"
    save_file({"ids": ids, "unstructured": spoken[0], "2to4": spoken[1]}, said)
    return Swept(outputs, said, all(wide))
