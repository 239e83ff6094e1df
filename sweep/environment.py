"""What a number depends on besides its settings: code, versions, device, threads."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "tokenizers", "datasets", "numpy", "rouge-score")
OPTIONAL = ("numba", "triton")
"""With them the solver rounds otherwise."""


@cache
def environment(device: str) -> dict[str, Any]:
    """A record that travels with every result.

    Args:
        device: where the model ran.
    """
    import torch

    from sweep.cell import MEASURES, NUMERICS
    from sweep.numerics import products

    on_gpu = device.startswith("cuda")
    return {
        "sweep": version("compression-sweep"),
        "commit": _commit(),
        "numerics": NUMERICS,
        "measures": MEASURES,
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        **{name: _version_if_any(name) for name in OPTIONAL},
        "device": torch.cuda.get_device_name(device) if on_gpu else _processor(),
        "threads": torch.get_num_threads(),
        "products": products.library() if device.startswith("cpu") else None,
        "host": platform.node(),
    }


def _version_if_any(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def device_works() -> bool:
    """Whether the GPU still takes work from this process; after an illegal access it does not."""
    import torch

    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return True
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True


def _commit() -> str | None:
    """The commit of a checkout, marked where files differ from it; None for an installed wheel."""

    def git(*words: str) -> str | None:
        command = ["git", "-C", str(Path(__file__).parent), *words]
        try:
            said = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError:
            return None
        return said.stdout.strip() if said.returncode == 0 else None

    # a wheel may lie in an environment inside someone else's repository
    if git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _processor() -> str:
    """The processor's name where Linux tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123
            names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.machine()
