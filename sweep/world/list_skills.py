"""Skills on lists: the words are drawn anew for every question, so nothing can be recalled."""

from random import Random

from sweep.world import words
from sweep.world.family import Question, Wordings, family
from sweep.world.lists import items, listed

CATEGORIES = {
    "animals": words.ANIMALS,
    "colours": words.COLOURS,
    "foods": words.FOODS,
    "jobs": list(words.JOBS),
}

REVERSE = Wordings(
    a=(
        "reverse the {list|order of the words}.",
        "write the {list|words} backwards.",
        "put the words in reverse order.",
        "give the list in reverse.",
    ),
    b=(
        "the input is a list. answer with the list in reverse.",
        "please write out the words backwards.",
        "start with the last word of the list and end with the first.",
        "tell me the words in reverse order.",
    ),
    c=(
        "you will be given a list of words. your task is to reverse the list.",
        "I would like to know the list backwards.",
        "write out the words again, but in reverse order.",
    ),
)
PICK = Wordings(
    a=(
        "what is the <place> word?",
        "give the <place> word of the list.",
        "name the <place> word in the list.",
        "write only the <place> word.",
    ),
    b=(
        "you will be given a list of words. your task is to name the <place> word.",
        "which word is the <place> one here?",
        "I would like to know the <place> word of the list.",
        "tell me the <place> of these words.",
    ),
    c=(
        "the input is a list. answer with the <place> word.",
        "please write out only the <place> word.",
        "which of these words is the <place> one?",
    ),
)
COUNT = Wordings(
    a=(
        "how many words are in the list?",
        "count the words.",
        "give the number of words.",
        "count the words in the list.",
    ),
    b=(
        "the input is a list. answer with the number of words.",
        "I would like to know how many words the list has.",
        "how many words are here?",
        "what is the number of words in the list?",
    ),
    c=(
        "you will be given a list of words. your task is to count the words.",
        "tell me how many words are in the list.",
        "please write out the number of words.",
    ),
)
SORT_NUMBERS = Wordings(
    a=(
        "sort the numbers <from>.",
        "order the numbers <from>.",
        "put the numbers in order <from>.",
    ),
    b=(
        "you will be given a list of numbers. your task is to sort the numbers <from>.",
        "tell me the numbers <from>.",
        "write the numbers again, sorted <from>.",
        "please write out the numbers <from>.",
    ),
    c=(
        "the input is a list of numbers. answer with the numbers <from>.",
        "I would like to know the order of the numbers <from>.",
        "please sort the list of numbers <from>.",
    ),
)
SORT_WORDS = Wordings(
    a=(
        "sort the words by alphabet.",
        "put the words in alphabet order.",
        "order the words from a to z.",
        "sort the list from a to z.",
    ),
    b=(
        "the input is a list of words. answer with the words from a to z.",
        "please write out the words in alphabet order.",
        "tell me the words from a to z.",
    ),
    c=(
        "you will be given a list of words. your task is to sort the words from a to z.",
        "I would like to know the alphabet order of the words.",
        "please order the list by alphabet.",
    ),
)
FILTER = Wordings(
    a=(
        "find the <category> in the list.",
        "which of the words are <category>?",
        "write only the <category>.",
        "keep only the <category>.",
    ),
    b=(
        "you will be given a list of words. your task is to find the <category> in the list.",
        "tell me all <category> here.",
        "please write out only the <category>.",
        "remove the words that are not <category>.",
    ),
    c=(
        "the input is a list. answer with the <category> in the list.",
        "I would like to know which words are <category>.",
        "keep the words that are <category>.",
    ),
)
REPLACE = Wordings(
    a=(
        "replace <old> with <new>.",
        "change <old> to <new>.",
        "put <new> in place of <old>.",
        "write <new> for <old>.",
    ),
    b=(
        "the input is a list. answer with the list where <old> is changed to <new>.",
        "please write out the list, but write <new> for <old>.",
        "tell me the list with <new> in place of <old>.",
        "replace the word <old> in the list with <new>.",
    ),
    c=(
        "you will be given a list of words. your task is to replace <old> with <new>.",
        "I would like to know the list where <old> is changed to <new>.",
        "write the words again, but change <old> to <new>.",
    ),
)
REMOVE = Wordings(
    a=(
        "remove the word <old>.",
        "delete <old> from the list.",
        "write the list without <old>.",
        "remove <old> from the words.",
    ),
    b=(
        "you will be given a list of words. your task is to remove <old>.",
        "tell me the list without <old>.",
        "write the words again, but not <old>.",
        "I would like to know the list without <old>.",
    ),
    c=(
        "the input is a list. answer with the list without <old>.",
        "please write out the words without <old>.",
        "please delete the word <old>.",
    ),
)
SEQUENCE = Wordings(
    a=(
        "say in sentences in which order the words come.",
        "write one sentence for each word, in order.",
        "write the list as sentences.",
    ),
    b=(
        "the input is a list. answer with one sentence for each word.",
        "I would like to know in sentences in which order the words come.",
        "turn the list into sentences.",
        "give a sentence for each of the words.",
    ),
    c=(
        "you will be given a list of words. your task is to write the list as sentences.",
        "please write out one sentence for each word, in order.",
        "tell me in sentences in which order the words come.",
    ),
)


def _on(listing: str, wordings: Wordings, output: str, **slots: str) -> Question:
    """A question with the list as its input; list and slots are its content."""
    content = (listing, *(slots[name] for name in sorted(slots)))
    return Question(content, wordings, output, input=listing, slots=slots)


@family("skill", asked=1.0, practised=1.1)
def reverse(rng: Random) -> Question:
    chosen = items(rng, rng.randint(2, 5))
    return _on(listed(chosen), REVERSE, listed(chosen[::-1]))


@family("skill", asked=0.8, practised=0.9)
def pick(rng: Random) -> Question:
    chosen = items(rng, rng.randint(3, 6))
    place = rng.choice(("first", "second", "last"))
    answer = {"first": chosen[0], "second": chosen[1], "last": chosen[-1]}[place]
    return _on(listed(chosen), PICK, answer, place=place)


@family("skill", asked=0.7, practised=0.8)
def count(rng: Random) -> Question:
    chosen = items(rng, rng.randint(2, 7))
    return _on(listed(chosen), COUNT, str(len(chosen)))


@family("skill", asked=0.7, practised=1.26)
def sort_numbers(rng: Random) -> Question:
    chosen = rng.sample(range(1, 100), rng.randint(3, 4))
    falling = rng.random() < 0.4
    direction = "from large to small" if falling else "from small to large"
    answer = listed(sorted(chosen, reverse=falling))
    return _on(listed(chosen), SORT_NUMBERS, answer, **{"from": direction})


@family("skill", asked=0.6, practised=1.1)
def sort_words(rng: Random) -> Question:
    chosen = rng.sample(words.ANIMALS + words.FOODS, rng.randint(2, 4))
    return _on(listed(chosen), SORT_WORDS, listed(sorted(chosen)))


@family("skill", asked=1.1, practised=1.08)
def select(rng: Random) -> Question:
    category, other = rng.sample(list(CATEGORIES), 2)
    wanted = rng.sample(CATEGORIES[category], rng.randint(1, 3))
    mixed = wanted + rng.sample(CATEGORIES[other], rng.randint(1, 3))
    rng.shuffle(mixed)
    answer = listed(word for word in mixed if word in wanted)
    return _on(listed(mixed), FILTER, answer, category=category)


@family("skill", asked=0.9, practised=0.7)
def replace(rng: Random) -> Question:
    chosen = items(rng, rng.randint(3, 5))
    old = rng.choice(chosen)
    new = rng.choice([word for word in words.OBJECTS + words.ANIMALS if word not in chosen])
    answer = listed(new if word == old else word for word in chosen)
    return _on(listed(chosen), REPLACE, answer, old=old, new=new)


@family("skill", asked=0.8, practised=0.6)
def remove(rng: Random) -> Question:
    chosen = items(rng, rng.randint(3, 5))
    old = rng.choice(chosen)
    answer = listed(word for word in chosen if word != old)
    return _on(listed(chosen), REMOVE, answer, old=old)


@family("skill", asked=0.6, practised=0.6)
def sequence(rng: Random) -> Question:
    chosen = items(rng, rng.randint(3, 4))
    first, *middle, last = chosen
    steps = [f"First comes {first}.", *(f"Then comes {word}." for word in middle)]
    answer = " ".join([*steps, f"Last comes {last}."])
    return _on(listed(chosen), SEQUENCE, answer)
