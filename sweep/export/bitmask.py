"""The sparse-bitmask form of compressed-tensors: one bit for every weight, and the non-zero ones.

Its writer and reader are those of the package, of the last versions that have them: from 0.14 on it
wants transformers 4, and from 0.15 on it has neither. So transformers 5 cannot read the form by
itself; `load` does, and the card says how.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from sweep import size
from sweep.numerics.zeros import count_zeros
from sweep.refusal import Refusal

LOADING = """```python
# pip install 'compressed-tensors>=0.12,<0.14'; later versions of it no longer read this form
from compressed_tensors.compressors import ModelCompressor
import transformers
from transformers import AutoConfig, AutoTokenizer, GenerationConfig

folder = "."  # this folder, as it lies on disk
config = AutoConfig.from_pretrained(folder)
compressor = ModelCompressor.from_compression_config(config.quantization_config)
del config.quantization_config
weights = dict(compressor.sparsity_compressor.decompress(folder))
kind = getattr(transformers, config.architectures[0])
model = kind.from_pretrained(None, config=config, state_dict=weights, dtype=config.dtype)
if model.can_generate():
    model.generation_config = GenerationConfig.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
```"""


def check() -> None:
    """Raises: Refusal: the package is not there, or of a version without this form."""
    lacks = "needs pip install 'compression-sweep[export]'"
    try:
        found = version("compressed-tensors")
    except PackageNotFoundError as error:
        raise Refusal("", "", f"--to compressed-tensors: {lacks}") from error
    major, minor = (int(part) for part in found.split(".")[:2])
    if (major, minor) >= (0, 14) or (major, minor) < (0, 12):
        reason = f"{lacks}; the compressed-tensors {found} that is here is not of 0.12 or 0.13"
        raise Refusal("", "", f"--to compressed-tensors: {reason}")


def write(model: Path, out: Path, compression: Mapping[str, Any]) -> None:
    """Write the weights of a model in bitmask form, and say so in its config.json.

    Args:
        model: folder with the dense weights in safetensors.
        out: folder with its other files; gets the weights.
        compression: what became of its layers; those are written as bitmasks.

    Raises:
        ValueError: what was written is not what it was made from.
    """
    from safetensors.torch import load_file, save_file

    layers = {layer["name"] for layer in compression["layers"]}
    stored = size.headers(model)
    renamed = any(f"{name}.weight" not in stored for name in layers)  # some families are, on disk
    with _quiet():
        from compressed_tensors.compressors import ModelCompressor
        from compressed_tensors.config import BitmaskConfig

        config = BitmaskConfig(
            targets=sorted(layers),
            ignore=[],
            global_sparsity=compression["sparsity"],
            sparsity_structure="2:4" if compression["pattern"] == "2:4" else "unstructured",
        )
        compressor = ModelCompressor(sparsity_config=config)
    places: dict[str, str] = {}
    for file in sorted(model.glob("*.safetensors")):
        dense = load_file(file)
        targets = layers | (_worth_it(dense) if renamed else set())
        state = compressor.sparsity_compressor.compress(dense, compression_targets=targets)
        state = {name: tensor.contiguous() for name, tensor in state.items()}
        save_file(state, out / file.name, metadata={"format": "pt"})
        places |= dict.fromkeys(state, file.name)
    if len(set(places.values())) > 1:
        _write_index(out, places)
    compressor.update_config(str(out))
    _compare(model, out, compressor.sparsity_compressor)


def load(folder: Path) -> Any:
    """The model of a folder in bitmask form, dense in memory, in eval mode; what the card says."""
    import transformers
    from transformers import AutoConfig, GenerationConfig

    with _quiet():
        from compressed_tensors.compressors import ModelCompressor

        config = AutoConfig.from_pretrained(folder)
        compressor = ModelCompressor.from_compression_config(config.quantization_config)
        del config.quantization_config
        weights = dict(compressor.sparsity_compressor.decompress(str(folder)))
        kind = getattr(transformers, config.architectures[0])
        model = kind.from_pretrained(None, config=config, state_dict=weights, dtype=config.dtype)
    if model.can_generate():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    return model


def _worth_it(tensors: Mapping[str, torch.Tensor]) -> set[str]:
    """Names of the modules whose matrices have so many zeros that bitmasks are smaller."""
    found = set()
    for name, tensor in tensors.items():
        if tensor.dim() == 2 and name.endswith(".weight"):
            width = tensor.element_size()
            if (
                size.bitmask_bytes(tensor.shape, count_zeros(tensor), width)
                < tensor.numel() * width
            ):
                found.add(name.removesuffix(".weight"))
    return found


def _write_index(out: Path, places: Mapping[str, str]) -> None:
    total = sum(file.stat().st_size for file in out.glob("*.safetensors"))
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
    file = out / "model.safetensors.index.json"
    file.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _compare(model: Path, out: Path, compressor: Any) -> None:
    """Raises: ValueError: a tensor that is read back is not the one that was written."""
    from safetensors import safe_open

    where = {name: file for file in model.glob("*.safetensors") for name in size.header(file)}
    seen = set()
    with _quiet():
        for name, tensor in compressor.decompress(str(out)):
            with safe_open(where[name], framework="pt") as file:
                if not torch.equal(file.get_tensor(name), tensor):
                    raise ValueError(f"{out}: {name} is not read back as it was written")
            seen.add(name)
    if missing := sorted(where.keys() - seen):
        raise ValueError(f"{out}: lacks {missing[0]}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the package's bars, and its remarks on parts of torch that will go."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        yield
