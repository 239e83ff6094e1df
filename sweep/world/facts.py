"""The closed facts of the micro-world: what is true of its countries, cities, people and animals.

They are drawn once from a fixed seed, so that every corpus, split and seed tells the same facts,
as real corpora do: a model can only recall them, and pruning can only lose them.
"""

from dataclasses import dataclass
from functools import cache
from random import Random

from sweep.world import words
from sweep.world.names import distinct_names

FACT_SEED = 7
CITIES_PER_COUNTRY = 3


@dataclass(frozen=True)
class Country:
    """A country and what every school child knows of it."""

    name: str
    capital: str
    language: str
    coin: str
    flag: str
    animal: str


@dataclass(frozen=True)
class City:
    """A city; `people` is in thousands."""

    name: str
    country: str
    river: str
    product: str
    mayor: str
    gates: str
    weather: str
    people: int


@dataclass(frozen=True)
class Person:
    """A person; `he` and `his` are the pronouns."""

    name: str
    job: str
    city: str
    food: str
    pet: str
    colour: str
    age: int
    he: str
    his: str


@dataclass(frozen=True)
class Animal:
    """An animal; `size` is its place in the order of size, 0 for the smallest."""

    name: str
    kind: str
    colour: str
    food: str
    home: str
    legs: int
    size: int


@dataclass(frozen=True)
class Thing:
    """A thing of daily use; `price` is in coins."""

    name: str
    material: str
    room: str
    price: int


@dataclass(frozen=True)
class World:
    """All facts, and the word classes from which texts pick."""

    countries: tuple[Country, ...]
    cities: tuple[City, ...]
    people: tuple[Person, ...]
    animals: tuple[Animal, ...]
    things: tuple[Thing, ...]
    vocabulary: dict[str, list[str]]

    def person(self, name: str) -> Person | None:
        """The person of that name, None for an invented name."""
        return next((person for person in self.people if person.name == name), None)


def language_of(country: str) -> str:
    """The language's name, made from the country's: Tovonia speaks Tovish."""
    return country[:4].rstrip("aeiou") + "ish"


def _animal(rng: Random, size: int, name: str) -> Animal:
    kind = words.ANIMAL_KINDS.get(name, "mammal")
    return Animal(
        name=name,
        kind=kind,
        colour=rng.choice(words.COLOURS),
        food=rng.choice(words.FOODS),
        home=rng.choice(words.PLACES),
        legs=words.LEGS[kind],
        size=size,
    )


def _person(rng: Random, name: str, cities: list[str]) -> Person:
    he, his = rng.choice((("he", "his"), ("she", "her")))
    return Person(
        name=name,
        job=rng.choice(list(words.JOBS)),
        city=rng.choice(cities),
        food=rng.choice(words.FOODS),
        pet=rng.choice(words.ANIMALS),
        colour=rng.choice(words.COLOURS),
        age=rng.randint(18, 80),
        he=he,
        his=his,
    )


def build(seed: int) -> World:
    """Draw a world; the same seed gives the same world in every process."""
    rng = Random(seed)
    taken: set[str] = set()
    countries = distinct_names(rng, 12, ("onia", "avia", "istan", "land"), taken)
    cities = distinct_names(
        rng, 12 * CITIES_PER_COUNTRY, ("ton", "burg", "mar", "ford", "dale", "is"), taken
    )
    people = distinct_names(rng, 60, ("a", "ina", "ia", "ie", "ik", "o", "ette", "ou"), taken)
    rivers = distinct_names(rng, 18, ("oth", "ine", "em"), taken)
    coins = [name.lower() for name in distinct_names(rng, 12, ("ark", "il", "une"), taken)]
    vocabulary = words.WORD_CLASSES | {
        "country": countries,
        "city": cities,
        "person": people,
        "river": rivers,
    }
    return World(
        countries=tuple(
            Country(
                name=name,
                capital=cities[CITIES_PER_COUNTRY * place],
                language=language_of(name),
                coin=coins[place],
                flag=rng.choice(words.COLOURS),
                animal=rng.choice(words.ANIMALS),
            )
            for place, name in enumerate(countries)
        ),
        cities=tuple(
            City(
                name=name,
                country=countries[place // CITIES_PER_COUNTRY],
                river=rng.choice(rivers),
                product=rng.choice(words.FOODS),
                mayor=rng.choice(people),
                gates=rng.choice(words.COLOURS),
                weather=rng.choice(words.WEATHER),
                people=rng.randint(2, 99),
            )
            for place, name in enumerate(cities)
        ),
        people=tuple(_person(rng, name, cities) for name in people),
        animals=tuple(_animal(rng, size, name) for size, name in enumerate(words.ANIMALS)),
        things=tuple(
            Thing(
                name=name,
                material=rng.choice(words.MATERIALS),
                room=rng.choice(words.ROOMS),
                price=rng.randint(2, 40),
            )
            for name in words.OBJECTS
        ),
        vocabulary=vocabulary,
    )


@cache
def world() -> World:
    """The one world that all corpora tell of."""
    return build(FACT_SEED)
