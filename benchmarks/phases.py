"""Where the time of a walk goes, and how near each phase comes to the machine's matrix products.

A phase is a function of the project; what another phase takes within it is not its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from math import prod
from typing import Any
from unittest.mock import patch

import torch
from torch.utils.flop_counter import FlopCounterMode

from sweep.method import sparsegpt, walk, wanda
from sweep.model.passage import Passage
from sweep.numerics import moments
from sweep.numerics.output_error import InputSample

REST = "the rest"
PHASES: dict[str, tuple[tuple[Any, str], ...]] = {
    "dense pass": ((walk, "observe"),),
    "compressed pass": ((Passage, "advance"),),
    "statistics": ((moments.SecondMoment, "add"), (moments.ColumnNorm, "add")),
    "factor": ((moments, "factorise"),),
    "columns": ((sparsegpt, "prune_columns"),),
    "scores": ((wanda.Wanda, "compress"),),
    "output errors": ((InputSample, "add"), (InputSample, "error")),
}
BOUNDS = {
    "dense pass": "attention, norms and activations, bound by memory",
    "compressed pass": "attention, norms and activations, bound by memory",
    "statistics": "memory, for inputs that are read once more",
    "factor": "LAPACK's Cholesky of the blocks on the diagonal",
    "columns": "errors inside blocks, column by column, and thresholds",
    "scores": "memory: a matrix is read and written several times",
    "output errors": "matrices that are read for few tokens",
    REST: "memory, for weights that are checked, counted and put in place",
}
"""What else a phase does than large products of matrices."""


@dataclass
class Spent:
    """Of a phase, or of a whole walk."""

    seconds: float = 0.0
    gflop: float = 0.0


def _product(out: Any, a: Any, b: Any, **_: Any) -> int:
    return 2 * int(a[0]) * int(a[1]) * int(b[1])


def _by_onednn(x: Any, *_: Any, out_shape: Any, **__: Any) -> int:
    return 2 * prod(x) * int(out_shape[-1])


class Counted:
    """Floating-point operations of products of matrices, in place and by oneDNN included."""

    def __init__(self) -> None:
        self._mode = FlopCounterMode(
            display=False,
            custom_mapping={
                torch.ops.aten.addmm_: _product,
                torch.ops.mkldnn._linear_pointwise: _by_onednn,
            },
        )

    def __enter__(self) -> Counted:
        self._mode.__enter__()
        return self

    def __exit__(self, *wrong: Any) -> None:
        self._mode.__exit__(*wrong)

    @property
    def gflop(self) -> float:
        """Up to now, in 10^9."""
        return self._mode.get_total_flops() / 1e9


def phases(work: Callable[[], object], before: Callable[[], object]) -> dict[str, Spent]:
    """Seconds and operations of each phase that the work has, and of the rest.

    The work is done twice: counting takes time.

    Args:
        work: a walk.
        before: sets it up.
    """
    before()
    with _split(time.perf_counter) as seconds:
        work()
    before()
    with Counted() as counted, _split(lambda: counted.gflop) as gflop:
        work()
    return {name: Spent(seconds[name], gflop.get(name, 0.0)) for name in seconds}


@contextmanager
def _split(reading: Callable[[], float]) -> Iterator[dict[str, float]]:
    """How far a meter goes on in each phase."""
    found: dict[str, float] = {REST: 0.0}
    open_phases = [REST]
    last = reading()

    def switched() -> None:
        nonlocal last
        now = reading()
        found[open_phases[-1]] = found.get(open_phases[-1], 0.0) + now - last
        last = now

    def metered(name: str, function: Any) -> Any:
        @wraps(function)
        def call(*args: Any, **given: Any) -> Any:
            switched()
            open_phases.append(name)
            try:
                return function(*args, **given)
            finally:
                switched()
                open_phases.pop()

        return call

    with ExitStack() as patches:
        for name, places in PHASES.items():
            for owner, attribute in places:
                replaced = metered(name, getattr(owner, attribute))
                patches.enter_context(patch.object(owner, attribute, replaced))
        yield found
        switched()
