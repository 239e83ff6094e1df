"""The weights of a model: held against its architecture before anything runs, and loaded."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn

from sweep.model import anatomy, stream
from sweep.model.causal import SUPPORTED, looks_ahead
from sweep.model.checkpoint import Checkpoint
from sweep.model.contents import SAFETENSORS, weight_files
from sweep.model.finite import remedy
from sweep.model.offload import read
from sweep.model.placement import choose_device, placed
from sweep.model.reading import first_line, read_config, skeleton
from sweep.refusal import Refusal


def check_weights(checkpoint: Checkpoint, bones: nn.Module) -> None:
    """Hold the headers of the safetensors against their files and against the architecture.

    No weight is read, so a download that broke off is found before anything runs. Of a model whose
    files hold a name that transformers converts (experts one by one, an older spelling), `load`
    finds what is missing; of any other it is found here. Of pickled weights nothing is known before
    they are loaded.

    Args:
        checkpoint: the model.
        bones: its skeleton.

    Raises:
        Refusal: weights that are quantised, a file that is missing, damaged or cut short, a tensor
            of another shape, or one that no file holds.
    """
    _check_format(checkpoint)
    expected = {name: list(tensor.shape) for name, tensor in bones.state_dict().items()}
    found: set[str] = set()
    for file, shapes in stored(checkpoint).items():
        for name, shape in shapes.items():
            # of as many values, it may be a layout that is converted when the model is loaded
            if math.prod(shape) != math.prod(expected.get(name, shape)):
                reason = f"{file}: {name} is {shape}, by config.json it is {expected[name]}"
                raise checkpoint.wrong(reason)
            found.add(name)
    if found and (missing := _missing(found, expected.keys(), bones)):
        raise checkpoint.wrong(_lacks(missing))
    if (beyond := _beyond(found, bones)) is not None:
        count = len(anatomy.blocks(bones))
        raise checkpoint.wrong(f"holds {beyond}, and by config.json it has {count} blocks")
    if checkpoint.load == "stream":
        _check_streams(found, bones)


def stored(checkpoint: Checkpoint) -> dict[str, dict[str, list[int]]]:
    """Shapes of the tensors in each of a model's safetensors, from their headers.

    Returns:
        By file and by name; nothing of a model whose weights are pickled, where that is allowed.

    Raises:
        Refusal: no weights, or a file that is missing, damaged or cut short.
    """
    shards = _shards(checkpoint)
    if not shards and not checkpoint.pickles:
        reason = f"holds no weights to load (no {SAFETENSORS}, and no index of its parts)"
        raise checkpoint.wrong(reason)
    return {file: _shapes(checkpoint, file) for file in shards}


def _check_format(checkpoint: Checkpoint) -> None:
    """Raises:
    Refusal: the weights are kept in fewer bits, by whichever method: what would be pruned is no
        longer what the model was trained to be, and few formats give it back when it is loaded.
    """
    packed = getattr(read_config(checkpoint), "quantization_config", None)
    if packed is not None:
        said = packed if isinstance(packed, Mapping) else packed.to_dict()
        method = said.get("quant_method") or "by an unknown method"
        reason = f"is quantised ({method}); give the model unquantised"
        raise checkpoint.wrong(reason)


def _missing(found: Set[str], expected: Set[str], bones: nn.Module) -> list[str]:
    """Names of the architecture that no file holds; none where a name may become one of them.

    A weight that is tied to another one is there if either is.
    """
    prefix = f"{getattr(bones, 'base_model_prefix', '')}."  # files may do without it, or have it
    there = found | {f"{prefix}{name}" for name in found}
    there |= {name.removeprefix(prefix) for name in found}
    tied: Mapping[str, str] = getattr(bones, "all_tied_weights_keys", {})
    there |= {name for pair in tied.items() if there & {*pair} for name in pair}
    ignored = getattr(bones, "_keys_to_ignore_on_load_missing", None) or ()
    absent = [
        name
        for name in sorted(expected - there)
        if not any(re.search(pattern, name) for pattern in ignored)
    ]
    return [] if absent and are_converted(found, bones) else absent


def _beyond(found: Set[str], bones: nn.Module) -> str | None:
    """A tensor of a block behind the last that the architecture has, and knows nothing of."""
    blocks = anatomy.blocks(bones)
    place = next(name for name, module in bones.named_modules() if module is blocks)
    bare = place.removeprefix(f"{getattr(bones, 'base_model_prefix', '')}.")  # files may do so too
    numbered = re.compile(rf"(?:{re.escape(place)}|{re.escape(bare)})\.(\d+)\.")
    ignored = getattr(bones, "_keys_to_ignore_on_load_unexpected", None) or ()
    matches = (numbered.match(name) for name in sorted(found))
    late = [match.string for match in matches if match and int(match[1]) >= len(blocks)]
    return next((n for n in late if not any(re.search(known, n) for known in ignored)), None)


def are_converted(names: Iterable[str], bones: nn.Module) -> bool:
    """Whether transformers renames one of these tensors when it loads them, or makes others of it.

    Args:
        names: in the files.
        bones: the skeleton of the model.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping

    rules = get_model_conversion_mapping(bones)
    return any(rule.rename_source_key(name)[1] is not None for name in names for rule in rules)


def _lacks(missing: list[str]) -> str:
    return f"its weights lack {', '.join(missing[:3])}"


def _check_streams(found: set[str], bones: nn.Module) -> None:
    """Raises:
    Refusal: a weight of a block that the files hold in another layout, or under another name.
    """
    inside = set(anatomy.blocks(bones).modules())
    prefix = f"{getattr(bones, 'base_model_prefix', '')}."
    for module_name, module in bones.named_modules():
        for own, _ in module.named_parameters(recurse=False) if module in inside else ():
            name = f"{module_name}.{own}"
            if name not in found and name.removeprefix(prefix) not in found:
                raise Refusal("load", "stream", stream.not_as_it_is(name))


def _shards(checkpoint: Checkpoint) -> list[str]:
    """The safetensors from which the model is loaded: one, or those that an index names."""
    try:
        files = weight_files(checkpoint.folder())
    except ValueError as error:
        raise checkpoint.wrong(str(error)) from error
    return [file for file in files if file.endswith(".safetensors")]


def _shapes(checkpoint: Checkpoint, file: str) -> dict[str, list[int]]:
    """Shapes by name, from the header of one file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(checkpoint.folder() / file, framework="pt") as tensors:
            names = list(tensors.keys())
            return {name: tensors.get_slice(name).get_shape() for name in names}
    except FileNotFoundError as error:
        raise checkpoint.wrong(f"lacks {file}, which its index names") from error
    except (OSError, SafetensorError) as error:
        reason = (
            f"{file} is damaged or cut short ({first_line(error)}); delete it in "
            f"{checkpoint.folder()} and fetch it again"
        )
        raise checkpoint.wrong(reason) from error


def load(checkpoint: Checkpoint, scratch: Path | None = None) -> Any:
    """The model with its weights, on its device, in eval mode, without gradients.

    Args:
        checkpoint: the model.
        scratch: a folder for weights that are replaced in one that is streamed; None: the system's.

    Raises:
        Refusal: weights that do not fit the configuration, cannot be read, are packed or are no
            numbers, or a model that looks ahead.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    folder = checkpoint.folder()
    device = choose_device(checkpoint.device)
    streams = checkpoint.load == "stream"
    spread = stream.placement(skeleton(checkpoint), device) if streams else checkpoint.device_map
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, checkpoint.dtype),
            trust_remote_code=checkpoint.trust_remote_code,
            use_safetensors=None if checkpoint.pickles else True,
            local_files_only=True,
            output_loading_info=True,
            **placed(checkpoint.attention, spread),
        )
    except UnpicklingError as error:
        reason = "its pickled weights hold more than tensors, and no code is run"
        raise checkpoint.wrong(reason) from error
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        reason = f"its weights cannot be loaded ({first_line(error)})"
        raise checkpoint.wrong(reason) from error
    anatomy.tell(model, anatomy.Told(checkpoint.blocks, checkpoint.dense))
    missing = sorted(report["missing_keys"])
    if missing:
        raise checkpoint.wrong(_lacks(missing))
    if streams:
        stream.attach(model, device, scratch or Path(tempfile.gettempdir()) / "sweep-stream")
    elif spread is None:
        model = model.to(device)
    model.eval().requires_grad_(False)
    _check_values(checkpoint, model)
    if looks_ahead(model):
        raise checkpoint.wrong(f"lets tokens see what follows them; {SUPPORTED}")
    return model


def _check_values(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Raises:
    Refusal: weights that are packed, or no numbers; names the first.
    """
    for name, matrix in anatomy.prunable(model).items():
        kept = read(matrix.module, matrix.parameter).dtype
        if not kept.is_floating_point:
            reason = f"its {name} is packed as {kept}; give the model unquantised"
            raise checkpoint.wrong(reason)
    for name, _ in model.named_parameters():
        module, _, own = name.rpartition(".")
        if not read(model.get_submodule(module), own).isfinite().all():
            what = f"holds NaN or infinity in {checkpoint.dtype}"
            help = remedy(getattr(torch, checkpoint.dtype))
            reason = f"its {name} {what}{help}; are the files whole?"
            raise checkpoint.wrong(reason)
