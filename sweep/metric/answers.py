"""Scores of one answer against its gold answer.

Exact match and F1 are SQuAD's (Rajpurkar et al. 2016, arXiv 1606.05250; the normalisation of its
official evaluation script); ROUGE-1 is the F-measure of the `rouge-score` package, without stemmer.
Only the answer is scored, never the prompt, and an empty answer is right only where gold is empty:
of a gold answer that the normalisation leaves nothing of (`A` of a choice, `?`), only what it must
not lose is dropped.
"""

from __future__ import annotations

import re
import string
from collections import Counter

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str, gold: str | None = None) -> str:
    """Lower case, without punctuation and without `a an the`, white space collapsed.

    Args:
        text: an answer.
        gold: with which it is compared: where nothing would be left of that, articles are kept,
            and where that is not enough, punctuation too.
    """
    lower = text.lower()
    bare = lower.translate(_PUNCTUATION)
    kept = " ".join(_ARTICLES.sub(" ", bare).split())
    if gold is None or not gold.strip() or normalise(gold):
        return kept
    return " ".join((bare if gold.translate(_PUNCTUATION).strip() else lower).split())


def exact_match(answer: str, gold: str) -> float:
    """1 if the normalised strings are equal, else 0."""
    return float(normalise(answer, gold) == normalise(gold, gold))


def f1(answer: str, gold: str) -> float:
    """F1 over the multisets of normalised tokens; 1 if both are empty, 0 if one is."""
    given, wanted = normalise(answer, gold).split(), normalise(gold, gold).split()
    if not given or not wanted:
        return float(given == wanted)
    shared = sum((Counter(given) & Counter(wanted)).values())
    return 2 * shared / (len(given) + len(wanted))


def rouge1(answer: str, gold: str) -> float:
    """F-measure over unigrams.

    The package's own tokenisation and F-measure; its scorer, which counts as is done here, imports
    nltk, and with that scikit-learn and SciPy: a second of every process.
    """
    from rouge_score.scoring import fmeasure
    from rouge_score.tokenize import tokenize

    given, wanted = (Counter(tokenize(text, None)) for text in (answer, gold))
    shared = (given & wanted).total()
    found: float = fmeasure(shared / max(given.total(), 1), shared / max(wanted.total(), 1))
    return found


def repeats(answer: str, n: int = 4) -> bool:
    """Whether a sequence of `n` words occurs twice: the loop of a collapsed model."""
    words = answer.split()
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return len(set(grams)) < len(grams)


def first_difference(tokens: list[int], others: list[int]) -> int | None:
    """Index of the first token that differs; the length of the shorter if it is a prefix.

    None if they are equal.
    """
    if tokens == others:
        return None
    pairs = enumerate(zip(tokens, others, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(tokens), len(others)))
