"""Where a model runs and how it computes attention: what can be asked for, and what is there."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from sweep.refusal import Refusal

Device = Literal["auto", "cpu", "cuda", "mps"]
Attention = Literal[
    "auto", "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"
]
DeviceMap = str | dict[str, int | str]

Load = Literal["whole", "stream"]
TOKENS_ON_CPU = (256, 2048)
"""At least and at most: with fewer its products get slow, with more nothing gets faster."""

IN_CACHE = 2**20
"""Numbers of a linear's input or output that stay in a CPU's cache: 4 MB in float32."""

TOKENS_ON_GPU = 2**14
"""More would fill its memory, and no more of its processors: reckoned, and not measured on one."""

DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
"""How accelerate may spread a model by itself."""


def choose_device(device: Device) -> torch.device:
    """`auto` is the first of cuda, mps and cpu that is there."""
    if device != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def check_device(device: Device) -> None:
    """Raises:
    Refusal: a device that this machine lacks.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise Refusal("device", device, "this machine has no CUDA device; auto takes what is there")
    if device == "mps" and not torch.backends.mps.is_available():
        raise Refusal("device", device, "this machine has no MPS device; auto takes what is there")


def check_device_map(device: Device, device_map: DeviceMap | None) -> None:
    """For a constructor.

    Raises:
        Refusal: a map that is none, or one beside a device.
    """
    if device_map is None:
        return
    if isinstance(device_map, str) and device_map not in DEVICE_MAPS:
        reason = f"use {', '.join(DEVICE_MAPS)}, or a mapping of modules to devices"
        raise Refusal("device_map", device_map, f"{reason}, cpu and disk")
    if device_map == {}:
        raise Refusal("device_map", "{}", "names no module; the empty name stands for all")
    if device != "auto":
        reason = "says where the model is, and so does device_map; leave device at auto"
        raise Refusal("device", device, reason)


def check_load(load: Load, device_map: DeviceMap | None, pickles: bool) -> None:
    """For a constructor.

    Raises:
        Refusal: streaming beside what says otherwise where the weights are.
    """
    if load != "stream":
        return
    if device_map is not None:
        reason = "says where the weights are, and so does load=stream; leave device_map out"
        raise Refusal("device_map", device_map, reason)
    if pickles:
        reason = "are read whole, and load=stream reads safetensors only; convert them"
        raise Refusal("pickles", pickles, reason)


def check_accelerate(load: Load, device_map: DeviceMap | None) -> None:
    """Raises:
    Refusal: a device map, or streaming, on a machine without the package that it takes.
    """
    if find_spec("accelerate") is None:
        reason = "needs accelerate; pip install 'compression-sweep[accelerate]'"
        if device_map is not None:
            raise Refusal("device_map", device_map, reason)
        if load == "stream":
            raise Refusal("load", load, reason)


def sequences_at_once(batch_size: int, seqlen: int, width: int, device: torch.device) -> int:
    """How many sequences go through the model together: as many as are asked for, but no more than
    make it faster.

    Args:
        batch_size: how many are asked for.
        seqlen: tokens of the longest.
        width: inputs or outputs of the model's widest linear.
        device: where it runs.
    """
    tokens = TOKENS_ON_GPU
    if device.type == "cpu":
        least, most = TOKENS_ON_CPU
        tokens = min(max(IN_CACHE // width, least), most)
    return min(batch_size, max(1, tokens // seqlen))


def batches(
    lengths: Int[Tensor, " n"], batch_size: int, width: int, device: torch.device
) -> list[Int[Tensor, " _"]]:
    """Sequence numbers by batch: of like length together, the longest first.

    Args:
        lengths: of the sequences, in tokens.
        batch_size, width, device: as `sequences_at_once` takes them.
    """
    order = torch.argsort(lengths, descending=True, stable=True)
    size = sequences_at_once(batch_size, int(lengths.max()), width, device)
    return list(torch.split(order, size))


def placed(attention: Attention, device_map: DeviceMap | None) -> dict[str, Any]:
    """Where the weights go and how attention is computed, as `from_pretrained` wants it."""
    wanted: dict[str, Any] = {}
    if attention != "auto":
        wanted["attn_implementation"] = attention
    if device_map is not None:
        wanted["device_map"] = device_map
        # for what goes to disk in another layout than its file's; gone with this process
        wanted["offload_folder"] = _offload_folder()
    return wanted


@cache
def _offload_folder() -> str:
    folder = tempfile.mkdtemp(prefix="sweep-offload-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
