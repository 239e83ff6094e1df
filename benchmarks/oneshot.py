"""llmcompressor's side of `benchmarks.compress`: run as a file by the Python of its environment.

    python oneshot.py FOLDER sparsegpt|wanda

FOLDER holds `model/` and `ids.safetensors`. Writes what became of the weights to
`FOLDER/llmcompressor.safetensors`; its last line is JSON: seconds, and the version of torch.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

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
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    rows = {"input_ids": ids.tolist(), "attention_mask": torch.ones_like(ids).tolist()}
    modifier = MODIFIERS[name](sparsity=0.5, targets=["Linear"], ignore=["re:.*lm_head"])
    # it asks for a tokenizer even for token ids, and does not use it
    words = Tokenizer(WordLevel({"_": 0}, unk_token="_"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="_")
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
    seconds = time.perf_counter() - started
    weights = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(
        {key: value for key, value in weights.items() if key.endswith("proj.weight")},
        folder / "llmcompressor.safetensors",
    )
    print(json.dumps({"seconds": seconds, "torch": torch.__version__}))


if __name__ == "__main__":
    main()
