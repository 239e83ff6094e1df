"""What tests of several packages share: models of several families, a corpus, real material."""

from __future__ import annotations

import atexit
import gc
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import settings
from torch import Tensor

gc.disable()  # until all tests are collected
if not torch.cuda.is_available():  # where there is one, kernels are tested compiled
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before anyone imports triton
os.environ.pop("HYDRA_FULL_ERROR", None)  # commands that tests run answer in one line
if "PYTEST_XDIST_WORKER" in os.environ:  # tests side by side, and each on its share of processors
    THREADS = max(1, len(os.sched_getaffinity(0)) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    torch.set_num_threads(THREADS)
    os.environ["OMP_NUM_THREADS"] = str(THREADS)  # of commands that they run

settings.register_profile("sweep", deadline=None, derandomize=True, database=None, max_examples=60)
settings.load_profile("sweep")

REAL = Path(__file__).resolve().parents[2] / "shared" / "real"

LONGEST = (
    *("slurm_stopped", "slurm_failures", "slurm", "claims", "readme", "local", "track_server"),
    *("shared_folder", "stopping", "loopback", "size", "hub", "judge", "testbed"),
)
"""Files of tests, by how long they take; first, so that none is left over at the end."""


@pytest.hookimpl(tryfirst=True)  # before the command's -m is obeyed
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "cluster" in getattr(item, "fixturenames", ()):
            item.add_marker("slurm")
    names = [f"test_{name}" for name in LONGEST]
    items.sort(key=lambda item: [*names, item.path.stem].index(item.path.stem))


def pytest_collection_finish() -> None:
    """What is imported and collected is not searched for garbage again."""
    gc.freeze()
    gc.enable()
    atexit.register(gc.unfreeze)


SIZES: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {
        "use_sliding_window": True,
        "sliding_window": 4,
        "layer_types": ["full_attention", "sliding_attention", "full_attention"],
    },
    "gemma3_text": {
        "head_dim": 4,
        "sliding_window": 4,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
    "gpt_neox": {},
    "falcon": {"alibi": False, "new_decoder_architecture": False, "ffn_hidden_size": 24},
    "opt": {"ffn_dim": 24, "word_embed_proj_dim": 16},
    "gemma2": {"head_dim": 4, "sliding_window": 4, "final_logit_softcapping": 2.0},
    "granite": {"logits_scaling": 8.0},
    "cohere": {"logit_scale": 0.25},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "gpt2": {"n_inner": 24},
    "qwen3": {"head_dim": 4},
    "mistral": {"sliding_window": 4},
    "gemma3": {
        "text_config": {
            **SIZES,
            "head_dim": 4,
            "sliding_window": 4,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
        "vision_config": {
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_hidden_layers": 4,
            "num_attention_heads": 2,
            "image_size": 8,
            "patch_size": 4,
        },
        "mm_tokens_per_image": 4,
    },
    "phi3": {},
    "qwen3_moe": {
        "head_dim": 4,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 8,
    },
    "qwen2_moe": {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 8,
        "shared_expert_intermediate_size": 8,
    },
    "gpt_oss": {
        "head_dim": 4,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "sliding_window": 4,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
}
"""Families that call their blocks differently, by `model_type`: masks and positions that change
from block to block, blocks that answer with tuples, linears that lie in no `mlp`; some that do more
to their logits than apply the head; and some that keep their weights in other ways: turned, fused,
the experts of a mixture in one tensor, the blocks beside those of a vision tower."""


@pytest.fixture
def build() -> Callable[..., Any]:
    """Builds a random causal LM of a family, always the same one."""

    def build(family: str = "llama", **changes: Any) -> Any:
        from transformers import AutoConfig, AutoModelForCausalLM

        config = AutoConfig.for_model(family, **{**SIZES, **FAMILIES.get(family, {}), **changes})
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).eval()
        with torch.no_grad():  # weights large enough that every token and block matters
            for weight in model.parameters():
                if weight.dim() > 1:
                    weight.normal_(std=0.3)
        return model

    return build


@pytest.fixture
def windows() -> tuple[Tensor, Tensor]:
    """Six windows of ten tokens, none of them padding."""
    ids = torch.randint(3, 40, (6, 10), generator=torch.Generator().manual_seed(1))
    return ids, torch.ones_like(ids, dtype=torch.bool)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Tensor]]:
    """The weights with which oneDNN is asked, whatever this CPU is."""
    from sweep.numerics import products

    found: list[Tensor] = []

    def seen(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        found.append(weight)
        return products.PLAIN(x, weight, bias)

    monkeypatch.setattr(products, "library", lambda: "oneDNN")
    monkeypatch.setattr(products, "_by_onednn", seen)
    with torch.no_grad():
        yield found


@pytest.fixture
def asked_always(asked: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The same, however small the products are."""
    from sweep.numerics import products

    monkeypatch.setattr(products, "LEAST", 1)
    monkeypatch.setattr(products, "ROWS", 1)
    return asked


@pytest.fixture
def rows() -> Any:
    """A corpus of the rows that it is given, each closed by EOS; a seed turns them round."""
    from sweep.data.source import Origin, Packing, Source

    @dataclass(frozen=True)
    class Rows(Source):
        held: Sequence[Any]
        packing: ClassVar[Packing | None] = "concat"
        is_file: ClassVar[bool] = False
        joint: ClassVar[str | None] = None

        def origin(self) -> Origin:
            return Origin("rows", "memory", str(len(self.held)), "here")

        def rows(self, part: str, seed: int | None) -> Iterator[Any]:
            assert self.packing is None or part == ("calibration", "evaluation")[seed is None]
            yield from self.held if seed is None else reversed(self.held)

    return Rows


@pytest.fixture(scope="session")
def hub_reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A user's process that reads from a hub on the loopback address; see tests/hub_reader.py."""
    from tests.hub_reader import Reader

    with Reader.running(tmp_path_factory.mktemp("user") / "hf") as reader:
        yield reader


@pytest.fixture
def real() -> Path:
    """The folder of real material; a test that needs it is skipped where there is none."""
    if not REAL.is_dir():
        pytest.skip(f"no real material in {REAL}")
    return REAL


@pytest.fixture(scope="session")
def composer() -> Any:
    """Composes as a grid is composed; what was composed for one test is there for the next."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.initialize import initialize_config_dir
    from hydra.types import HydraContext, RunMode

    from sweep.config import CONF
    from sweep_jobs.composed import Composer

    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        config = loader.load_configuration("config", [], run_mode=RunMode.MULTIRUN)
    return Composer(HydraContext(config_loader=loader, callbacks=None), config)


@pytest.fixture
def frozen(composer: Any, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """The configuration of a command with these overrides; outputs go to a temporary folder."""

    def frozen(*overrides: str) -> dict[str, Any]:
        given = [f"outputs={tmp_path / 'outputs'}", "tracker=none", "report=table", *overrides]
        return {**composer.frozen(given), "words": list(overrides)}

    return frozen


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small files that options need: a model's folder, a text, instructions, tokens."""
    from safetensors.torch import save_file

    from sweep.model.embedded import WEIGHTS

    folder = tmp_path_factory.mktemp("files")
    text = folder / "text.txt"
    text.write_text("\n\n".join(f"The fox number {i} ran to the river." for i in range(400)))
    rows = [
        {"instruction": "Repeat the text.", "input": f"fox {i}", "output": f"fox {i}"}
        for i in range(40)
    ]
    instructions = folder / "instructions.jsonl"
    instructions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tokens = folder / "tokens.safetensors"
    ids = torch.randint(10, 500, (12, 32), generator=torch.Generator().manual_seed(0))
    save_file({"calibration": ids[:8].contiguous(), "evaluation": ids[8:].contiguous()}, tokens)
    return {"model": WEIGHTS, "text": text, "instructions": instructions, "tokens": tokens}
