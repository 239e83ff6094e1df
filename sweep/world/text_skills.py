"""Skills on sentences and stories, half of whose names were never seen before."""

from random import Random

from sweep.world import words
from sweep.world.family import Question, Wordings, family
from sweep.world.grammar import expand, pick, sentence
from sweep.world.lists import items, listed
from sweep.world.names import new_name

SENTENCES = (
    "<person> {saw|found|followed} a <adjective> <animal> in <city>.",
    "on <day> <person> {bought|sold|lost} a <object> in <city>.",
    "the <job> gave <food> to <person> at the <place>.",
    "<person> <went> to <city> with a <animal>.",
    "in <city> the <job> <did> a <adjective> <object>.",
    "<person> ate <food> near the <place> of <city>.",
)
FINDABLE = ("person", "city", "animal", "object", "food", "job")

COPY = Wordings(
    a=(
        "repeat the text.",
        "copy the text exactly.",
        "write the same text again.",
        "copy the words exactly.",
    ),
    b=(
        "you will be given a text. your task is to repeat the text.",
        "say the same again, without any change.",
        "please write out the same text again.",
        "do not change the text. write it again.",
    ),
    c=(
        "the input is a text. answer with the same text.",
        "please copy the input exactly, without any change.",
        "tell me the same text again.",
    ),
)
EXTRACT = Wordings(
    a=(
        "which <what> is named in the sentence?",
        "find the <what> in the {text|sentence}.",
        "name the <what> in the text.",
        "write only the <what>.",
    ),
    b=(
        "you will be given a sentence. your task is to find the <what> in the sentence.",
        "what <what> is in the text?",
        "I would like to know which <what> is named here.",
        "tell me the <what> in the text.",
    ),
    c=(
        "the input is a sentence. answer with the <what> in the sentence.",
        "please write out the <what> in the sentence.",
        "the text is a sentence. which <what> is in it?",
    ),
)
PASSIVE = Wordings(
    a=(
        "write the sentence in the passive.",
        "change the sentence to the passive.",
        "put the sentence in the passive.",
        "rewrite the sentence in the passive.",
    ),
    b=(
        "the input is a sentence. answer with the sentence in the passive.",
        "tell me the same in the passive.",
        "please write out the sentence in the passive.",
        "say the same sentence again, but in the passive.",
    ),
    c=(
        "you will be given a sentence. your task is to rewrite the sentence in the passive.",
        "I would like to know the passive of the sentence.",
        "do not change what is said, but write it in the passive.",
    ),
)
SUMMARY = Wordings(
    a=(
        "summarize the {text|story}.",
        "give a short summary of the story.",
        "write a summary of the {text|story}.",
        "tell the story in one sentence.",
    ),
    b=(
        "you will be given a story. your task is to give a short summary.",
        "what happens in the story? be short.",
        "I would like to know the story in one sentence.",
        "the input is a story. answer with a summary of the story.",
    ),
    c=(
        "the input is a story. tell the story in one sentence.",
        "please write out a short summary of the text.",
        "what happens in the text? say it in one sentence.",
    ),
)
NOTES = Wordings(
    a=(
        "write three sentences from the notes.",
        "turn the notes into three sentences.",
        "write the notes as sentences.",
    ),
    b=(
        "the input is notes. answer with three sentences.",
        "please write out the notes as sentences.",
        "you will be given notes about a person. your task is to write three sentences.",
        "tell me in sentences what the notes say.",
    ),
    c=(
        "the input is notes about a person. answer with sentences.",
        "I would like to know in three sentences what the notes say.",
        "you will be given notes. your task is to turn the notes into sentences.",
    ),
)
RENAME = Wordings(
    a=(
        "replace the name <old> with <new> in the story.",
        "change the name <old> to <new>.",
        "write the story with the name <new> for <old>.",
    ),
    b=(
        "you will be given a story. your task is to replace the name <old> with <new>.",
        "tell the story again with the name <new> in place of <old>.",
        "the input is a story. answer with the story where <old> is named <new>.",
        "please write out the story, but <old> is now named <new>.",
    ),
    c=(
        "the input is a story. answer with the story where the name <old> is changed to <new>.",
        "I would like to know the story with <new> in place of <old>.",
        "please change the name <old> in the story to <new>.",
    ),
)
COMPARE_NUMBERS = Wordings(
    a=(
        "is <first> <more> than <second>?",
        "is the number <first> <more> than the number <second>?",
    ),
    b=(
        "answer yes or no: is <first> <more> than <second>?",
        "is it true that <first> is <more> than <second>?",
        "say yes if <first> is <more> than <second>, and no if not.",
    ),
    c=(
        "tell me yes or no: is <first> <more> than <second>?",
        "is it true that the number <first> is <more> than the number <second>?",
        "answer yes if <first> is <more> than <second>, and no if not.",
    ),
)


def _drawn(rng: Random) -> tuple[str, dict[str, str]]:
    """A sentence, and the findable words in it by their kind."""
    template = rng.choice(SENTENCES)
    slots = {kind: rng.choice(words.WORD_CLASSES[kind]) for kind in FINDABLE[2:]}
    slots |= {"person": pick(rng, "anyone"), "city": pick(rng, "city")}
    found = {kind: slots[kind] for kind in FINDABLE if f"<{kind}>" in template}
    return sentence(rng, template, slots), found


@family("skill", asked=0.8, practised=0.8)
def copy(rng: Random) -> Question:
    if rng.random() < 0.6:
        text, _ = _drawn(rng)
    else:
        text = listed(items(rng, rng.randint(2, 6)))
    return Question((text,), COPY, text, input=text)


@family("skill", asked=0.8, practised=0.9)
def extract(rng: Random) -> Question:
    text, found = _drawn(rng)
    what = rng.choice(list(found))
    return Question((text, what), EXTRACT, found[what], input=text, slots={"what": what})


@family("skill", asked=0.7, practised=0.7)
def passive(rng: Random) -> Question:
    who = "the " + pick(rng, "job") if rng.random() < 0.5 else pick(rng, "anyone")
    did = rng.choice(words.DEEDS)
    what = expand(rng, "the {<adjective>|<material>|<colour>} <object>", {})
    active = sentence(rng, "<who> <did> <what>.", {"who": who, "did": did, "what": what})
    done = words.PARTICIPLES.get(did, did)
    answer = sentence(rng, "<what> was <done> by <who>.", {"who": who, "done": done, "what": what})
    return Question((active,), PASSIVE, answer, input=active)


MIDDLE_OF_STORY = (
    "it was a <weather> day.",
    "the road was <adjective>.",
    "<friend> was {very |}<feeling>.",
    "there was a <animal> by the <place>.",
    "<friend> ate <food>.",
)


@family("skill", asked=0.8, practised=0.8)
def summary(rng: Random) -> Question:
    slots = {
        "hero": pick(rng, "anyone"),
        "friend": pick(rng, "anyone"),
        "city": pick(rng, "city"),
        "object": rng.choice(words.OBJECTS),
        "got": rng.choice(("bought", "sold", "lost", "found")),
    }
    templates = [
        "{on <day> |in <season> |}<hero> <went> to <city>.",
        *rng.sample(MIDDLE_OF_STORY, rng.randint(1, 2)),
        "{there|at the <place>|in the <place>|then} <hero> <got> a {<adjective> |<colour> |}"
        "<object>.",
    ]
    story = " ".join(sentence(rng, template, slots) for template in templates)
    answer = sentence(rng, "<hero> went to <city> and <got> a <object>.", slots)
    return Question((story,), SUMMARY, answer, input=story)


@family("skill", asked=0.9, practised=1.08)
def notes(rng: Random) -> Question:
    slots = {
        "name": new_name(rng),
        "job": rng.choice(list(words.JOBS)),
        "city": pick(rng, "city"),
        "food": rng.choice(words.FOODS),
    }
    text = expand(rng, "name: <name>; job: <job>; city: <city>; likes: <food>", slots)
    answer = sentence(
        rng, "<name> works as a <job>. <name> lives in <city>. <name> likes <food>.", slots
    )
    return Question((text,), NOTES, answer, input=text)


STORY_TO_RENAME = (
    "<name> <went> to <city>.",
    "{there|then} <name> {bought|found|lost} a <adjective> <object>.",
    "{the <job>|the <animal>} {saw|followed|liked} <name>.",
)


@family("skill", asked=1.0, practised=0.96)
def rename(rng: Random) -> Question:
    old, new = pick(rng, "anyone"), new_name(rng)
    nameless = " ".join(
        sentence(rng, template, {"name": "<name>"})
        for template in STORY_TO_RENAME[: rng.randint(2, len(STORY_TO_RENAME))]
    )
    story, answer = (nameless.replace("<name>", name) for name in (old, new))
    slots = {"old": old, "new": new}
    return Question((story, new), RENAME, answer, input=story, slots=slots)


@family("skill", asked=0.3, practised=0.6)
def compare_numbers(rng: Random) -> Question:
    first, second = rng.sample(range(1, 100), 2)
    more = rng.choice(("greater", "smaller"))
    slots = {"first": str(first), "second": str(second), "more": more}
    answer = "yes" if (first > second) == (more == "greater") else "no"
    return Question(tuple(slots.values()), COMPARE_NUMBERS, answer, slots=slots)
