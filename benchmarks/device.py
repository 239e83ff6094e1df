"""What a piece of work takes on a device: seconds and memory, and what comes out of it.

A GPU takes work and answers later, so whoever reads a clock waits for it before and after.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.contest import Tensors
from sweep.method.walk import Progress

NO_GPU = "no GPU was at hand"
"""Why a row has no values, until it has them."""

Result = Callable[[], dict[str, Tensor]]
"""Gives what came out of the work; asked when the clock stands."""


class Taken(NamedTuple):
    """What a piece of work took: seconds, and at its peak the MB above what was held before."""

    seconds: float
    mb: float


def wait(device: torch.device) -> None:
    """Until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def taken(work: Callable[[], object], device: torch.device) -> Taken:
    """Does the work, and measures it.

    The memory is what torch has given out on the GPU. On a CPU it is that of all tensors that the
    work makes or reads, and counting them takes time: there it is only tried.
    """
    gc.collect()
    if device.type != "cuda":
        with Tensors(()) as tensors:
            started = time.perf_counter()
            work()
            return Taken(time.perf_counter() - started, tensors.peak / 2**20)
    wait(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    started = time.perf_counter()
    work()
    wait(device)
    seconds = time.perf_counter() - started
    return Taken(seconds, (torch.cuda.max_memory_allocated(device) - before) / 2**20)


def clocked(device: torch.device, into: list[float]) -> Progress:
    """Tells how many seconds each block takes."""

    def progress(items: Iterable[nn.Module], what: str, total: int) -> Iterator[nn.Module]:
        for item in items:
            wait(device)
            started = time.perf_counter()
            yield item
            wait(device)
            into.append(time.perf_counter() - started)

    return progress


@dataclass
class Side:
    """One of two ways to do the same: what each of its turns took, and what came out of the last.

    Attributes:
        work: does it.
        device: where.
    """

    work: Callable[[], Result]
    device: torch.device
    turns: list[Taken] = field(default_factory=list)
    result: dict[str, Tensor] = field(default_factory=dict)

    def __call__(self) -> float:
        """One turn; its seconds."""
        done: list[Result] = []
        self.turns.append(taken(lambda: done.append(self.work()), self.device))
        self.result = {name: one.to("cpu", copy=True) for name, one in done[0]().items()}
        return self.turns[-1].seconds


def values(ours: Side, theirs: Side, what: str) -> dict[str, list[float]]:
    """Both sides of a `Contest`: the `seconds` or the `mb` of their turns."""
    sides = {"ours": ours, "theirs": theirs}
    return {name: [getattr(turn, what) for turn in side.turns] for name, side in sides.items()}
