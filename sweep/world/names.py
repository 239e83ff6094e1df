"""Invented names: pronounceable, unknown to any other text, and many enough never to run out.

The facts of the world carry a fixed set of them; stories and skills draw new ones all the time, so
that a model must copy a name it has never seen instead of recalling one.
"""

from collections.abc import Sequence
from random import Random

_PLAIN = ("b", "c", "d", "f", "g", "h", "j", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "z")
ONSETS = tuple(sorted((*_PLAIN, "br", "dr", "gr", "st", "tr")))
VOWELS = ("a", "e", "i", "o", "u", "ai", "ea")
CODAS = ("l", "n", "r", "s", "th", "m", "nd", "rk", "x")  # no known person's name ends like this


def syllables(rng: Random, count: int) -> str:
    """`count` open syllables, in lower case."""
    return "".join(rng.choice(ONSETS) + rng.choice(VOWELS) for _ in range(count))


def new_name(rng: Random) -> str:
    """A person's name of two or three syllables that belongs to nobody in the world's facts."""
    return (syllables(rng, rng.choice((1, 2))) + rng.choice(CODAS)).capitalize()


def distinct_names(rng: Random, count: int, endings: Sequence[str], taken: set[str]) -> list[str]:
    """`count` names with one of `endings`, none of them in `taken`, to which they are added."""
    names: list[str] = []
    while len(names) < count:
        name = syllables(rng, 1) + rng.choice(ONSETS) + rng.choice(endings)
        name = name.capitalize()
        if name not in taken:
            taken.add(name)
            names.append(name)
    return names
