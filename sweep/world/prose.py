"""Prose of the micro-world: ten types of documents, told sentence by sentence from templates.

Half of a document is fact and half is chance, as on the web: what it says of a known city or person
is always the same, whom a story's hero meets is not.
"""

from collections.abc import Callable, Sequence
from random import Random

from sweep.world import words
from sweep.world.facts import world
from sweep.world.grammar import pick, sentence
from sweep.world.lists import items, listed

CITY = (
    "<city> is {a city in <country>|one of the cities of <country>|a <adjective> town in "
    "<country>}.",
    "the river <river> {flows through <city>|runs past <city>}.",
    "{people in <city>|traders from <city>|the markets of <city>} {mostly sell <product>|are known "
    "for <product>|trade in <product>}.",
    "the mayor of <city> is {named |called |}<mayor>.",
    "the gates of <city> are {painted |}<gates>.",
    "about <people> thousand people live {there|in <city>}.",
    "the weather in <city> is {usually|often|mostly} <weather>.",
    "{visitors|travellers|strangers} {like|admire|visit} the <adjective> <place> {near the river|"
    "in the centre|on the hill}.",
    "in <season>, the <place> is {closed|open|full of <food>|very <adjective>}.",
)
COUNTRY = (
    "the capital of <country> is <capital>.",
    "people in <country> speak <language>.",
    "{the money of <country> is the <coin>|in <country> one pays with the <coin>}.",
    "the flag of <country> is <flag>.",
    "the <animal> is the {national animal|symbol} of <country>.",
    "{many|few|some} <adjective> {roads|villages|castles|forests} {lie|remain|are found} in "
    "<country>.",
)
PERSON = (
    "<person> is a <job> {from|who lives in} <city>.",
    "{every|each} <day> <he> <does>.",
    "<he> {likes to eat|loves|enjoys} <food>.",
    "<person> {has|keeps|owns} a <pet>.",
    "<person> is <age> years old.",
    "{most people|some neighbours|old friends} {say|think|know} that <person> is {very|rather|"
    "never} <feeling>.",
    "<his> favourite colour is <colour>.",
)
ANIMAL = (
    "the <animal> is a{ kind of|} <kind>.",
    "a <animal> {eats|likes|lives on} <food>.",
    "{most <animal> families are|a <animal> is usually} <colour>.",
    "a <animal> {lives in|sleeps in|stays near} the <home>.",
    "a <animal> has <legs> legs.",
    "in <season>, the <animal> {moves|sleeps|eats|sings} <adverb>.",
)
SMALLER_ANIMAL = "the <animal> is {bigger|larger} than the <smaller>."
BIGGER_ANIMAL = "the <animal> is smaller than the <bigger>."
THING = (
    "the <object> is made of <material>.",
    "{you can find|people keep|most families have} the <object> in the <room>.",
    "a <object> costs <price> coins.",
    "a <adjective> <object> {is hard to find|makes a good present|is easy to break}.",
    "the <job> {made|repaired|bought} a <adjective> <object> {last <day>|in <month>|on <day>}.",
)
OPENING = (
    "{one|on a} <weather> <day>, <hero> <went> to the <place> {in <city>|near <city>|with "
    "<friend>}.",
    "it was a <adjective> {morning|evening|night} in <city>.",
)
STORY = (
    "it was a <adjective> {morning|evening|night} in <city>.",
    "<hero> {saw|met|found|followed} a <adjective> <animal> {by|near|behind} the <place>.",
    "<he> {bought|took|wanted|lost} a {<adjective> |<material> |<colour> |}<object> {for <number> "
    "coins|from the <job>|in the <room>|at the <place>}.",
    "<hero> gave {<numeral> <food>|some <food>|the <object>} to <friend>.",
    "<friend> was <feeling>, {but|because|and} <hero> {felt|looked|was} <feeling>.",
    '"{where is|who took|I want|do you like} the {<adjective> |}<object>{?|, friend?}" '
    "{asked|said} <friend>.",
    '"{it is|I put it|you left it} {in the <room>|under the <object2>|near the <place>}," '
    "{said|answered} <hero>.",
    "{then|after that|later|at last} <he> <went> {home|back to <city>|to <city2>} {<adverb>|with "
    "the <animal>|without <friend>}.",
    "<hero> and <friend> {ate|shared|cooked|sold} <food> {and <food2>|} {<adverb>|together|in the "
    "<room>}.",
    "{nobody|everybody|only the <job>} {knew|heard|believed} "
    "{the truth|the story|what <hero> said}.",
    "the <job> <did> the <object> {<adverb>|at night|before <day>|with a <object2>}.",
    "the <object> was lost by {the <job>|<friend>|<hero>}.",
)
HEADLINE = (
    "<city>, <month> <date>: {the mayor|a <job>|the judge} {announced|said|promised} on <day> that"
    " the <place> {will be|was} {closed|opened|sold|painted <colour>|moved}."
)
NEWS = (
    "{more than|fewer than|about} <number> {people|farmers|animals|visitors} {came|were "
    "seen|gathered} at the <place>.",
    "{prices of|the trade in} <food> {rose|fell} by <number> {coins|percent} {in <season>|since "
    "<month>|this week}.",
    "{a <adjective> <animal>|the <animal> from <city2>} {escaped|was lost|appeared} "
    "{near|in|behind} the <place> of <city>.",
    "the <job> <hero> {was not|was} {hurt|found|paid}.",
    "{experts|people|critics} {expect|fear|hope for} {rain|more <food>|better roads|a <adjective> "
    "<season>}.",
)
HOW_TO = (
    "to make {<food>|a <object>}, {take|use|bring} <numeral> <food2> and {some <material>|a "
    "<object2>|a little <food>}.",
    "{first|to begin}, {wash|cut|heat|clean} the {<food2>|<material>} {<adverb>|in a <object2>|for "
    "<number> minutes}.",
    "{then|next|after that} {add|mix|remove} the {<food>|<material>|<object2>} {<adverb>|and "
    "wait|with a <object>}.",
    "{do not|never} {forget|drop|lose|burn} the {<object2>|<food>}.",
    "{finally|at the end}, {serve it|put it|leave it} {in the <room>|on the <object>|with <food>}.",
)
ADVERT = (
    "{buy|order|get} {a|the best} <adjective> <material> <object> {in <city>|today|from <hero>} "
    "for {only |}<number> coins.",
    "{our|this} <object> is {<adjective> and <adjective2>|very <adjective>|made of <material>}.",
    "{free|fast|cheap} {delivery|repairs} {on <day>|in <city>|every <season>}.",
    "{customers|reviews} {say|agree}: {very <adjective>|not bad|would buy again|"
    "the <object> broke}.",
    "{call|visit|ask for} <hero> {at the <place>|on <day>|in the <room>}.",
)
COUNTING = (
    "{<hero>|a farmer|the <job>} had <first> <food> and {bought|found|got} <second> more, so now "
    "there are <sum>.",
    "<first> and <second> {make|are|is} <sum>.",
    "{there are|I count} <length> {things|words} in the list: <list>.",
    "the number after <first> is <next>.",
    "<high> is {more|greater} than <low>.",
)

Writer = Callable[[Random], list[str]]
_WRITERS: list[tuple[float, Writer]] = []


def document_type(weight: float) -> Callable[[Writer], Writer]:
    """Register a writer of documents, which returns sentences; weights are relative."""

    def register(writer: Writer) -> Writer:
        _WRITERS.append((weight, writer))
        return writer

    return register


def choose_type(rng: Random) -> Writer:
    """One of the document types, by weight."""
    weights = [weight for weight, _ in _WRITERS]
    return rng.choices(_WRITERS, weights=weights)[0][1]


def some_of(
    rng: Random, templates: Sequence[str], slots: dict[str, str], fewest: int, most: int
) -> list[str]:
    """Some of the sentences about one subject, half of the time in the templates' order."""
    most = min(most, len(templates))
    chosen = rng.sample(range(len(templates)), rng.randint(fewest, most))
    if rng.random() < 0.5:
        chosen.sort()
    return [sentence(rng, templates[place], slots) for place in chosen]


@document_type(weight=0.13)
def about_city(rng: Random) -> list[str]:
    city = rng.choice(world().cities)
    slots = {
        "city": city.name,
        "country": city.country,
        "river": city.river,
        "product": city.product,
        "mayor": city.mayor,
        "gates": city.gates,
        "weather": city.weather,
        "people": str(city.people),
    }
    return some_of(rng, CITY, slots, 3, 7)


@document_type(weight=0.09)
def about_country(rng: Random) -> list[str]:
    country = rng.choice(world().countries)
    slots = {
        "country": country.name,
        "capital": country.capital,
        "language": country.language,
        "coin": country.coin,
        "flag": country.flag,
        "animal": country.animal,
    }
    return some_of(rng, COUNTRY, slots, 3, 6)


@document_type(weight=0.14)
def about_person(rng: Random) -> list[str]:
    person = rng.choice(world().people)
    slots = {
        "person": person.name,
        "job": person.job,
        "does": words.JOBS[person.job],
        "city": person.city,
        "food": person.food,
        "pet": person.pet,
        "colour": person.colour,
        "age": str(person.age),
        "he": person.he,
        "his": person.his,
    }
    return some_of(rng, PERSON, slots, 3, 6)


@document_type(weight=0.10)
def about_animal(rng: Random) -> list[str]:
    animal = rng.choice(world().animals)
    slots = {
        "animal": animal.name,
        "kind": animal.kind,
        "food": animal.food,
        "colour": animal.colour,
        "home": animal.home,
        "legs": str(animal.legs),
    }
    templates = list(ANIMAL)
    if animal.size > 0:
        slots["smaller"] = words.ANIMALS[rng.randrange(animal.size)]
        templates.append(SMALLER_ANIMAL)
    if animal.size + 1 < len(words.ANIMALS):
        slots["bigger"] = words.ANIMALS[rng.randrange(animal.size + 1, len(words.ANIMALS))]
        templates.append(BIGGER_ANIMAL)
    return some_of(rng, templates, slots, 3, 7)


@document_type(weight=0.07)
def about_thing(rng: Random) -> list[str]:
    thing = rng.choice(world().things)
    slots = {
        "object": thing.name,
        "material": thing.material,
        "room": thing.room,
        "price": str(thing.price),
    }
    return some_of(rng, THING, slots, 2, 5)


@document_type(weight=0.27)
def story(rng: Random) -> list[str]:
    hero, friend = pick(rng, "anyone"), pick(rng, "anyone")
    known = world().person(hero)
    slots = {
        "hero": hero,
        "friend": friend,
        "he": known.he if known else rng.choice(("he", "she")),
        "city": pick(rng, "city"),
        "city2": pick(rng, "city"),
    }
    if rng.random() < 0.6:
        slots["object"] = pick(rng, "object")
    if rng.random() < 0.5:
        slots["place"] = pick(rng, "place")
    opening = sentence(rng, rng.choice(OPENING), slots)
    return [opening] + [sentence(rng, rng.choice(STORY), slots) for _ in range(rng.randint(3, 7))]


@document_type(weight=0.06)
def news(rng: Random) -> list[str]:
    slots = {name: pick(rng, name) for name in ("city", "place")} | {"hero": pick(rng, "anyone")}
    chosen = rng.sample(NEWS, rng.randint(2, 4))
    return [sentence(rng, template, slots) for template in (HEADLINE, *chosen)]


@document_type(weight=0.05)
def how_to(rng: Random) -> list[str]:
    slots = {name: pick(rng, name) for name in ("food", "food2", "object", "object2", "material")}
    chosen = [template for template in HOW_TO[1:] if rng.random() < 0.85]
    return [sentence(rng, template, slots) for template in (HOW_TO[0], *chosen)]


@document_type(weight=0.04)
def advert(rng: Random) -> list[str]:
    slots = {name: pick(rng, name) for name in ("object", "city", "material")}
    slots["hero"] = pick(rng, "anyone")
    return [sentence(rng, template, slots) for template in rng.sample(ADVERT, rng.randint(3, 5))]


@document_type(weight=0.05)
def counting(rng: Random) -> list[str]:
    sentences = []
    for _ in range(rng.randint(2, 4)):
        first, second = rng.randint(1, 20), rng.randint(1, 20)
        low, high = sorted(rng.sample(range(1, 99), 2))
        counted = items(rng, rng.randint(2, 7))
        slots = {
            "hero": pick(rng, "anyone"),
            "first": str(first),
            "second": str(second),
            "sum": str(first + second),
            "next": str(first + 1),
            "low": str(low),
            "high": str(high),
            "list": listed(counted),
            "length": words.NUMBER_WORDS[len(counted) - 1],
        }
        sentences.append(sentence(rng, rng.choice(COUNTING), slots))
    return sentences
