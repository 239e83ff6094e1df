"""Methods and a metric with which tests make a cell slow, or break it at a chosen moment.

Jobs import this file by its name: its folder is on their PYTHONPATH.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

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
    """SparseGPT that notes every layer in a file, and at the `at`-th does something once.

    Attributes:
        notes: the file; None: notes nothing.
        pause: seconds for every layer.
        fault: `none`, `raise`, `kill` or `memory`.
        at: number of the layer, over all processes.
    """

    notes: str | None = None
    pause: float = 0.0
    fault: str = "none"
    at: int = 10
    scope: str = "all"
    reads_data: ClassVar[bool] = True
    compresses: ClassVar[bool] = True

    def allocate(self, weights: Mapping[str, Any], pattern: Pattern) -> Mapping[str, Pattern]:
        return SparseGPT().allocate(weights, pattern)

    def observe(self, layer: Layer) -> Statistic | None:
        return SparseGPT().observe(layer)

    def compress(self, weight: Any, seen: Statistic | None, pattern: Pattern) -> Compressed:
        time.sleep(self.pause)
        done = SparseGPT().compress(weight, seen, pattern)
        if self.notes is not None and note(Path(self.notes)) == self.at:
            if self.fault == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.fault == "raise":
                raise RuntimeError("as asked")
            if self.fault == "memory":
                held = bytearray(3 * 2**30)
                held[:: 2**12] = b"x" * len(held[:: 2**12])
                time.sleep(20)
        return done


@dataclass(frozen=True)
class Slow(Metric[Scored]):
    """Perplexity in many small steps, of which it notes every one.

    Attributes:
        source, n_samples, seqlen: as of `Perplexity`.
        notes: the file.
        steps: how many.
        pause: seconds for every step.
    """

    source: dict[str, Source]
    notes: str
    n_samples: int | None = None
    seqlen: int | None = None
    steps: int = 20
    pause: float = 0.2

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
        for _ in subject.progress(range(self.steps), "slow steps", self.steps):
            note(Path(self.notes))
            time.sleep(self.pause)
        return self.inner.measure(subject, dense, data)


def note(file: Path) -> int:
    """Add a line; how many there are."""
    with file.open("a") as stream:
        stream.write("x\n")
    return len(file.read_text().splitlines())
