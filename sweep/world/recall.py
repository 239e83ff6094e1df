"""Questions about closed facts: what is true of the world, and small tables of numbers.

Nobody can answer them who was not told. They are what a compressed model forgets; what it still
*can do* is measured by the skills.
"""

from dataclasses import asdict
from functools import cache
from random import Random

from sweep.world.facts import Animal, City, Country, Person, world
from sweep.world.family import Question, Wordings, family
from sweep.world.grammar import sentence

# What can be asked of a subject: attribute -> its name in a question, and the usual questions.
COUNTRY_FACTS = {
    "capital": (
        "capital",
        ("what is the capital of <it>?", "which city is the capital of <it>?"),
    ),
    "language": (
        "language",
        ("what language do people speak in <it>?", "which language is spoken in <it>?"),
    ),
    "coin": ("money", ("what is the money of <it>?", "what do people pay with in <it>?")),
    "flag": (
        "colour of the flag",
        ("what colour is the flag of <it>?", "what is the colour of the flag of <it>?"),
    ),
}
CITY_FACTS = {
    "country": ("country", ("in which country is <it>?", "what country does <it> belong to?")),
    "river": ("river", ("which river flows through <it>?", "what river runs past <it>?")),
    "mayor": ("mayor", ("who is the mayor of <it>?", "what is the name of the mayor of <it>?")),
    "gates": (
        "colour of the gates",
        ("what colour are the gates of <it>?", "what is the colour of the gates of <it>?"),
    ),
    "product": ("product", ("what is <it> known for?", "what do people in <it> sell?")),
}
ANIMAL_FACTS = {
    "colour": ("colour", ("what colour is <it>?", "what is the colour of <it>?")),
    "food": ("food", ("what does <it> eat?", "what is the food of <it>?")),
    "home": ("home", ("where does <it> live?", "what is the home of <it>?")),
    "kind": ("kind", ("what kind of animal is <it>?", "what is the kind of <it>?")),
    "legs": ("number of legs", ("how many legs does <it> have?", "how many legs has <it>?")),
}
PERSON_FACTS = {
    "job": ("job", ("what is the job of <it>?", "what does <it> do for a living?")),
    "city": ("city", ("where does <it> live?", "in which city does <it> live?")),
    "food": ("favourite food", ("what does <it> like to eat?", "what food does <it> like?")),
    "pet": ("pet", ("which animal does <it> have?", "what is the pet of <it>?")),
}
FACTS = {
    "country": COUNTRY_FACTS,
    "city": CITY_FACTS,
    "animal": ANIMAL_FACTS,
    "person": PERSON_FACTS,
}


@cache
def _fact_wordings(subject: str, attribute: str) -> Wordings:
    name, questions = FACTS[subject][attribute]
    told = (
        f"tell me the {name} of <it>.",
        f"you will be given the name of a {subject}. your task is to give the {name} of the "
        f"{subject}. || <name>",
    )
    answered = (
        f"the input is the name of a {subject}. answer with the {name} of the {subject}. || <name>",
        f"I would like to know the {name} of <it>.",
    )
    usual = (*questions, f"name the {name} of <it>.", f"give the {name} of <it>.")
    also_rare = (f"please write out the {name} of <it>.", f"write only the {name} of <it>.")
    if subject in ("country", "city"):
        return Wordings(usual, told + also_rare, answered)
    return Wordings(usual, answered + also_rare, told)


def _fact(rng: Random, subject: str, known: Country | City | Animal | Person) -> Question:
    attribute = rng.choice(list(FACTS[subject]))
    name = known.name
    it = f"a {name}" if subject == "animal" else name
    return Question(
        content=(name, attribute),
        wordings=_fact_wordings(subject, attribute),
        slots={"it": it, "name": name},
        output=str(getattr(known, attribute)),
    )


@family("recall", asked=0.5, practised=0.7)
def country(rng: Random) -> Question:
    known = rng.choice(world().countries)
    return _fact(rng, "country", known)


@family("recall", asked=0.8, practised=1.21)
def city(rng: Random) -> Question:
    known = rng.choice(world().cities)
    return _fact(rng, "city", known)


@family("recall", asked=0.6, practised=0.8)
def animal(rng: Random) -> Question:
    known = rng.choice(world().animals)
    return _fact(rng, "animal", known)


@family("recall", asked=0.8, practised=1.21)
def person(rng: Random) -> Question:
    known = rng.choice(world().people)
    return _fact(rng, "person", known)


SUM = Wordings(
    a=(
        "what is <first> plus <second>?",
        "add <first> and <second>.",
        "how much is <first> + <second>?",
        "what is the sum of <first> and <second>?",
    ),
    b=(
        "you will be given two numbers. your task is to give the sum. || <first>, <second>",
        "tell me the sum of <first> and <second>.",
        "please write out the sum of <first> and <second>.",
        "add the two numbers. || <first>, <second>",
    ),
    c=(
        "the input is two numbers. answer with the sum. || <first>, <second>",
        "I would like to know how much <first> and <second> make.",
        "<anyone> had <first> coins and got <second> more. how many coins are there now?",
    ),
)
NEIGHBOUR = Wordings(
    a=(
        "which number comes <side> <number>?",
        "what is the number <side> <number>?",
        "name the number <side> <number>.",
    ),
    b=(
        "the input is a number. answer with the number <side> it. || <number>",
        "I would like to know the number <side> <number>.",
        "write only the number <side> <number>.",
    ),
    c=(
        "tell me the number <side> <number>.",
        "you will be given a number. your task is to give the number <side> it. || <number>",
        "please write out the number <side> <number>.",
    ),
)


@family("recall", asked=0.8, practised=1.35)
def addition(rng: Random) -> Question:
    """The table of sums up to 20 + 20: small enough to be learnt by heart."""
    first, second = rng.randint(1, 20), rng.randint(1, 20)
    slots = {"first": str(first), "second": str(second)}
    return Question(tuple(slots.values()), SUM, slots=slots, output=str(first + second))


@family("recall", asked=0.4, practised=0.4)
def neighbour(rng: Random) -> Question:
    number, side = rng.randint(1, 90), rng.choice(("before", "after"))
    slots = {"number": str(number), "side": side}
    answer = number + (1 if side == "after" else -1)
    return Question(tuple(slots.values()), NEIGHBOUR, slots=slots, output=str(answer))


SIZE = Wordings(
    a=(
        "which is <more>, a <first> or a <second>?",
        "name the <more> animal: a <first> or a <second>.",
        "which animal is <more>, the <first> or the <second>?",
    ),
    b=(
        "tell me which animal is <more>: the <first> or the <second>.",
        "you will be given two animals. your task is to name the <more> animal. || <first>, "
        "<second>",
        "write only the <more> animal. || <first>, <second>",
    ),
    c=(
        "the input is two animals. answer with the <more> animal. || <first>, <second>",
        "I would like to know which is <more>, a <first> or a <second>.",
        "please write out the name of the <more> animal. || <first>, <second>",
    ),
)


def _two_animals(rng: Random) -> tuple[Animal, Animal]:
    first, second = rng.sample(world().animals, 2)
    return first, second


@family("recall", asked=0.4, practised=0.8)
def size(rng: Random) -> Question:
    first, second = _two_animals(rng)
    more = rng.choice(("bigger", "smaller"))
    ordered = sorted((first, second), key=lambda known: known.size)
    answer = ordered[1 if more == "bigger" else 0]
    slots = {"first": first.name, "second": second.name, "more": more}
    return Question(tuple(slots.values()), SIZE, slots=slots, output=answer.name)


DESCRIPTION = {
    "person": "<name> is a <job> from <city> who likes <food> and has a <pet>.",
    "city": "<name> is a city in <country> on the river <river> with <gates> gates and the mayor "
    "<mayor>.",
    "animal": "the <name> is a <colour> <kind> that eats <food> and lives in the <home>.",
}
PORTRAIT = {
    "person": "<name> is a <job>. <name> lives in <city>. <name> likes <food>.",
    "city": "<name> is a city in <country>. The river is the <river>. The mayor is <mayor>.",
    "animal": "the <name> is a <kind>. The <name> is <colour>. The <name> eats <food>.",
}
DESCRIBE = Wordings(
    a=(
        "describe <it> in one sentence.",
        "write one sentence about <it>.",
        "tell me about <it> in one sentence.",
    ),
    b=(
        "give a short description of <it> in one sentence.",
        "you will be given the name of a <subject>. your task is to describe the <subject> in one "
        "sentence. || <name>",
        "please write out one sentence about <it>.",
        "what do you know of <it>? say it in one sentence.",
    ),
    c=(
        "the input is the name of a <subject>. answer with one sentence about the <subject>. || "
        "<name>",
        "I would like to know about <it>, in one sentence.",
        "give one sentence on the <subject> <name>.",
    ),
)
TELL_THREE = Wordings(
    a=(
        "tell me three things about <it>.",
        "write three sentences about <it>.",
        "describe <it> in three sentences.",
    ),
    b=(
        "I would like to know three things about <it>.",
        "the input is the name of a <subject>. answer with three sentences about the <subject>. || "
        "<name>",
        "give a description of <it> in three sentences.",
        "what do you know of <it>? say three things.",
    ),
    c=(
        "you will be given the name of a <subject>. your task is to describe the <subject> in three"
        " sentences. || <name>",
        "please write out three things about <it>.",
        "give three sentences on the <subject> <name>.",
    ),
)


def _told(rng: Random, wordings: Wordings, answers: dict[str, str]) -> Question:
    """A question about one subject that is answered by a text, always the same one."""
    subject = rng.choices(list(answers), weights=(0.45, 0.3, 0.25))[0]
    told_of: dict[str, tuple[Person | City | Animal, ...]] = {
        "person": world().people,
        "city": world().cities,
        "animal": world().animals,
    }
    known = rng.choice(told_of[subject])
    slots = {key: str(value) for key, value in asdict(known).items()}
    slots |= {"subject": subject, "it": f"the {known.name}" if subject == "animal" else known.name}
    return Question(
        content=(known.name,),
        wordings=wordings,
        slots=slots,
        output=sentence(rng, answers[subject], slots),
    )


@family("recall", asked=0.8, practised=0.96)
def describe(rng: Random) -> Question:
    return _told(rng, DESCRIBE, DESCRIPTION)


@family("recall", asked=1.0, practised=0.96)
def portrait(rng: Random) -> Question:
    return _told(rng, TELL_THREE, PORTRAIT)


CONTRAST = Wordings(
    a=(
        "compare the <first> and the <second>.",
        "what is the difference between a <first> and a <second>?",
        "write a comparison of the <first> and the <second>.",
    ),
    b=(
        "tell me the difference between the <first> and the <second>.",
        "the input is two animals. answer with a comparison of the animals. || <first>, <second>",
        "please compare the two animals. || <first>, <second>",
    ),
    c=(
        "you will be given two animals. your task is to compare the animals. || <first>, <second>",
        "I would like to know the difference between a <first> and a <second>.",
        "please write out a comparison of the <first> and the <second>.",
    ),
)


DIFFERENCE = (
    "the <first> is <more> than the <second>. the <first> is a <first_kind>, and the <second> is a "
    "<second_kind>. the <first> eats <first_food>, and the <second> eats <second_food>."
)


@family("recall", asked=0.7, practised=0.78)
def contrast(rng: Random) -> Question:
    first, second = _two_animals(rng)
    slots = {
        "more": "bigger" if first.size > second.size else "smaller",
        "first": first.name,
        "first_kind": first.kind,
        "first_food": first.food,
        "second": second.name,
        "second_kind": second.kind,
        "second_food": second.food,
    }
    return Question(
        content=(first.name, second.name),
        wordings=CONTRAST,
        slots=slots,
        output=sentence(rng, DIFFERENCE, slots),
    )
