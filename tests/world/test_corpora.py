"""The corpora are a contract: the same seed gives the same rows, everywhere and always."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from functools import cache
from hashlib import sha256
from itertools import islice

import pytest

from sweep.world import VERSION, instructions, practice, prose, reworded
from sweep.world.facts import FACT_SEED, build, world

CORPORA = {"prose": prose, "instructions": instructions, "reworded": reworded}
SPLITS = ("train", "calibration", "evaluation")

# A row may only change together with VERSION: results name it, and the model was trained on it.
PINNED = {
    "version": "1",
    "prose train": "4189a8fe1b10a9e6",
    "prose calibration": "34387149730e7d3d",
    "prose evaluation": "7d70f33d963f5a06",
    "instructions train": "0ca19d5a8300b1c6",
    "instructions calibration": "c0be8fdae6953321",
    "instructions evaluation": "6f93d61b755ecdca",
    "reworded train": "67fcc08c10d8b2ae",
    "reworded calibration": "ac8bb9c873949c35",
    "reworded evaluation": "bebfa3fa9551224b",
    "practice": "7f1b2a7af2684c37",
}

DIGESTS = """
import sys
sys.path.insert(0, {folder!r})
from test_corpora import digests
print(digests())
"""


def digest(rows):
    text = "\n".join(json.dumps(asdict(row)) for row in islice(rows, 200))
    return sha256(text.encode()).hexdigest()[:16]


@cache
def digests():
    found = {
        f"{name} {split}": digest(corpus(split, 0))
        for name, corpus in CORPORA.items()
        for split in SPLITS
    }
    return found | {"practice": digest(practice(0))}


def test_no_row_changes_without_a_new_version():
    assert {"version": VERSION, **digests()} == PINNED


def test_rows_do_not_depend_on_the_hash_seed():
    folder = os.path.dirname(__file__)  # noqa: PTH120
    elsewhere = subprocess.run(
        [sys.executable, "-c", DIGESTS.format(folder=folder)],
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        capture_output=True,
        check=True,
        text=True,
    )
    assert elsewhere.stdout == f"{digests()}\n"


@pytest.mark.parametrize("corpus", CORPORA.values())
def test_another_seed_gives_other_rows(corpus):
    first, second = (list(islice(corpus("train", seed), 20)) for seed in (0, 1))
    assert first != second


def test_streams_do_not_disturb_each_other():
    alone = list(islice(prose("train", 0), 20))
    first, second = prose("train", 0), instructions("train", 0)
    interleaved = [(next(first), next(second))[0] for _ in range(20)]
    assert interleaved == alone


def test_the_facts_are_always_the_same():
    assert build(FACT_SEED) == world()
    assert build(FACT_SEED + 1) != world()


def test_names_are_unique():
    facts = world()
    groups = (facts.countries, facts.cities, facts.people, facts.animals, facts.things)
    names = [known.name for group in groups for known in group]
    assert len(set(names)) == len(names)
