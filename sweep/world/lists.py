"""Lists of words, the material of half of the skills: how they are drawn and written."""

from collections.abc import Iterable
from random import Random

from sweep.world import words
from sweep.world.names import new_name

LISTABLE = ("animal", "object", "food", "colour", "job", "material")
ONE_CLASS_SHARE = 0.4
NAME_SHARE = 0.12


def items(rng: Random, count: int) -> list[str]:
    """`count` different words, sometimes all of one class, otherwise mixed with invented names."""
    one_class = rng.choice(LISTABLE) if rng.random() < ONE_CLASS_SHARE else None
    chosen: list[str] = []
    while len(chosen) < count:
        if one_class is None and rng.random() < NAME_SHARE:
            word = new_name(rng)
        else:
            word = rng.choice(words.WORD_CLASSES[one_class or rng.choice(LISTABLE)])
        if word not in chosen:
            chosen.append(word)
    return chosen


def listed(entries: Iterable[object]) -> str:
    """The written form of a list: its entries, in order, between commas."""
    return ", ".join(str(entry) for entry in entries)
