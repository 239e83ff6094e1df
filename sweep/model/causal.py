"""Whether a model is a decoder: every token sees those before it, and none that follows.

Of some encoders (BERT and its kin) transformers makes a "causal" model that reads both ways. Its
perplexity would be no perplexity, since every answer is among what it is asked with.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from sweep.model.offload import entrance

SUPPORTED = (
    "supported are decoder-only models, such as LLaMA, Qwen, Mistral, Gemma, Phi, OPT, Pythia, "
    "GPT-2 and mixtures of experts"
)

CHANGE = 0.01
"""Relative change of logits that no rounding makes; a token that is seen changes them far more."""


def why_not(config: Any) -> str | None:
    """Why a model of this configuration is no decoder; None: as far as that tells, it is one."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    family = config.model_type
    if getattr(config, "is_encoder_decoder", False):  # of BART, half a model would be made
        return f"is an encoder-decoder ({family}); {SUPPORTED}"
    reads_both_ways = family in MODEL_FOR_MASKED_LM_MAPPING_NAMES or family == "bert-generation"
    if reads_both_ways and not getattr(config, "is_decoder", False):
        how = f"is configured as an encoder ({family}, is_decoder=false)"
        return f"{how}: its tokens see what follows them; {SUPPORTED}"
    own = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    if not own and type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return f"is no causal language model ({family}); {SUPPORTED}"
    return None


@torch.inference_mode()
def looks_ahead(model: nn.Module) -> bool:
    """Whether logits of a loaded model depend on tokens that come later."""
    embedding: Any = model.get_input_embeddings()  # type: ignore[operator]
    entries = embedding.weight.shape[0]
    ids = (torch.arange(8, device=entrance(model)) * 7 + 3)[None] % entries
    other = ids.clone()
    other[:, 5:] = (other[:, 5:] + 1) % entries
    one, two = (
        model(input_ids=tokens, use_cache=False).logits[:, :5].float() for tokens in (ids, other)
    )
    if any((logits.isnan() | logits.isposinf()).any() for logits in (one, two)):
        return False  # that is another error, and told where it is met
    one, two = (logits.where(logits.isfinite(), 0.0) for logits in (one, two))  # -inf: never said
    return bool((one - two).norm() > CHANGE * one.norm())
