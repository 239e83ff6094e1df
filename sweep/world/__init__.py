"""A closed micro-world and the corpora that tell of it: seeded, offline, without dependencies."""

from sweep.world.corpora import (
    VERSION,
    Document,
    Exercise,
    instructions,
    practice,
    prose,
    reworded,
)
from sweep.world.split import Split

__all__ = [
    "VERSION",
    "Document",
    "Exercise",
    "Split",
    "instructions",
    "practice",
    "prose",
    "reworded",
]
