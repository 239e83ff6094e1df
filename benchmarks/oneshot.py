"""llmcompressor's side of `benchmarks.compress`: run as a file by the Python of its environment.

    python oneshot.py FOLDER sparsegpt|wanda

FOLDER holds `model/` and `ids.safetensors`. Writes what became of the weights to
`FOLDER/llmcompressor.safetensors`; its last line is JSON: seconds of the second of two runs, for
the other side is warm too, and versions.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from llmcompressor import oneshot
from llmcompressor.modifiers.pruning import SparseGPTModifier, WandaPruningModifier
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

MODIFIERS = {"sparsegpt": SparseGPTModifier, "wanda": WandaPruningModifier}


def main() -> None:
    """One run."""
    folder, name = Path(sys.argv[1]), sys.argv[2]
    ids = load_file(folder / "ids.safetensors")["ids"]
    rows = {"input_ids": ids.tolist(), "attention_mask": torch.ones_like(ids).tolist()}
    # it asks for a tokenizer even for token ids, and does not use it
    words = Tokenizer(WordLevel({"_": 0}, unk_token="_"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="_")

    def run() -> tuple[Any, float]:
        model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
        modifier = MODIFIERS[name](sparsity=0.5, targets=["Linear"], ignore=["re:.*lm_head"])
        started = time.perf_counter()
        oneshot(
            model=model,
            processor=tokenizer,
            dataset=Dataset.from_dict(rows),
            recipe=modifier,
            max_seq_length=ids.shape[1],
            num_calibration_samples=len(ids),
            shuffle_calibration_samples=False,
        )
        return model, time.perf_counter() - started

    run()
    model, seconds = run()
    weights = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(
        {key: value for key, value in weights.items() if key.endswith("proj.weight")},
        folder / "llmcompressor.safetensors",
    )
    versions = {"torch": torch.__version__, "llmcompressor": version("llmcompressor")}
    print(json.dumps({"seconds": seconds, **versions}))


if __name__ == "__main__":
    main()
