"""How fast a model generates: a timing, the only metric that two runs do not agree on.

Both models are timed in one process with the same settings, in turns, so that whatever else the
machine does meets both; the result's environment names device and threads. Zeros make nothing
faster without a kernel that skips them: to see that is what this is for.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Annotated, Any, final

import numpy as np
import torch
from jaxtyping import Int
from pydantic import Field
from torch import Tensor

from sweep.data.source import Origin
from sweep.metric.metric import Examples, Material, Metric, Result, Value
from sweep.metric.subject import Subject
from sweep.numerics.bootstrap import draws, tails
from sweep.numerics.products import plain_linears
from sweep.refusal import Refusal


@final
@dataclass(frozen=True)
class Speed(Metric[Material]):
    """Generated tokens per second.

    Attributes:
        seqlen: tokens of prompt and answer together.
        new_tokens: tokens that are generated, whatever they are.
        sequences: how many at once.
        repeats: how often each model is timed, after a run that is not; the medians count.
    """

    seqlen: Annotated[int, Field(ge=2)] = 64
    new_tokens: Annotated[int, Field(ge=1)] = 32
    sequences: Annotated[int, Field(ge=1)] = 1
    repeats: Annotated[int, Field(ge=1)] = 5

    def __post_init__(self) -> None:
        """Raises: Refusal: no room for a prompt."""
        if self.new_tokens >= self.seqlen:
            reason = f"leaves no room for a prompt within seqlen={self.seqlen}; lower it"
            raise Refusal("new_tokens", self.new_tokens, reason)

    def origins(self) -> tuple[Origin, ...]:
        """See `Metric`; it reads no data."""
        return ()

    def load(self, tokenizer: Any) -> Mapping[str, Material]:
        """See `Metric`; it reads no data."""
        return {}

    def prepare(self, dense: Subject, data: Mapping[str, Material], kept: Examples) -> None:
        """See `Metric`; nothing: the dense model is timed beside the other one."""

    def measure(self, subject: Subject, dense: Subject, data: Mapping[str, Material]) -> Result:
        """See `Metric`; the column is `speed_of_dense`, of which both sides are timed here.

        Intervals are bootstrapped over the timed runs of this process; one run has none.
        """
        tokens = self.sequences * self.new_tokens
        rows = [
            {"repeat": i, "tokens_per_s": tokens / now, "dense_tokens_per_s": tokens / then}
            for i, (now, then) in enumerate(self._time(subject, dense))
        ]
        timed = {
            "tokens_per_s": [row["tokens_per_s"] for row in rows],
            "dense_tokens_per_s": [row["dense_tokens_per_s"] for row in rows],
            "speed_of_dense": [row["tokens_per_s"] / row["dense_tokens_per_s"] for row in rows],
        }
        units = {"speed_of_dense": "1"}
        return Result(
            values={
                name: Value(
                    median(found),
                    units.get(name, "tokens/s"),
                    len(found),
                    "timed runs",
                    *_bounds(found),
                )
                for name, found in timed.items()
            },
            columns=("speed_of_dense",),
            data=[],
            examples={"timings": rows},
        )

    def _time(self, subject: Subject, dense: Subject) -> list[tuple[float, float]]:
        """Seconds of the subject's run and of the dense model's, in turns."""
        ids = _prompts(subject, self.sequences, self.seqlen - self.new_tokens)
        found: list[tuple[float, float]] = []
        for _ in subject.progress(range(self.repeats), "speed", self.repeats):
            now = self._generate(subject, ids)
            if subject is dense:
                found.append((now, now))
                continue
            with dense.returned():
                found.append((now, self._generate(dense, ids)))
        return found

    def _generate(self, subject: Subject, ids: Int[Tensor, "n time"]) -> float:
        """Seconds of a run, after one that warms up."""
        self._run(subject, ids)
        began = _now(subject)
        self._run(subject, ids)
        return _now(subject) - began

    @plain_linears()
    def _run(self, subject: Subject, ids: Int[Tensor, "n time"]) -> None:
        found = subject.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            min_new_tokens=self.new_tokens,
            max_new_tokens=self.new_tokens,
            do_sample=False,
            pad_token_id=subject.tokenizer.pad_token_id,
        )
        if found.shape[1] != self.seqlen:
            raise RuntimeError(f"generated {found.shape[1] - ids.shape[1]} tokens, not as asked")


def _bounds(found: Sequence[float]) -> tuple[float, float] | tuple[None, None]:
    """The 95 % bootstrap interval of a median."""
    if len(found) < 2:
        return None, None
    return tails(np.array([np.median(np.repeat(found, times)) for times in draws(len(found))]))


def _prompts(subject: Subject, count: int, length: int) -> Int[Tensor, "n time"]:
    """Tokens at random, the same for every model of the vocabulary: no text, so no corpus."""
    size = min(len(subject.tokenizer), subject.model.get_input_embeddings().weight.shape[0])
    ids = torch.randint(size, (count, length), generator=torch.Generator().manual_seed(0))
    return ids.to(subject.device)


def _now(subject: Subject) -> float:
    """The clock, once the device has done what it was given. In seconds."""
    if subject.device.type == "cuda":
        torch.cuda.synchronize(subject.device)
    elif subject.device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()
