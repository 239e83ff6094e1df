"""How fast a model generates: a timing, the only metric that two runs do not agree on.

Both models are timed in one process with the same settings, so that device and threads are the
same; the result's environment names them. As the model is compressed in place, the dense one is
timed before and not in turns. Zeros make nothing faster without a kernel that skips them: to see
that is what this is for.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Annotated, Any, final

import torch
from jaxtyping import Int
from pydantic import Field
from torch import Tensor

from sweep.data.source import Origin
from sweep.metric.metric import Examples, Material, Metric, Result, Value
from sweep.metric.subject import Subject
from sweep.refusal import Refusal


@final
@dataclass(frozen=True)
class Speed(Metric[Material]):
    """Generated tokens per second.

    Attributes:
        seqlen: tokens of prompt and answer together.
        new_tokens: tokens that are generated, whatever they are.
        sequences: how many at once.
        repeats: how often it is timed, after once that is not; the median counts.
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
        """See `Metric`; what the dense cell keeps was timed elsewhere, or at another time."""
        self._seconds(dense)

    def measure(self, subject: Subject, dense: Subject, data: Mapping[str, Material]) -> Result:
        """See `Metric`; the column is `speed_of_dense`: both timed here, so they can be compared."""
        tokens = self.sequences * self.new_tokens
        pairs = zip(self._seconds(subject), self._seconds(dense), strict=True)
        rows = [
            {"repeat": i, "tokens_per_s": tokens / now, "dense_tokens_per_s": tokens / then}
            for i, (now, then) in enumerate(pairs)
        ]
        now, then = (median(row[key] for row in rows) for key in list(rows[0])[1:])
        timed = len(rows), "timed runs"
        return Result(
            values={
                "tokens_per_s": Value(now, "tokens/s", *timed),
                "dense_tokens_per_s": Value(then, "tokens/s", *timed),
                "speed_of_dense": Value(now / then, "1", *timed),
            },
            columns=("speed_of_dense",),
            data=[],
            examples={"timings": rows},
        )

    def _seconds(self, subject: Subject) -> list[float]:
        """Of each timed run; timed the first time only."""
        return subject.once("speed", str(self), lambda: self._time(subject))

    def _time(self, subject: Subject) -> list[float]:
        ids = _prompts(subject, self.sequences, self.seqlen - self.new_tokens)
        runs = range(1 + self.repeats)
        seconds = [self._generate(subject, ids) for _ in subject.progress(runs, "speed", len(runs))]
        return seconds[1:]  # the first one warms up

    def _generate(self, subject: Subject, ids: Int[Tensor, "n time"]) -> float:
        began = _now(subject)
        found = subject.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            min_new_tokens=self.new_tokens,
            max_new_tokens=self.new_tokens,
            do_sample=False,
            pad_token_id=subject.tokenizer.pad_token_id,
        )
        seconds = _now(subject) - began
        if found.shape[1] != self.seqlen:
            raise RuntimeError(f"generated {found.shape[1] - ids.shape[1]} tokens, not as asked")
        return seconds


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
