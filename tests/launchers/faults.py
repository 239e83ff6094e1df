"""A method and a metric with which tests make a cell slow, or break it at a chosen moment.

Jobs import this file by its name: its folder is on their PYTHONPATH. What must not change the
identity of a cell comes by the environment: NOTES, a file to which every step adds a line, and
LAYER_PAUSE and STEP_PAUSE, seconds.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sweep import grid
from sweep.data.source import Origin, Source
from sweep.method.method import Compressed, Layer, Method
from sweep.method.sparsegpt import SparseGPT
from sweep.metric.metric import Examples, Metric, Result
from sweep.metric.perplexity import Perplexity
from sweep.metric.subject import Subject
from sweep.metric.text import Scored
from sweep.numerics.moments import Statistic
from sweep.sparsity.pattern import Pattern


@dataclass(frozen=True)
class Faulty(Method):
    """SparseGPT that does something at its tenth layer, over all processes, and never again.

    Attributes:
        fault: `none`, `raise`, `kill`, `gpu` or `memory`.
    """

    fault: str = "none"
    scope: str = "all"
    reads_data: ClassVar[bool] = True
    compresses: ClassVar[bool] = True

    def allocate(self, weights: Mapping[str, Any], pattern: Pattern) -> Mapping[str, Pattern]:
        return SparseGPT().allocate(weights, pattern)

    def observe(self, layer: Layer) -> Statistic | None:
        return SparseGPT().observe(layer)

    def compress(self, weight: Any, seen: Statistic | None, pattern: Pattern) -> Compressed:
        time.sleep(float(os.environ.get("LAYER_PAUSE", 0)))
        done = SparseGPT().compress(weight, seen, pattern)
        note(f"gpu {os.environ.get('CUDA_VISIBLE_DEVICES')}")
        if note(f"layer {self.fault}") == 10:
            if self.fault == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.fault == "gpu":  # none is here; what is looked at is what comes of it
                grid.device_works = lambda: False
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            if self.fault == "raise":
                raise RuntimeError("as asked")
            if self.fault == "memory":
                held = bytearray(3 * 2**30)
                held[:: 2**12] = b"x" * len(held[:: 2**12])
                time.sleep(20)
        return done


@dataclass(frozen=True)
class Slow(Metric[Scored]):
    """Perplexity, after twenty small steps; fields as of `Perplexity`."""

    source: dict[str, Source]
    n_samples: int | None = None
    seqlen: int | None = None

    @property
    def inner(self) -> Perplexity:
        return Perplexity(self.source, self.n_samples, self.seqlen)

    def origins(self) -> tuple[Origin, ...]:
        return self.inner.origins()

    def load(self, tokenizer: Any) -> Mapping[str, Scored]:
        return self.inner.load(tokenizer)

    def prepare(self, dense: Subject, data: Mapping[str, Scored], kept: Examples) -> None:
        self.inner.prepare(dense, data, kept)

    def measure(self, subject: Subject, dense: Subject, data: Mapping[str, Scored]) -> Result:
        for _ in subject.progress(range(20), "slow steps", 20):
            note("step")
            time.sleep(float(os.environ.get("STEP_PAUSE", 0)))
        return self.inner.measure(subject, dense, data)


def note(what: str) -> int:
    """Add a line; how many of this kind there are."""
    file = Path(os.environ["NOTES"])
    with file.open("a") as stream:
        stream.write(f"{what}\n")
    return file.read_text().splitlines().count(what)
