"""A family of questions: one ability, asked about endless contents in many words.

Every family has three sets of wordings. A is the usual way to ask; B is rare in training; C never
occurs in training, though its words do, in the wordings of other families.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from sweep.world.grammar import expand, sentence
from sweep.world.split import Kind

Wording = Literal["A", "B", "C"]
INPUT_MARK = " || "  # "instruction || input": the wording itself says what stands in the input


@dataclass(frozen=True)
class Wordings:
    """Templates of instructions; each must make clear which answer is expected."""

    a: tuple[str, ...]
    b: tuple[str, ...]
    c: tuple[str, ...]

    def of(self, wording: Wording) -> tuple[str, ...]:
        """The templates of one set."""
        return {"A": self.a, "B": self.b, "C": self.c}[wording]


@dataclass(frozen=True)
class Question:
    """What is asked, before it is put into words; `content` identifies it within its family."""

    content: tuple[str, ...]
    wordings: Wordings
    output: str
    input: str = ""
    slots: Mapping[str, str] = field(default_factory=dict)

    def put(self, rng: Random, wording: Wording) -> tuple[str, str]:
        """Instruction and input, in one of the ways of asking."""
        template, mark, input_template = rng.choice(self.wordings.of(wording)).partition(INPUT_MARK)
        instruction = sentence(rng, template, self.slots)
        return instruction, expand(rng, input_template, self.slots) if mark else self.input


Asker = Callable[[Random], Question]


@dataclass(frozen=True)
class Family:
    """An ability; `asked` is its relative share in the corpora, `practised` in training.

    Training repeats most what is hard to learn; the corpora ask most for what takes several words,
    or a name never seen, to answer.
    """

    name: str
    kind: Kind
    asked: float
    practised: float
    ask: Asker


FAMILIES: dict[str, Family] = {}


def family(kind: Kind, *, asked: float, practised: float) -> Callable[[Asker], Asker]:
    """Register the function as the family of its name."""

    def register(ask: Asker) -> Asker:
        name = ask.__name__
        if name in FAMILIES:
            raise ValueError(f"two families are named {name!r}")
        FAMILIES[name] = Family(name, kind, asked, practised, ask)
        return ask

    return register
