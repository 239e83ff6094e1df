"""What a model would be on disk, without writing it: names, types and shapes of its tensors."""

from __future__ import annotations

from typing import Any

import torch

NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
}
"""As safetensors call them; what is not here has one byte."""


def headers(model: Any) -> dict[str, dict[str, Any]]:
    """`dtype` and `shape` of every tensor, by name, as `save_pretrained` lays them out.

    Experts that are one tensor in memory are as many on disk as their family has there, and a
    tensor that is tied to another one is not there twice. No weight is copied.
    """
    from transformers.core_model_loading import revert_weight_conversion

    tied = set(model.all_tied_weights_keys)
    shapes = {
        name: torch.empty_like(tensor, device="meta")
        for name, tensor in model.state_dict().items()
        if name not in tied
    }
    return {
        name: {"dtype": NAMES.get(tensor.dtype, "U8"), "shape": list(tensor.shape)}
        for name, tensor in revert_weight_conversion(model, shapes).items()
    }
