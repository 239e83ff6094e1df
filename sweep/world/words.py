"""The closed vocabulary of the micro-world: every common word that its texts may pick.

The order of `ANIMALS` is their order of size, smallest first; the other lists have no order.
No word stands in two lists that a question may contrast (a fish would be an animal and a food).
"""


def _words(text: str) -> list[str]:
    return text.split()


ANIMALS = _words(
    "mouse bee frog crow hen duck owl rabbit cat hawk swan goose snake otter fox dog goat sheep "
    "wolf pig deer bear cow horse"
)
BIRDS = _words("crow hen duck owl hawk swan goose")
ANIMAL_KINDS = dict.fromkeys(BIRDS, "bird") | {
    "bee": "insect",
    "snake": "reptile",
    "frog": "amphibian",
}
LEGS = {"insect": 6, "bird": 2, "reptile": 0, "amphibian": 4, "mammal": 4}

OBJECTS = _words(
    "lamp chair boat bell rope ladder kettle drum clock mirror basket hammer knife coat hat bowl "
    "table candle flute spoon cart box net map book ring"
)
FOODS = _words(
    "bread cheese soup rice honey cake tea butter apples pears plums beans carrots onions grapes "
    "nuts milk figs eggs corn"
)
COLOURS = _words("red blue green yellow black white brown grey orange purple pink golden")
MATERIALS = _words("wood iron copper glass stone clay silver wool paper leather bone straw")
JOBS = {
    "baker": "bakes bread",
    "farmer": "grows corn",
    "sailor": "sails a boat",
    "weaver": "weaves wool",
    "teacher": "reads books",
    "smith": "bends iron",
    "doctor": "heals people",
    "painter": "paints walls",
    "miller": "grinds corn",
    "singer": "sings songs",
    "judge": "settles quarrels",
    "fisher": "catches eels",
    "potter": "shapes clay",
    "guard": "watches the gate",
    "mason": "cuts stone",
    "tailor": "sews coats",
}
ADJECTIVES = _words(
    "small old bright quiet heavy strange warm cold simple broken new lovely large plain dusty "
    "rare cheap clean soft dark tall famous narrow gentle"
)
ADVERBS = _words(
    "slowly quickly quietly gladly often rarely always never soon again carefully together sadly "
    "suddenly alone proudly"
)
WEATHER = _words("rainy sunny windy cloudy snowy foggy stormy mild dry hot")
DAYS = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
SEASONS = _words("spring summer autumn winter")
MONTHS = _words("January March April June July September October December")
PLACES = _words(
    "market bridge harbour tower garden forest school mill temple river hill square station inn "
    "farm library"
)
ROOMS = _words("kitchen cellar attic hall yard barn garden")
FEELINGS = _words("happy sad angry tired proud afraid hungry curious bored calm")
DEEDS = _words("painted carried found sold broke washed hid lifted cleaned repaired stole moved")
PARTICIPLES = {"broke": "broken", "hid": "hidden", "stole": "stolen"}
JOURNEYS = _words("walked ran travelled rode sailed returned hurried went")
NUMBER_WORDS = _words("one two three four five six seven eight nine ten eleven twelve")

WORD_CLASSES: dict[str, list[str]] = {
    "animal": ANIMALS,
    "object": OBJECTS,
    "food": FOODS,
    "colour": COLOURS,
    "material": MATERIALS,
    "job": list(JOBS),
    "adjective": ADJECTIVES,
    "adverb": ADVERBS,
    "weather": WEATHER,
    "day": DAYS,
    "season": SEASONS,
    "month": MONTHS,
    "place": PLACES,
    "room": ROOMS,
    "feeling": FEELINGS,
    "did": DEEDS,
    "went": JOURNEYS,
    "numeral": NUMBER_WORDS,
}
