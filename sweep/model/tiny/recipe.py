"""All that the embedded model's weights depend on: shape, schedule, seeds, optimizers."""

import math
from dataclasses import dataclass

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sweep.model.tiny.muon import Muon
from sweep.model.tiny.tokenizer import MAX_LENGTH


@dataclass(frozen=True)
class Recipe:
    """All that the result depends on; each field is an option of the command."""

    hidden: int = 192
    mlp: int = 512
    blocks: int = 4
    heads: int = 6
    kv_heads: int = 2
    window: int = 256
    batch: int = 16
    steps: int = 2800
    warm_up: int = 60
    flat: float = 0.35
    learning_rate: float = 3e-3
    weight_decay: float = 0.1
    seed: int = 1
    tokenizer_rows: int = 40_000
    threads: int = 2

    def learning_rate_at(self, step: int) -> float:
        """Warm-up, a flat part, then a straight line to zero."""
        falling = (1 - step / self.steps) / (1 - self.flat)
        return self.learning_rate * min(1.0, (step + 1) / self.warm_up, falling)


def new_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A random model; linears that write into the residual stream start smaller."""
    torch.manual_seed(recipe.seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden,
        intermediate_size=recipe.mlp,
        num_hidden_layers=recipe.blocks,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.kv_heads,
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=True,
        rms_norm_eps=1e-5,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attn_implementation="sdpa",
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weight.mul_(1 / math.sqrt(2 * recipe.blocks))
    return model


def new_optimizers(recipe: Recipe, model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the linears, AdamW for the embedding and the norms."""
    linears = [weight for name, weight in model.named_parameters() if "proj" in name]
    others = [weight for name, weight in model.named_parameters() if "proj" not in name]
    return [
        Muon(linears, lr=recipe.learning_rate, weight_decay=recipe.weight_decay),
        torch.optim.AdamW(
            others, lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True
        ),
    ]
