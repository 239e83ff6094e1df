"""Templates into sentences: the only place that knows the template notation.

`{a|b|}` picks one alternative (and may be nested); `<slot>` takes the slot's value, or else a word
of the class of that name (`<food>`, `<food2>`), frequent words more often than rare ones.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from random import Random

from sweep.world.facts import world
from sweep.world.names import new_name

KNOWN_PERSON_SHARE = 0.6
_WORD_ORDER_SEED = 8
_TOKEN = re.compile(r"[{|}]|<\w+>|[^{|}<]+")
_SPARE_SPACE = re.compile(r" +(?=[ .,:;?]|$)")
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiou])")
_SENTENCE_START = re.compile(r"(?<=[.?] )([a-z])")


@dataclass(frozen=True)
class Slot:
    """A place to fill."""

    name: str


@dataclass(frozen=True)
class Choice:
    """Alternatives of equal probability."""

    alternatives: tuple[tuple["Node", ...], ...]


Node = str | Slot | Choice


@cache
def parse(template: str) -> tuple[Node, ...]:
    """The template as a tree; ValueError for unbalanced braces."""
    open_choices: list[list[list[Node]]] = [[[]]]
    for token in _TOKEN.findall(template):
        if token == "{":
            open_choices.append([[]])
        elif token == "|" and len(open_choices) > 1:
            open_choices[-1].append([])
        elif token == "}" and len(open_choices) > 1:
            alternatives = open_choices.pop()
            open_choices[-1][-1].append(Choice(tuple(tuple(nodes) for nodes in alternatives)))
        elif token in "{|}":
            raise ValueError(f"unbalanced {token!r} in template {template!r}")
        elif token.startswith("<"):
            open_choices[-1][-1].append(Slot(token[1:-1]))
        else:
            open_choices[-1][-1].append(token)
    if len(open_choices) > 1:
        raise ValueError(f"unclosed '{{' in template {template!r}")
    return tuple(open_choices[0][0])


@cache
def _frequencies(word_class: str) -> tuple[list[str], list[float]]:
    """A class's words in order of falling frequency, with cumulative Zipf weights."""
    vocabulary = list(world().vocabulary[word_class])
    Random(f"{_WORD_ORDER_SEED}/{word_class}").shuffle(vocabulary)
    return vocabulary, list(accumulate((rank + 2) ** -0.7 for rank in range(len(vocabulary))))


def pick(rng: Random, slot: str) -> str:
    """A word for a slot that has no value; a trailing digit only tells two slots apart."""
    word_class = slot.rstrip("0123456789")
    if word_class == "number":
        return str(rng.randint(2, 60))
    if word_class == "date":
        return str(rng.randint(1, 28))
    if word_class == "anyone":
        return pick(rng, "person") if rng.random() < KNOWN_PERSON_SHARE else new_name(rng)
    vocabulary, cumulative = _frequencies(word_class)
    return rng.choices(vocabulary, cum_weights=cumulative)[0]


def _fill(rng: Random, nodes: tuple[Node, ...], slots: Mapping[str, str], out: list[str]) -> None:
    for node in nodes:
        if isinstance(node, str):
            out.append(node)
        elif isinstance(node, Slot):
            value = slots.get(node.name)
            out.append(pick(rng, node.name) if value is None else value)
        else:
            _fill(rng, rng.choice(node.alternatives), slots, out)


def expand(rng: Random, template: str, slots: Mapping[str, str]) -> str:
    """The template's words, with single spaces and `an` before a vowel."""
    out: list[str] = []
    _fill(rng, parse(template), slots, out)
    text = _SPARE_SPACE.sub("", "".join(out))
    return _ARTICLE.sub(r"\1n ", text) if "a " in text or "A " in text else text


def capitalised(text: str) -> str:
    """The text with a capital at its beginning and at the beginning of its sentences."""
    if ". " in text or "? " in text:  # most are one sentence, and this is asked a million times
        text = _SENTENCE_START.sub(lambda start: start[1].upper(), text)
    return text[0].upper() + text[1:]


def sentence(rng: Random, template: str, slots: Mapping[str, str]) -> str:
    """`expand`, with capitals."""
    return capitalised(expand(rng, template, slots))
