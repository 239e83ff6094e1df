"""The interface of a metric, and the form of what it finds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar, runtime_checkable

from sweep.data.row import Contents
from sweep.data.source import Origin
from sweep.metric.subject import Memory, Subject


@dataclass(frozen=True)
class Mean:
    """How a value comes from the rows behind it: two cells can then be compared row by row.

    `sum(weight * field) / sum(weight)` over the rows, or `exp` of that.

    Attributes:
        corpus: whose rows.
        field: of a row.
        weight: of a row, a field; None: every row counts once.
        exp: whether the value is `exp` of the mean.
        where: a field of a row and what it holds in those that count; None: all count.
    """

    corpus: str
    field: str
    weight: str | None = None
    exp: bool = False
    where: tuple[str, str] | None = None


@dataclass(frozen=True)
class Value:
    """A number that explains itself.

    Attributes:
        value: the number.
        unit: `nats`, `1` for a share or a ratio, `tokens`, ….
        n: over how many of `of` it is taken.
        of: what is counted: `tokens`, `sequences`, `examples`.
        low, high: 95 % interval, where there is one (sweep/numerics/bootstrap.py).
        better: which way a better model is, where one can say so; by these values cells are ranked.
        mean: how it comes from the rows, where it is a mean.
    """

    value: float
    unit: str
    n: int
    of: str
    low: float | None = None
    high: float | None = None
    better: Literal["lower", "higher"] | None = None
    mean: Mean | None = None


@dataclass(frozen=True)
class Result:
    """What a metric found.

    Attributes:
        values: by name.
        columns: which of them are the metric's columns in a sweep's table.
        data: what was measured on, per corpus: its origin, number of rows, their joint hash.
        examples: rows behind the values, by corpus.
    """

    values: Mapping[str, Value]
    columns: tuple[str, ...]
    data: Sequence[Mapping[str, Any]]
    examples: Mapping[str, Sequence[Mapping[str, Any]]]


Examples = Mapping[str, Sequence[Mapping[str, Any]]]
"""Rows behind a result, by corpus."""


@runtime_checkable
class Material(Protocol):
    """Data of one corpus, read and tokenised."""

    @property
    def contents(self) -> Contents:
        """Of the rows in it."""

    @property
    def digests(self) -> frozenset[str]:
        """Content hashes of the rows in it."""

    @property
    def longest(self) -> int:
        """Length of the longest sequence that the model will be fed, in tokens."""


M = TypeVar("M", bound=Material)


class Metric(ABC, Generic[M]):
    """A measurement of a compressed model against its dense one. Constructing it reads nothing.

    Attributes:
        incidental: its settings on which no value depends: another value of one is no other metric.
    """

    incidental: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def origins(self) -> tuple[Origin, ...]:
        """What identifies its data, corpus by corpus."""

    @abstractmethod
    def load(self, tokenizer: Any) -> Mapping[str, M]:
        """Read and tokenise the data, by corpus.

        Raises:
            Refusal: data that cannot be read, or do not fit the metric.
        """

    @abstractmethod
    def prepare(self, dense: Subject, data: Mapping[str, M], kept: Examples) -> None:
        """Compute what is needed of the dense model; called while its weights are still dense.

        Args:
            dense: the dense model, which remembers what is computed.
            data: as `load` gave it.
            kept: the examples that the dense cell's own result keeps of this metric, by corpus;
                empty where there is none. What they hold need not be computed again.
        """

    @abstractmethod
    def measure(self, subject: Subject, dense: Subject, data: Mapping[str, M]) -> Result:
        """Measure the subject against the dense model, which remembers what was prepared."""


Known = Mapping[tuple[str, str, str], str]
"""A cell's answers by prompt, gold answer and settings, as `Questions.asked` has them."""


@runtime_checkable
class Charged(Protocol):
    """A metric that takes more than time."""

    def forecast(
        self,
        cells: Sequence[tuple[Mapping[str, Any], Known]],
        memory: Memory,
        *,
        runs_here: bool,
    ) -> str:
        """What a sweep will take, in words.

        Args:
            cells: of every cell that has no result of the metric yet the data, as `load` gave them,
                and the answers that other metrics have kept.
            memory: what is in it need not be paid for again.
            runs_here: whether the cells run on this machine, so that what they need of others must
                be there now.

        Raises:
            Refusal: more than is allowed, or nobody has said how much; what is needed is not there.
        """


def column(name: str, corpus: str, data: Mapping[str, Any]) -> str:
    """The name of a value: `em`, or `em_alpaca` where there are several corpora."""
    return name if len(data) == 1 else f"{name}_{corpus}"
