from random import Random

import pytest

from sweep.world.grammar import capitalised, expand, parse, pick, sentence
from sweep.world.words import FOODS


def test_a_slot_takes_its_value():
    assert expand(Random(0), "<who> ate <what>.", {"who": "Ola", "what": "figs"}) == "Ola ate figs."


def test_a_slot_without_a_value_takes_a_word_of_its_class():
    rng = Random(0)
    assert {expand(rng, "<food2>", {}) for _ in range(2000)} == set(FOODS)


def test_alternatives_are_all_reached_and_may_be_nested():
    rng = Random(0)
    seen = {expand(rng, "a{b|{c|d}e|}", {}) for _ in range(200)}
    assert seen == {"ab", "ace", "ade", "a"}


def test_an_empty_alternative_leaves_no_double_space():
    rng = Random(0)
    assert {expand(rng, "the {old |}owl {|too} .", {}) for _ in range(50)} == {
        "the old owl.",
        "the owl.",
        "the old owl too.",
        "the owl too.",
    }


@pytest.mark.parametrize(("word", "article"), [("owl", "an owl"), ("fox", "a fox")])
def test_the_article_fits_the_word(word: str, article: str):
    assert expand(Random(0), "a <it>", {"it": word}) == article


def test_sentences_begin_with_a_capital():
    assert sentence(Random(0), "a dog barks. is <it> old? no.", {"it": "it"}) == (
        "A dog barks. Is it old? No."
    )
    assert capitalised("she said: yes.") == "She said: yes."


@pytest.mark.parametrize("template", ["{a", "a}", "a|b", "{a|{b}"])
def test_an_unbalanced_template_is_an_error(template: str):
    with pytest.raises(ValueError, match="in template"):
        parse(template)


def test_a_number_and_a_name_can_be_picked():
    rng = Random(0)
    assert pick(rng, "number").isdigit()
    assert pick(rng, "anyone").isalpha()
