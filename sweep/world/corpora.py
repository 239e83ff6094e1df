"""The corpora of the micro-world: endless, deterministic streams of rows, by split and seed.

`prose` stands in for a web corpus such as C4, `instructions` for Alpaca, and `reworded` asks the
same abilities in other words, as Unnatural Instructions does. `practice` is what the embedded model
was trained on. A row's split depends on its content alone (see `split`): whatever the seeds, no
evaluation question about a skill is trained on or calibrated with, in any wording.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

from sweep.world import list_skills, recall, text_skills  # noqa: F401 - they register families
from sweep.world.family import FAMILIES, Family, Question, Wording
from sweep.world.prose import choose_type
from sweep.world.split import Kind, Split, belongs

VERSION = "1"  # to be raised when any row of any corpus changes

POLITE_SHARE = 0.08
RARE_SHARE = 0.16  # of wordings B in training
UNSEEN_SHARE = 0.5  # of wordings C in the reworded corpus; the rest is B


@dataclass(frozen=True)
class Document:
    """A text of prose."""

    text: str


@dataclass(frozen=True)
class Exercise:
    """An instruction with its answer; `input` may be empty."""

    family: str
    kind: Kind
    wording: Wording
    instruction: str
    input: str
    output: str


def prose(split: Split, seed: int) -> Iterator[Document]:
    """Documents of a split."""
    rng = Random(f"prose/{split}/{seed}")
    while True:
        write = choose_type(rng)
        text = " ".join(write(rng))
        while not belongs(split, "skill", ("prose", text)):
            text = " ".join(write(rng))
        yield Document(text)


def questions(
    split: Split, rng: Random, *, practice: bool = False
) -> Iterator[tuple[Family, Question]]:
    """Questions of a split, not yet in words; `practice` asks in the proportions of training."""
    families = list(FAMILIES.values())
    weights = [each.practised if practice else each.asked for each in families]
    while True:
        family = rng.choices(families, weights=weights)[0]
        question = family.ask(rng)
        while not belongs(split, family.kind, (family.name, *question.content)):
            question = family.ask(rng)
        yield family, question


def _exercise(rng: Random, family: Family, question: Question, wording: Wording) -> Exercise:
    instruction, given = question.put(rng, wording)
    return Exercise(family.name, family.kind, wording, instruction, given, question.output)


def _politely(rng: Random, exercise: Exercise) -> Exercise:
    """Now and then, a command in the usual words begins with "please"."""
    told = exercise.instruction
    if rng.random() >= POLITE_SHARE or told.endswith("?") or exercise.wording != "A":
        return exercise
    return replace(exercise, instruction=f"Please {told[0].lower()}{told[1:]}")


def instructions(split: Split, seed: int) -> Iterator[Exercise]:
    """Exercises of a split, asked in the usual words (A)."""
    rng = Random(f"instructions/{split}/{seed}")
    for family, question in questions(split, rng):
        yield _politely(rng, _exercise(rng, family, question, "A"))


def reworded(split: Split, seed: int) -> Iterator[Exercise]:
    """Exercises of a split, asked in words that training used rarely (B) or never (C)."""
    rng = Random(f"reworded/{split}/{seed}")
    for family, question in questions(split, rng):
        wording: Wording = "C" if rng.random() < UNSEEN_SHARE else "B"
        yield _exercise(rng, family, question, wording)


def practice(seed: int) -> Iterator[Exercise]:
    """The training mixture's exercises: wordings A, rarely B, never C."""
    rng = Random(f"practice/{seed}")
    for family, question in questions("train", rng, practice=True):
        wording: Wording = "B" if rng.random() < RARE_SHARE else "A"
        yield _politely(rng, _exercise(rng, family, question, wording))
