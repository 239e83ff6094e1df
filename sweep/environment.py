"""What a number depends on besides its settings: code, versions, device, threads."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import version
from typing import Any

PACKAGES = ("torch", "transformers", "tokenizers", "numpy")


@cache
def environment(device: str) -> dict[str, Any]:
    """A record that travels with every result.

    Args:
        device: where the model ran.
    """
    import torch

    from sweep.cell import NUMERICS

    on_gpu = device.startswith("cuda")
    return {
        "sweep": version("compression-sweep"),
        "numerics": NUMERICS,
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "device": torch.cuda.get_device_name(device) if on_gpu else _processor(),
        "threads": torch.get_num_threads(),
        "host": platform.node(),
    }


def _processor() -> str:
    """The processor's name where Linux tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123
            names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.machine()
